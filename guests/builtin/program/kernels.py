"""Work whose result is known, for tests, and whose length is known, for measurements."""

from __future__ import annotations

from ....native.ints import u8, u32
from ....native.lang import field_addr, native
from ..words import blob, peek, poke, routine, the
from .state import Scratch

CRC_POLYNOMIAL = 0xEDB8_8320
CRC_CHECK_TEXT, CRC_CHECK = b"123456789", 0xCBF4_3926
"""The check value every description of CRC-32 gives."""
INTEGER_STEPS = 16
"""Instructions of a turn of spin_integer in kernels.s."""
FLOAT_OPERATIONS = 7
"""Floating-point instructions of a turn of spin_float there."""


@native
def integer_turns(turns: u32) -> u32:
    """Run the assembly loop; its checksum."""
    return routine(u32, "spin_integer", turns)


@native
def same_by_compiler(turns: u32) -> u32:
    """What the assembly loop computes, computed by compiled code."""
    a, b, c = u32(1), u32(0x1234), u32(0x77)
    for _ in range(turns):
        a = a + b
        b = b << 5 | b >> 27
        c = c ^ a
        stored = c
        b = b - c
        a = a + 13
        b = b | (a & c)
        c = c + (stored >> 3)
        a = a ^ (stored * a)
        b = b + 1
    return a + c


@native
def crc32(start: u32, length: u32) -> u32:
    """CRC-32 of memory, bit by bit."""
    crc = ~u32(0)
    for n in range(length):
        crc = crc ^ u32(peek(u8, start + n))
        for _ in range(8):
            crc = crc >> 1 ^ (u32(CRC_POLYNOMIAL) if crc & 1 else u32(0))
    return ~crc


@native
def crc_check() -> bool:
    """Whether the CRC's check value comes out."""
    return crc32(blob(CRC_CHECK_TEXT), u32(len(CRC_CHECK_TEXT))) == CRC_CHECK


@native
def sieve() -> u32:
    """How many primes are below 8192, by Eratosthenes' sieve."""
    scratch = the(Scratch)
    limit = u32(8192)
    flags = u32(field_addr(scratch, "page"))
    for n in range(limit):
        poke(u8, flags + n, u8(0))
    count = u32(0)
    for candidate in range(2, limit):
        if peek(u8, flags + candidate) == 0:
            count += 1
            multiple = candidate + candidate
            while multiple < limit:
                poke(u8, flags + multiple, u8(1))
                multiple += candidate
    return count
