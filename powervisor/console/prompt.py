"""Lines that people type at a chardev, after a prompt: shown and corrected where keys come one by one."""

import codecs
import contextlib
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from powervisor.console.chardev import BACKLOG, BaseChardev
from powervisor.console.stdio import Side

_LONGEST = 4096
"""Characters of a line, and of guest output that waits for its line's end."""
_BELL, _CLEAR = "\a", "\r\x1b[K"


@dataclass
class Talk:
    """A language spoken at a prompt; `name` its history's. `complete` answers what a line's last word may become."""

    name: str
    complete: Callable[[str], list[str]] = field(default=lambda line: [])
    delimiters: str = " "
    """What is between words."""

    def begin(self, line: str) -> int:
        """Where the last word of a line begins."""
        return max(line.rfind(letter) for letter in self.delimiters) + 1


class Prompt:
    """Reads lines from `port`, to whose other side it says `greeting` first. `read` belongs to one thread."""

    def __init__(self, port: BaseChardev, greeting: str = "") -> None:
        self.port, self._greeting = port, greeting
        self._greeted, self._present = False, port.connected
        self._interruptible: int | None = None
        self._ended = False
        self._changed = threading.Condition(threading.RLock())
        self._came: deque[str | type[BaseException]] = deque()
        self._prompt: str | None = None
        self._talk = Talk("")
        self._line = ""
        self._escape = b""
        self._background, self._waiting = b"", ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._after_return = False
        port.on_receive, port.can_receive = self.received, self._room
        port.on_connected = self._connected
        self._side = port if isinstance(port, Side) else None
        if self._side is not None:
            self._side.on_front, self._side.on_overtaken = self._to_front, self._overtaken

    # ---- for who reads ---------------------------------------------------------------------------------------------

    def read(self, prompt: str, talk: Talk) -> str:
        """The next line. Raises EOFError where it ends (Ctrl-D, the other side left), KeyboardInterrupt at Ctrl-C."""
        with self._changed:
            self._prompt, self._talk = prompt, talk
            if not self._ended and (not self._came or not self.port.typed):
                self._greet()
                self._show(prompt + self._shown)
            self._changed.wait_for(lambda: self._came or self._ended)
            came = self._came.popleft() if self._came else EOFError
            self._prompt = None
        if isinstance(came, str):
            return came
        raise came

    def write(self, text: str) -> None:
        """Show text, of whole lines or not; while the guest is in front it waits."""
        with self._changed:
            if self._side is not None and not self._side.front:
                self._waiting = (self._waiting + text)[-BACKLOG:]
            else:
                self._show(text)

    def announce(self, text: str) -> None:
        """Show lines that nobody asked for, above what is being typed; from any thread."""
        with self._changed:
            self._above(text.encode() if not self.port.typed else text.replace("\n", "\r\n").encode())

    def turn(self) -> None:
        """Who reads gets EOFError, as if Ctrl-D had been typed."""
        self._push(EOFError)

    def close(self) -> None:
        """Who reads gets EOFError, now and later; who computes is interrupted."""
        with self._changed:
            self._ended = True
            self._came.clear()
            self._changed.notify_all()
        self._interrupt()

    def release(self) -> None:
        """Give back what is open; nobody reads any more."""

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C raises KeyboardInterrupt in this thread meanwhile."""
        self._interruptible = threading.get_ident()
        try:
            yield
        finally:
            self._interruptible = None

    def _interrupt(self) -> None:
        if (thread := self._interruptible) is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))

    def _push(self, what: str | type[BaseException]) -> None:
        with self._changed:
            self._came.append(what)
            self._changed.notify_all()

    # ---- what is shown ---------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        if not self._greeted:
            self._show(self._greeting)
            self._greeted = True

    @property
    def _shown(self) -> str:
        """What is on the screen of the line that is typed."""
        return self._line if self.port.typed else ""

    def _show(self, text: str) -> None:
        if self._present if self._side is None else self._side.front:
            self.port.write(text.replace("\n", "\r\n").encode(errors="replace") if self.port.typed else text.encode())

    def _overtaken(self, data: bytes) -> None:
        """Guest output while we are in front: whole lines above what is being typed."""
        with self._changed:
            self._background += data
            end = len(self._background) if len(self._background) > _LONGEST else self._background.rfind(b"\n") + 1
            lines, self._background = self._background[:end], self._background[end:]
            if lines:
                self._above(lines)

    def _above(self, lines: bytes) -> None:
        if self._prompt is None:
            self.port.write(lines)
            return
        self._show(_CLEAR if self.port.typed else "\n")
        self.port.write(lines)
        self._show(f"{self._prompt}{self._shown}")

    def _to_front(self, front: bool) -> None:
        with self._changed:
            if front:
                begin = "\n" if self.port.typed and (self._waiting or self._prompt is not None) else ""
                self._show(f"{begin}{self._taken()}{self._prompt or ''}{self._shown}")
                return
            self.port.write((b"\r\n" if self.port.typed else b"") + self._background)
            self._background = b""

    def _taken(self) -> str:
        """What waited for the front."""
        text, self._waiting = self._waiting, ""
        return text

    def _connected(self, connected: bool) -> None:
        with self._changed:
            self._line, self._escape = "", b""
            self._decoder.reset()
            self._present, self._greeted = connected, self._greeted and not connected
            if not connected:
                self._push(EOFError)
            elif self._prompt is not None:
                self._greet()
                self._show(self._prompt)

    # ---- what is typed ---------------------------------------------------------------------------------------------

    def _room(self) -> int:
        return max(BACKLOG - sum(len(came) for came in self._came if isinstance(came, str)) - 64 * len(self._came), 0)

    def received(self, data: bytes) -> None:
        """Take input, on the port's thread."""
        with self._changed:
            for letter in self._decoder.decode(data):
                self._key(letter) if self.port.typed else self._plain(letter)

    def _plain(self, letter: str) -> None:
        if letter == "\n":
            self._end_line()
        elif letter != "\r" and len(self._line) < _LONGEST:
            self._line += letter

    def _end_line(self) -> None:
        line, self._line = self._line, ""
        self._push(line)

    def _key(self, letter: str) -> None:
        """One key of somebody who sees what we show."""
        after_return, self._after_return = self._after_return, letter == "\r"
        if self._escape:
            self._escape += letter.encode(errors="replace")
            if len(self._escape) > 16 or (len(self._escape) > 2 or letter not in "[O") and "@" <= letter <= "~":
                self._escape = b""  # cursor keys: nothing to do for them here
        elif letter == "\x1b":
            self._escape = b"\x1b"
        elif letter == "\n" and after_return:
            return
        elif letter in "\r\n":
            self._show("\n")
            self._end_line()
        elif letter == "\x03":
            self._line = ""
            self._show("^C\n")
            if self._prompt is None:
                self._interrupt()
            else:
                self._push(KeyboardInterrupt)
        elif letter == "\x04":
            if not self._line:
                self._show("\n")
                self._push(EOFError)
        elif letter in "\x7f\b":
            self._erase(1)
        elif letter == "\x15":
            self._erase(len(self._line))
        elif letter == "\x17":
            self._erase(len(self._line) - self._talk.begin(self._line.rstrip()))
        elif letter == "\t" and self._prompt is not None:
            self._complete()
        elif letter.isprintable() and len(self._line) < _LONGEST:
            self._line += letter
            self._show(letter)

    def _erase(self, count: int) -> None:
        count = min(count, len(self._line))
        self._line = self._line[: len(self._line) - count]
        self._show("\b \b" * count)

    def _complete(self) -> None:
        words = self._talk.complete(self._line)
        known = self._line[self._talk.begin(self._line) :]
        more = os.path.commonprefix(words)[len(known) :] + (" " if len(words) == 1 else "")
        if more:
            self._line += more
            self._show(more)
        elif words:
            self._show("\n" + "  ".join(words[:100]) + "\n" + (self._prompt or "") + self._line)
        else:
            self._show(_BELL)


def open_prompt(port: BaseChardev, greeting: str) -> Prompt:
    """The best prompt for a chardev: with editing, history and completion on a terminal where prompt_toolkit is."""
    if isinstance(port, Side) and port.typed and os.environ.get("TERM", "dumb") != "dumb":
        try:
            from powervisor.console.toolkit import ToolkitPrompt
        except ImportError:
            return Prompt(port, greeting)
        return ToolkitPrompt(port, greeting)
    return Prompt(port, greeting)
