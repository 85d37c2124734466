"""A prompt with editing, history and completion, by prompt_toolkit (the extra `powervisor[shell]`)."""

import os
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from powervisor.console.prompt import Prompt, Talk
from powervisor.console.stdio import Side


class _Left(Exception):
    """The guest came to the front while a line was typed."""


class _Out:
    """The terminal as the file that prompt_toolkit writes to."""

    encoding = "utf-8"

    def __init__(self, side: Side) -> None:
        self._side = side

    def write(self, text: str) -> int:
        if self._side.front:
            self._side.write(text.encode(errors="replace"))
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return True


class _Words(Completer):
    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        begin = self._talk.begin(line)
        for word in self._talk.complete(line):
            yield Completion(word, start_position=begin - len(line))


class ToolkitPrompt(Prompt):
    """A prompt on the terminal that the guest has, too."""

    def __init__(self, side: Side, greeting: str = "") -> None:
        super().__init__(side, greeting)
        self._terminal = side
        self._input_context = create_pipe_input()
        self._input: Any = self._input_context.__enter__()
        os.set_blocking(self._input.pipe.write_fd, False)
        self._output = Vt100_Output(
            _Out(side),
            lambda: Size(side.size().lines, side.size().columns),
            term=os.environ["TERM"],
            enable_cpr=False,
        )
        self._sessions: dict[str, PromptSession[str]] = {}
        self._running: PromptSession[str] | None = None
        self._front = threading.Event()
        if side.front:
            self._front.set()
        self._turned = False

    def read(self, prompt: str, talk: Talk) -> str:
        """As `Prompt.read`."""
        while True:
            self._front.wait()
            if self._ended or self._turned:
                self._turned = False
                raise EOFError
            self._greet()
            session = self._sessions.get(talk.name)
            if session is None:
                session = self._sessions[talk.name] = PromptSession(
                    history=_history(talk.name), completer=_Words(talk), complete_while_typing=False,
                    input=self._input, output=self._output,
                )  # fmt: skip
            try:
                return self._edited(session, prompt)
            except _Left:
                continue
            except EOFError:
                self._turned = False
                raise

    def _edited(self, session: "PromptSession[str]", prompt: str) -> str:
        def running() -> None:
            with self._changed:
                self._running = session
                if not self._terminal.front or self._ended or self._turned:
                    self._leave(session)

        try:
            return session.prompt(prompt, pre_run=running, handle_sigint=False)
        finally:
            with self._changed:
                self._running = None

    def close(self) -> None:
        """As `Prompt.close`."""
        with self._changed:
            self._ended = True
            self._front.set()
            self._stop_reading()
        self._interrupt()

    def release(self) -> None:
        """As `Prompt.release`."""
        self._input_context.__exit__(None, None, None)

    def turn(self) -> None:
        """As `Prompt.turn`."""
        with self._changed:
            self._turned = True
            self._stop_reading()

    def received(self, data: bytes) -> None:
        """As `Prompt.received`."""
        if self._running is None and b"\x03" in data:
            self._interrupt()
            data = data.rpartition(b"\x03")[2]
        if self._ended:
            return
        try:
            os.write(self._input.pipe.write_fd, data)
        except BlockingIOError:
            return  # nobody reads, and somebody typed more than a pipe takes: it is lost

    def _room(self) -> int:
        return 4096

    def _connected(self, connected: bool) -> None:
        if not connected:
            self.close()

    def _to_front(self, front: bool) -> None:
        with self._changed:
            if front:
                self._show(f"\n{self._taken()}")
                self._front.set()
                return
            if not self._ended:
                self._front.clear()
            self._stop_reading()
            self._terminal.write(b"\r\n" + self._background)
            self._background = b""

    def _stop_reading(self) -> None:
        session = self._running
        if session is not None and session.app.loop is not None:
            session.app.loop.call_soon_threadsafe(self._leave, session)

    def _leave(self, session: "PromptSession[str]") -> None:
        """Give the line up, on the thread that reads it."""
        if session.app.is_running and not session.app.is_done:
            session.app.exit(exception=EOFError if self._ended or self._turned else _Left)

    def _above(self, lines: bytes) -> None:
        session = self._running
        loop = session.app.loop if session is not None else None
        if loop is None:
            self._terminal.write(lines)
        else:
            loop.call_soon_threadsafe(partial(run_in_terminal, partial(self._terminal.write, lines)))


def _history(name: str) -> History:
    """Lines of earlier runs, in the XDG state directory; of this one where there can be none, or no name."""
    if not name:
        return InMemoryHistory()
    state = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "powervisor"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / f"{name}_history"
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
