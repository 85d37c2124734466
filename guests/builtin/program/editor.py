"""Reading a line: editing keys, and the lines before it."""

from __future__ import annotations

from ....native.ints import u8, u32
from ....native.lang import field_addr, native
from ..words import peek, poke, say, the
from .console import CTRL_C, get, length_of, put, put_char
from .state import HISTORY, LINE_SIZE, Console
from .strings import printable, same

BACKSPACE, NEWLINE, RETURN, CTRL_U, ESCAPE, DELETE = 8, 10, 13, 21, 27, 127
UP, DOWN = ord("A"), ord("B")


@native
def kept_line(n: u32) -> u32:
    """Address of the nth line ever entered, if it is still kept."""
    return u32(field_addr(the(Console), "history")) + n % HISTORY * LINE_SIZE


@native
def copy_string(to: u32, source: u32) -> None:
    """Copy a string with its NUL."""
    n = u32(0)
    while True:
        byte = peek(u8, source + n)
        poke(u8, to + n, byte)
        if byte == 0:
            return
        n += 1


@native
def erase(count: u32) -> None:
    """Take characters back from the screen."""
    for _ in range(count):
        put(BACKSPACE)
        put(32)
        put(BACKSPACE)


@native
def arrow() -> u8:
    """The last byte of an escape sequence: ESC [ digits letter."""
    byte = get()
    if byte != ord("[") and byte != ord("O"):
        return byte
    while True:
        byte = get()
        if byte >= 64 and byte < 127:
            return byte


@native
def recall(line: u32, n: u32, blank: bool) -> u32:
    """Show another line instead of the one being edited; its length."""
    erase(length_of(line))
    if blank:
        poke(u8, line, u8(0))
    else:
        copy_string(line, kept_line(n))
    say("{:s}", line)
    return length_of(line)


@native
def keep(line: u32) -> None:
    """Remember a line unless it is empty or the last one again."""
    console = the(Console)
    if peek(u8, line) == 0 or (console.lines != 0 and same(line, kept_line(console.lines - 1))):
        return
    copy_string(kept_line(console.lines), line)
    console.lines += 1


@native
def read_line() -> u32:
    """Let the user edit a line until Return; its address. Ctrl-C gives an empty one, Ctrl-U erases, arrows recall."""
    console = the(Console)
    line = u32(field_addr(console, "line"))
    length = u32(0)
    shown = console.lines
    poke(u8, line, u8(0))
    console.stop = 0
    while True:
        byte = get()
        if byte == RETURN or byte == NEWLINE:
            put_char(10)
            keep(line)
            return line
        if byte == CTRL_C:
            say("^C\n")
            poke(u8, line, u8(0))
            return line
        if byte == CTRL_U:
            erase(length)
            length = u32(0)
        elif byte == BACKSPACE or byte == DELETE:
            if length != 0:
                length -= 1
                erase(1)
        elif byte == ESCAPE:
            key = arrow()
            if key == UP and shown > 0 and console.lines - shown < HISTORY:
                shown -= 1
                length = recall(line, shown, False)
            elif key == DOWN and shown < console.lines:
                shown += 1
                length = recall(line, shown, shown == console.lines)
        elif printable(byte) and length < LINE_SIZE - 1:
            poke(u8, line + length, byte)
            length += 1
            put(byte)
        poke(u8, line + length, u8(0))
