"""Waiting for text on a console."""

import threading
import time

import pytest

from powervisor.console import ExpectError, Recorder, recorded
from powervisor.console.files import Null
from powervisor.console.recorder import KEPT


def later(seconds: float, function, *args) -> None:
    threading.Timer(seconds, function, args).start()


def direct(function) -> None:
    function()


def test_text_that_is_there_is_found_at_once_and_what_came_before_it_is_returned():
    console = Recorder()
    console.write(b"U-Boot 2025\r\n=> ")
    assert console.expect("=> ", timeout=0) == "U-Boot 2025\r\n=> "


def test_text_that_comes_later_in_pieces_is_found_while_the_guest_runs():
    console = Recorder()
    for n, piece in enumerate((b"log", b"in", b": ")):
        later(0.01 * n + 0.01, console.write, piece)
    assert console.expect("login: ", timeout=2) == "login: "


def test_a_second_expect_looks_only_behind_the_first_match():
    console = Recorder()
    console.write(b"# a\n# ")
    console.expect("# ", timeout=0)
    assert console.expect("# ", timeout=0) == "a\n# "
    with pytest.raises(ExpectError):
        console.expect("# ", timeout=0.01)


def test_a_regular_expression_may_span_pieces_and_lines():
    console = Recorder()
    console.write(b"cpu0\n")
    later(0.01, console.write, b"cpu1\n")
    assert console.expect(r"cpu0.*cpu\d+\n", timeout=2, regex=True) == "cpu0\ncpu1\n"


def test_special_characters_are_literal_without_regex():
    console = Recorder()
    console.write(b"a.c abc [1]")
    assert console.expect("[1]", timeout=0) == "a.c abc [1]"
    with pytest.raises(ExpectError):
        Recorder().expect("a.c", timeout=0)


def test_a_timeout_names_the_text_and_shows_the_last_lines():
    console = Recorder()
    console.write(b"one\ntwo\n")
    with pytest.raises(ExpectError, match=r"'three' did not come within 0.01 s(.|\n)*two"):
        console.expect("three", timeout=0.01)


def test_the_end_of_the_guest_ends_the_wait():
    console = Recorder()
    later(0.02, console.end)
    begin = time.monotonic()
    with pytest.raises(ExpectError, match="ended or was stopped before"):
        console.expect("never", timeout=30)
    assert time.monotonic() - begin < 2


def test_text_written_before_the_end_is_still_found_after_it():
    console = Recorder()
    console.write(b"last words")
    console.close()
    assert console.expect("words", timeout=0) == "last words"


def test_memory_is_bounded_and_expect_goes_on_behind_what_was_forgotten():
    console = Recorder()
    console.write(b"begin")
    console.expect("begin", timeout=0)
    for _ in range(24):
        console.write(b"." * (1 << 20))
    console.write(b"end")
    assert KEPT <= len(console.text) <= KEPT * 5 // 4 + 3
    assert console.expect("end", timeout=0).endswith("..end")


def test_bytes_that_are_not_utf8_do_not_hurt():
    console = Recorder()
    console.write(b"\xff\xfe ok")
    assert console.text == "\ufffd\ufffd ok"
    assert console.expect("ok", timeout=0).endswith("ok")


def test_everything_is_passed_on_to_the_inner_chardev_and_its_input_back():
    class Inner(Null):
        def __init__(self) -> None:
            super().__init__()
            self.seen = b""

        def write(self, data: bytes) -> None:
            self.seen += data

    inner, got = Inner(), []
    console = Recorder(inner)
    console.on_receive = got.append
    console.can_receive = lambda: 4
    console.write(b"out")
    assert inner.seen == b"out"
    assert inner.on_receive is not None
    inner.on_receive(b"in")
    assert got == [b"in"]
    assert inner.can_receive() == 4


def test_send_gives_a_uart_no_more_than_it_takes():
    console, got = Recorder(), []
    console.on_receive = got.append
    console.can_receive = lambda: 3
    console.start(direct)
    console.send("hello\n")
    assert got == [b"hel", b"lo\n"]


def test_send_to_a_guest_that_takes_nothing_says_so():
    console = Recorder()
    console.on_receive = lambda data: None
    console.start(direct)
    with pytest.raises(ExpectError, match="b'hi' was not taken"):
        console.send("hi", timeout=0.02)


def test_recorded_wraps_once():
    console = recorded(Null())
    assert recorded(console) is console
