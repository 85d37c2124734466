"""The terminal as a serial line: keys to the guest, Ctrl-A for ourselves (as in QEMU's -nographic)."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from powervisor.console.chardev import BaseChardev, Dispatch, Outlet, sender
from powervisor.console.terminal import Terminal

ESCAPE = 0x01  # Ctrl-A

_line_open = False  # what the guest wrote to standard output has not ended its line


@dataclass(frozen=True)
class Command:
    """What Ctrl-A and a key do; `run` is called on the input thread."""

    summary: str
    run: Callable[[], None]


class Stdio(BaseChardev):
    """Standard input and output. Input that is closed, at its end or no terminal just means that nobody types."""

    def __init__(self, fd_in: int = 0, fd_out: int = 1) -> None:
        super().__init__()
        self.terminal = Terminal(fd_in)
        self.commands: dict[str, Command] = {"h": Command("this help", self._help)}
        """By key; a command line adds its own (quit, state)."""
        self.on_broken: Callable[[OSError], None] | None = None
        """Called when standard output is gone (its reader has left)."""
        self._outlet = Outlet(sender(fd_out), on_broken=self._broken, on_room=self._has_room)
        self._escaped = False

    @property
    def dropped(self) -> int:
        return self._outlet.dropped

    def room(self) -> int:
        return self._outlet.room()

    def start(self, dispatch: Dispatch) -> None:
        """Take the terminal, and begin to read it."""
        self.terminal.enter()
        super().start(dispatch)

    def write(self, data: bytes) -> None:
        global _line_open
        _line_open = not data.endswith(b"\n")
        self._outlet.write(data)

    def message(self, text: str) -> None:
        """Say something of our own, between the guest's lines."""
        begin = "\n" if _line_open else ""
        self.write((begin + text.rstrip("\n") + "\n").replace("\n", "\r\n").encode())

    def close(self) -> None:
        """Flush, stop reading, and give the terminal back."""
        self._outlet.close()
        super().close()
        self.terminal.close()

    def _receive(self) -> None:
        self._pump(self.terminal.fd, keep=self._keys, may_read=self._may_read, typed=self.terminal.interactive)

    def _may_read(self) -> bool:
        if not self.terminal.ours():
            return False
        self.terminal.enter()  # the first moment in the foreground of a job that began in the background
        return True

    def _keys(self, data: bytes) -> bytes:
        """Take our own keys out of `data`."""
        for_guest = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == ESCAPE:
                    for_guest.append(byte)
                elif (command := self.commands.get(chr(byte).lower())) is not None:
                    command.run()
            elif byte == ESCAPE:
                self._escaped = True
            else:
                for_guest.append(byte)
        return bytes(for_guest)

    def _help(self) -> None:
        rows = [f"Ctrl-A {key}       {command.summary}" for key, command in sorted(self.commands.items())]
        self.message("\n".join([*rows, "Ctrl-A Ctrl-A  send Ctrl-A to the guest"]))

    def _broken(self, error: OSError) -> None:
        if self.on_broken is not None:
            self.on_broken(error)


def complain(text: str) -> None:
    """A line of ours on standard error; it begins one of its own where the guest has left one open there."""
    global _line_open
    if _line_open and os.path.sameopenfile(1, 2):
        print(end="\r\n", file=sys.stderr)
    _line_open = False
    print(text, end="\r\n" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)  # it may be raw still


def hold_standard_descriptors() -> None:
    """Open /dev/null in place of a closed standard stream.

    A shell's `0<&-` leaves the number free; the next file opened, the guest's RAM say, would become standard input.
    """
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)
