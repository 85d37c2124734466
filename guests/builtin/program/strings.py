"""Text as bytes that end with a NUL: comparing, cutting into words, reading numbers."""

from __future__ import annotations

from ....native.ints import u8, u32, u64
from ....native.lang import native
from ..words import peek, poke

SPACE = 32


@native
def same(a: u32, b: u32) -> bool:
    """Whether two strings are equal."""
    n = u32(0)
    while True:
        x, y = peek(u8, a + n), peek(u8, b + n)
        if x != y:
            return False
        if x == 0:
            return True
        n += 1


@native
def starts(string: u32, prefix: u32) -> u32:
    """Bytes of the prefix when a string begins with it, else 0."""
    n = u32(0)
    while True:
        want = peek(u8, prefix + n)
        if want == 0:
            return n
        if peek(u8, string + n) != want:
            return u32(0)
        n += 1


@native
def lower(byte: u8) -> u8:
    """A letter in lower case."""
    return byte + 32 if byte >= 65 and byte <= 90 else byte


@native
def same_letters(a: u32, b: u32) -> bool:
    """Whether two strings are equal but for upper and lower case."""
    n = u32(0)
    while True:
        x, y = lower(peek(u8, a + n)), lower(peek(u8, b + n))
        if x != y:
            return False
        if x == 0:
            return True
        n += 1


@native
def printable(byte: u8) -> bool:
    """Whether a byte is a visible character or a space."""
    return byte >= SPACE and byte < 127


@native
def skip_spaces(at: u32) -> u32:
    """The first byte from here that is no space."""
    where = at
    while peek(u8, where) == SPACE:
        where += 1
    return where


@native
def cut_word(at: u32) -> u32:
    """End the word that begins here with a NUL; where the next one begins."""
    where = at
    while peek(u8, where) != 0 and peek(u8, where) != SPACE:
        where += 1
    if peek(u8, where) == 0:
        return where
    poke(u8, where, u8(0))
    return skip_spaces(where + 1)


@native
def number_at(at: u32) -> tuple[bool, u64]:
    """A whole word as a number, decimal or 0x.. hexadecimal; whether it is one."""
    where = at
    base = u64(10)
    if peek(u8, where) == 48 and lower(peek(u8, where + 1)) == 120:
        base = u64(16)
        where += 2
    value = u64(0)
    digits = u32(0)
    while True:
        byte = lower(peek(u8, where))
        if byte == 0:
            return digits != 0, value
        digit = u64(99)
        if byte >= 48 and byte <= 57:
            digit = u64(byte) - 48
        elif byte >= 97:
            digit = u64(byte) - 87
        if digit >= base:
            return False, value
        value = value * base + digit
        digits += 1
        where += 1
