"""A person at a terminal: `powervisor run` with a real Linux guest under a pseudo-terminal."""

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from powervisor.guests import catalogue


class Terminal:
    """The user's side of a terminal on which `powervisor run` was typed."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "powervisor", "run", *words])
        os.set_blocking(self.fd, False)
        self.unread = b""
        self.status: int | None = None

    def read_until(self, text: bytes, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.unread:
            assert time.monotonic() < deadline, self.unread[-2000:].decode(errors="replace")
            try:
                # The terminal adds a carriage return of its own.
                self.unread += os.read(self.fd, 65536).replace(b"\r", b"")
            except BlockingIOError:
                time.sleep(0.01)
        self.unread = self.unread.partition(text)[2]

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def leave(self, timeout: float = 30) -> int:
        deadline = time.monotonic() + timeout
        while self.status is None:
            assert time.monotonic() < deadline
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return self.status

    def as_found(self) -> bool:
        wanted = termios.ICANON | termios.ECHO | termios.ISIG
        return termios.tcgetattr(self.fd)[3] & wanted == wanted


@pytest.fixture
def linux() -> Iterator[Terminal]:
    catalogue.build(catalogue.get("linux"))  # on a new machine this takes minutes, once
    terminal = Terminal("-guest", "linux", "-smp", "2")
    yield terminal
    if terminal.status is None:
        os.kill(terminal.pid, 9)
        os.waitpid(terminal.pid, 0)
    os.close(terminal.fd)


def test_a_session_with_linux(linux):
    linux.read_until(b"BOOT-OK")
    linux.read_until(b"# ")
    assert not linux.as_found()
    linux.type(b"echo $((6 * 7))\r")
    linux.read_until(b"\n42\n")
    linux.type(b"sleep 1000\r")
    linux.read_until(b"sleep 1000\n")
    linux.type(b"\x03")  # Ctrl-C goes to the guest
    linux.type(b"nproc\r")
    linux.read_until(b"\n2\n")
    linux.type(b"\x01s")
    linux.read_until(b"cpu1")
    linux.type(b"echo still here\r")
    linux.read_until(b"\nstill here\n")
    linux.type(b"\x01x")
    assert linux.leave() == 0
    assert linux.as_found()


def test_what_is_piped_in_while_linux_boots_arrives_whole():
    catalogue.build(catalogue.get("linux"))
    done = subprocess.run(
        [sys.executable, "-m", "powervisor", "run", "-guest", "linux", "-timeout", "120"],
        input="echo $((6 * 7))\npoweroff -f\n", capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "# echo $((6 * 7))\n42\n" in done.stdout
