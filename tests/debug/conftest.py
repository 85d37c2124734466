"""A small gdb for tests: packets by hand, over a real connection."""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree

import pytest

from powervisor.debug.gdb.packets import Framer, framed
from powervisor.debug.gdb.server import GdbServer
from tests.system.bare import bare_machine


class Client:
    """Sends packets and reads replies."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if host == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(port)
        else:
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(20)
        self.framer = Framer()
        self.packets: list[bytes] = []
        self.ask(b"qSupported:multiprocess+;swbreak+;hwbreak+")
        assert self.ask(b"QStartNoAckMode") == b"OK"
        self.framer.acknowledge = False
        self.numbers = self._numbers()

    def send(self, packet: bytes) -> None:
        self.socket.sendall(framed(packet))

    def reply(self) -> bytes:
        while not self.packets:
            data = self.socket.recv(65536)
            assert data, "the server hung up"
            self.packets += self.framer.take(data)
        return self.packets.pop(0)

    def ask(self, packet: bytes) -> bytes:
        self.send(packet)
        return self.reply()

    def document(self, kind: bytes, annex: bytes) -> str:
        """A qXfer document, in small pieces."""
        text = b""
        while True:
            piece = self.ask(b"qXfer:%s:read:%s:%x,100" % (kind, annex, len(text)))
            text += piece[1:]
            if piece[:1] == b"l":
                return text.decode()

    def _numbers(self) -> dict[str, int]:
        tree = ElementTree.fromstring(self.document(b"features", b"target.xml"))
        return {register.get("name"): n for n, register in enumerate(tree.iter("reg"))}

    def register(self, name: str) -> int:
        return int(self.ask(b"p%x" % self.numbers[name]), 16)

    def set_register(self, name: str, value: int, bits: int = 32) -> None:
        assert self.ask(b"P%x=%0*x" % (self.numbers[name], bits // 4, value)) == b"OK"

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def debugged():
    """A machine that runs a program under a debugger: `machine, gdb = debugged(source, cpu, cores=2)`."""
    opened = []

    def debugged(source, cpu="e5500", started=True, **options):
        made = bare_machine(source, cpu, **options)
        machine = made.__enter__()
        opened.append(lambda: made.__exit__(None, None, None))
        server = GdbServer(machine, "tcp::0")
        opened.append(server.close)
        if not started:
            machine.hold()
        machine.start()
        client = Client(server.address)
        opened.append(client.close)
        return machine, client

    yield debugged
    for close in reversed(opened):
        close()
