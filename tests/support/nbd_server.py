"""An NBD server that keeps to the protocol and to its client's word, and tells what it was asked."""

import random
import socket
import struct
import threading

EVERYTHING = 0b110_1101
"""HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES."""


class Server(threading.Thread):
    """Serves one client from `data`; answers in the order `shuffle` makes of what waits."""

    def __init__(self, path, flags=EVERYTHING, blocks=None, refuse=0, size=1 << 20, hello=b"NBDMAGICIHAVEOPT"):
        super().__init__(daemon=True)
        self.data = bytearray(random.Random(1).randbytes(size))
        self.flags, self.blocks, self.refuse, self.hello = flags, blocks, refuse, hello
        self.requests = []
        self.held = 0
        """Answers that are kept back until there are so many."""
        self.waiting = []
        self.fail = 0
        self.name = None
        self.left = threading.Event()
        """The client has taken leave."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.client = None
        self.start()

    def get(self, length):
        data = b""
        while len(data) < length:
            piece = self.client.recv(length - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def run(self):
        self.client, _ = self.listener.accept()
        try:
            self.serve()
        except OSError:
            pass
        self.client.close()
        self.listener.close()

    def reply(self, kind, data=b""):
        self.client.sendall(struct.pack(">QIII", 0x3_E889_0455_65A9, 7, kind, len(data)) + data)

    def serve(self):
        self.client.sendall(self.hello + struct.pack(">H", 3))
        assert struct.unpack(">I", self.get(4)) == (3,)
        magic, option, length = struct.unpack(">8sII", self.get(16))
        assert (magic, option) == (b"IHAVEOPT", 7)
        data = self.get(length)
        (n,) = struct.unpack(">I", data[:4])
        self.name = data[4 : 4 + n].decode()
        (count,) = struct.unpack(">H", data[4 + n : 6 + n])
        assert len(data) == 6 + n + 2 * count
        if self.refuse:
            self.reply(self.refuse, b"")
            return
        if self.blocks:
            self.reply(3, struct.pack(">HIII", 3, *self.blocks))
        self.reply(3, struct.pack(">HQH", 0, len(self.data), self.flags))
        self.reply(1)
        while True:
            magic, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", self.get(28))
            assert magic == 0x2560_9513 and offset + length <= len(self.data)
            if kind == 2:
                self.left.set()
                return
            content = self.get(length) if kind == 1 else b""
            self.requests.append((kind, flags, offset, length))
            answer = b""
            if self.fail:
                pass
            elif kind == 0:
                answer = self.data[offset : offset + length]
            elif kind in (1, 6):
                self.data[offset : offset + length] = content or bytes(length)
            self.waiting.append(struct.pack(">IIQ", 0x6744_6698, self.fail, handle) + answer)
            if len(self.waiting) >= self.held:
                self.release()

    def release(self):
        """Send the answers that were kept back, in an order of our own."""
        random.Random(2).shuffle(self.waiting)
        while self.waiting:
            self.client.sendall(self.waiting.pop())

    def gone(self):
        """End without a word."""
        self.client.shutdown(socket.SHUT_RDWR)
