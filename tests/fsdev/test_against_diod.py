"""The 9P server under the clients of diod, a 9P2000.L implementation we did not write (Debian package diod)."""

import random
import shutil
import socket
import struct
import subprocess
import threading
from hashlib import md5

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("diodls"), reason="diodls is not installed (package diod)")


def serve(listener, server):
    """Answer clients that come over TCP, one after another."""
    reply = bytearray(1 << 20)
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, client.makefile("rb") as stream:
            while size := stream.read(4):
                message = size + stream.read(struct.unpack("<I", size)[0] - 4)
                client.sendall(reply[: server.answer([memoryview(message)], [memoryview(reply)])])


@pytest.fixture
def run(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, server), daemon=True)
        thread.start()
        where = f"127.0.0.1:{listener.getsockname()[1]}"

        def run(program, *words):
            command = [program, "-s", where, "-a", "/", *words]
            done = subprocess.run(command, capture_output=True, timeout=30)
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_directories_are_listed(run, directory):
    for n in range(500):
        (directory / f"file-{n}").write_bytes(bytes(n))
    (directory / "link").symlink_to("file-1")
    (directory / "below").mkdir()
    listed = run("diodls").decode().split()
    assert sorted(listed) == sorted(["link", "below", *(f"file-{n}" for n in range(500))])
    long = run("diodls", "-l").decode()
    assert [line.split()[4] for line in long.splitlines() if line.endswith(" file-321")] == ["321"]


def test_files_are_read(run, directory):
    data = random.Random(1).randbytes(5_000_000)
    (directory / "file").write_bytes(data)
    assert md5(run("diodcat", "file")).digest() == md5(data).digest()
