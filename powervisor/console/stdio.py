"""The terminal as a serial line: keys to the guest, Ctrl-A for ourselves (as in QEMU's -nographic)."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from powervisor.console.chardev import BaseChardev, Dispatch, Outlet, sender
from powervisor.console.terminal import Terminal

ESCAPE = 0x01  # Ctrl-A

_OFFERED_AGAIN = 0.01  # seconds

_stamped: Callable[[str], str] = str
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
        self._side: Side | None = None

    @property
    def dropped(self) -> int:
        return self._outlet.dropped

    def room(self) -> int:
        return self._outlet.room()

    def start(self, dispatch: Dispatch) -> None:
        """Take the terminal, and begin to read it."""
        self.terminal.enter()
        super().start(dispatch)

    def _write(self, data: bytes) -> None:
        side = self._side
        if side is None or not side.overtaken(data):
            self.show(data)

    def show(self, data: bytes) -> None:
        """Write at once, whoever is in front."""
        global _line_open
        _line_open = not data.endswith(b"\n")
        self._outlet.write(data)

    def share(self) -> "Side":
        """The terminal for somebody else as well, who is brought to its front at times."""
        side = self._side = Side(self)
        return side

    def message(self, text: str) -> None:
        """Say something of our own, between the guest's lines."""
        begin = "\n" if _line_open else ""
        self._write((begin + text.rstrip("\n") + "\n").replace("\n", "\r\n").encode())

    def close(self) -> None:
        """Flush, stop reading, and give the terminal back."""
        self._outlet.close()
        super().close()
        self.terminal.close()

    def _receive(self) -> None:
        ended = self._pump(self.terminal.fd, keep=self._keys, may_read=self._may_read, typed=self.terminal.interactive)
        if ended and self._side is not None:
            self._side.end()

    def _may_read(self) -> bool:
        if not self.terminal.ours():
            return False
        self.terminal.enter()  # the first moment in the foreground of a job that began in the background
        return True

    def _keys(self, data: bytes) -> bytes:
        """Take our own keys out of `data`, and those for who is in front of the guest."""
        for_guest, for_side = bytearray(), bytearray()
        for byte in data:
            side = self._side
            keys = for_guest if side is None or not side.front else for_side
            if self._escaped:
                self._escaped = False
                if byte == ESCAPE:
                    keys.append(byte)
                elif (command := self.commands.get(chr(byte).lower())) is not None:
                    if side is not None and for_side:
                        side.typed_keys(bytes(for_side))
                        for_side.clear()
                    command.run()
            elif byte == ESCAPE:
                self._escaped = True
            else:
                keys.append(byte)
        if self._side is not None and for_side:
            self._side.typed_keys(bytes(for_side))
        return bytes(for_guest)

    def _help(self) -> None:
        rows = [f"Ctrl-A {key}       {command.summary}" for key, command in sorted(self.commands.items())]
        self.message("\n".join([*rows, "Ctrl-A Ctrl-A  send Ctrl-A to the guest"]))

    def _broken(self, error: OSError) -> None:
        if self.on_broken is not None:
            self.on_broken(error)


class Side(BaseChardev):
    """Somebody else at the terminal than the guest: has its keys while it is in `front`.

    The guest's output goes to `on_overtaken` then, to be shown around what is being typed.
    """

    def __init__(self, stdio: Stdio) -> None:
        super().__init__()
        self.stdio, self.front = stdio, False
        self.on_front: Callable[[bool], None] | None = None
        """Told on the input thread when it comes to the front, or leaves it."""
        self.on_overtaken: Callable[[bytes], None] | None = None
        self.description, self.typed = "stdio", stdio.terminal.interactive
        self._closed = False

    def bring(self, front: bool) -> None:
        """Bring it to the front, or the guest."""
        if front != self.front and not self._closed:
            self.front = front
            if self.on_front is not None:
                self.on_front(front)

    def overtaken(self, data: bytes) -> bool:
        """Whether it shows the guest's output itself."""
        if not self.front or self.on_overtaken is None:
            return False
        self.on_overtaken(data)
        return True

    def typed_keys(self, data: bytes) -> None:
        """Keys for it. From a person at most what it has room for is taken; a pipe waits."""
        while data and not self._closed:
            if self.on_receive is not None and (room := min(self.can_receive(), len(data))):
                self.on_receive(data[:room])
                data = data[room:]
            elif self.typed:
                return
            else:
                time.sleep(_OFFERED_AGAIN)

    def end(self) -> None:
        """The input has ended."""
        if self.on_connected is not None:
            self.on_connected(False)

    def size(self) -> os.terminal_size:
        """Columns and lines of the terminal; what is usual where it does not know."""
        try:
            columns, lines = os.get_terminal_size(self.stdio.terminal.fd)
        except OSError:
            columns, lines = 0, 0
        return os.terminal_size((columns or 80, lines or 24))

    def start(self, dispatch: Dispatch) -> None:
        """The terminal itself has the thread."""

    def _write(self, data: bytes) -> None:
        self.stdio.show(data)

    def close(self) -> None:
        """Leave the terminal to the guest."""
        super().close()
        self.bring(False)
        self._closed = True


def complain(text: str) -> None:
    """A line of ours on standard error; it begins one of its own where the guest has left one open there."""
    global _line_open
    if _line_open and os.path.sameopenfile(1, 2):
        print(end="\r\n", file=sys.stderr)
    _line_open = False
    print(
        _stamped(text), end="\r\n" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True
    )  # it may be raw still


def stamp(timestamp: bool, name: str | None) -> None:
    """Have lines of ours begin with the time, in UTC, and with a name."""
    global _stamped

    def stamped(text: str) -> str:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} " if timestamp else ""
        return f"{now}{f'{name}: ' if name else ''}{text}"

    _stamped = stamped


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
