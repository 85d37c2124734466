"""Lines typed at a chardev: plain ones, keys one by one, and editing by prompt_toolkit."""

from __future__ import annotations

import os
import re
import threading
import time

import pytest

from powervisor.console.chardev import BaseChardev
from powervisor.console.prompt import Prompt, Talk, open_prompt
from powervisor.console.stdio import Stdio

WORDS = Talk("test", lambda line: [w for w in ("alpha", "alpine", "beta") if w.startswith(line.rpartition(" ")[2])])


class Port(BaseChardev):
    """Remembers what it is given."""

    def __init__(self, typed: bool) -> None:
        super().__init__()
        self.typed, self.shown = typed, b""

    def _write(self, data: bytes) -> None:
        self.shown += data

    def take(self) -> str:
        shown, self.shown = self.shown, b""
        return shown.decode()


def read(prompt: Prompt) -> str | type[BaseException]:
    try:
        return prompt.read("> ", WORDS)
    except (EOFError, KeyboardInterrupt) as error:
        return type(error)


def typed(keys: bytes) -> tuple[str | type[BaseException], str]:
    """What a person's keys come to, and what is shown meanwhile."""
    port = Port(True)
    prompt = Prompt(port)
    found: list[str | type[BaseException]] = []
    reader = threading.Thread(target=lambda: found.append(read(prompt)), daemon=True)
    reader.start()
    while not port.shown:
        time.sleep(0.001)
    prompt.received(keys)
    reader.join(10)
    assert found, port.shown
    return found[0], port.take()


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"one\r", "one"), (b"one\n", "one"), (b"onx\x7fe\r", "one"), (b"onx\be\r", "one"), (b"junk\x15one\r", "one"),
        (b"two words\x17one\r", "two one"), (b"\x7f\x7fone\r", "one"), (b"o\x1b[Dn\x1bOHe\x1b[3~\r", "one"),
        (b"\xc3\xa9\r", "\u00e9"), (b"be\t\r", "beta "), (b"a\ti\t\r", "alpine "), (b"\x03", KeyboardInterrupt),
        (b"\x04", EOFError), (b"a\x04b\r", "ab"), (b"\r", ""), (b"\x00\x01o\x02\r", "o"),
    ],
)  # fmt: skip
def test_keys_are_shown_and_corrected(keys, line):
    assert typed(keys)[0] == line


def test_what_is_typed_is_seen():
    assert typed(b"ab\x7fc\r") == ("ac", "> ab\b \bc\r\n")
    assert typed(b"al\t\t\x15\r")[1].startswith("> alp\r\nalpha  alpine\r\n> alp")
    assert "\a" in typed(b"zz\t\r")[1]


def test_cr_lf_ends_one_line_only():
    port = Port(True)
    prompt = Prompt(port)
    prompt.received(b"one\r\ntwo\r\n")
    assert [read(prompt), read(prompt)] == ["one", "two"]


def test_plain_lines_are_not_shown_but_prompted_for():
    port = Port(False)
    prompt = Prompt(port, "hello\n")
    prompt.received("one\r\ntw\u00e9".encode()[:-1])
    assert read(prompt) == "one"
    prompt.received("\u00e9".encode()[1:] + b"\n\xff\x03\n")
    assert [read(prompt), read(prompt)] == ["tw\u00e9", "\ufffd\x03"]
    assert port.take() == "hello\n> > > "
    prompt.close()
    assert [read(prompt), read(prompt)] == [EOFError, EOFError]


def test_input_is_held_back_while_nobody_reads():
    port = Port(False)
    prompt = Prompt(port)
    assert port.can_receive() > 1000
    prompt.received(b"x" * 999 + b"\n")
    while port.can_receive() >= 1000:
        prompt.received(b"x" * 999 + b"\n")
    assert read(prompt) == "x" * 999
    assert port.can_receive() >= 1000


class Screen:
    """A terminal with a guest and a prompt."""

    def __init__(self, monkeypatch, tmp_path) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        self.stdio = Stdio(self.slave, self.slave)
        monkeypatch.setattr(self.stdio.terminal, "ours", lambda: True)
        self.side = self.stdio.share()
        self.to_guest = b""
        self.stdio.on_receive = self.guest
        self.side.bring(True)
        self.prompt = open_prompt(self.side, "hello\n")
        self.stdio.start(lambda call: call())
        self.lines: list[str | type[BaseException]] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.seen = ""

    def guest(self, data: bytes) -> None:
        self.to_guest += data

    def read(self) -> None:
        while not self.lines or self.lines[-1] is not EOFError:
            self.lines.append(read(self.prompt))

    def until(self, condition) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, (self.seen, self.lines)
            try:
                self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self.master, 65536).decode())
            except BlockingIOError:
                time.sleep(0.005)

    def close(self) -> None:
        self.prompt.close()
        self.reader.join(5)
        self.side.close()
        self.stdio.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(params=["plain", "toolkit"])
def screen(request, monkeypatch, tmp_path):
    if request.param == "toolkit":
        pytest.importorskip("prompt_toolkit")
    else:
        monkeypatch.setitem(__import__("sys").modules, "powervisor.console.toolkit", None)
    screen = Screen(monkeypatch, tmp_path)
    screen.kind = request.param
    yield screen
    screen.close()


def test_a_terminal_is_shared_with_the_guest(screen):
    screen.until(lambda: "hello" in screen.seen and ">" in screen.seen)
    os.write(screen.master, b"one\r")
    screen.until(lambda: screen.lines == ["one"])
    os.write(screen.master, b"two")
    screen.until(lambda: "two" in screen.seen)
    screen.stdio.write(b"from the guest\r\nhalf ")
    screen.until(lambda: "> two" in screen.seen.partition("from the guest")[2])
    assert "half" not in screen.seen
    screen.side.bring(False)
    screen.until(lambda: "half" in screen.seen)
    os.write(screen.master, b"keys")
    screen.until(lambda: screen.to_guest == b"keys")
    screen.stdio.write(b"more")
    screen.until(lambda: "half more" in screen.seen)
    screen.side.bring(True)
    screen.until(lambda: ">" in screen.seen.partition("half more")[2])
    os.write(screen.master, b"x\x15three\r")
    screen.until(lambda: "three" in screen.lines)
    screen.until(lambda: ">" in screen.seen.rpartition("three")[2])
    os.write(screen.master, b"four\x03")
    screen.until(lambda: screen.lines[-1] is KeyboardInterrupt)
    assert screen.to_guest == b"keys"


def test_the_last_word_is_completed(screen):
    screen.until(lambda: ">" in screen.seen)
    os.write(screen.master, b"x be\t")
    screen.until(lambda: "beta" in screen.seen)
    os.write(screen.master, b"\r")
    screen.until(lambda: bool(screen.lines))
    assert screen.lines[0].rstrip() == "x beta"


def test_lines_of_before_come_again_by_prompt_toolkit(screen, tmp_path):
    if screen.kind != "toolkit":
        pytest.skip("plain prompts have no history")
    screen.until(lambda: ">" in screen.seen)
    os.write(screen.master, b"one\r")
    screen.until(lambda: screen.lines == ["one"])
    os.write(screen.master, b"\x1b[A\r")
    screen.until(lambda: screen.lines == ["one", "one"])
    assert "+one" in (tmp_path / "powervisor" / "test_history").read_text()
