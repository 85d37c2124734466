"""Loops that only look at memory, until another processor changes it.

A vCPU that waits for a guest's lock keeps a host processor busy, perhaps the very one that the lock's holder waits for:
without help that lasts until the host's scheduler steps in, milliseconds later. So the time slice that ends in such a
loop gives the host processor away. What is taken for one by mistake loses a little time, nothing else.
"""

from __future__ import annotations

from ..native.ints import i16, i64, u32, u64
from ..native.lang import bswap, load, native

LONGEST = 8
"""Instructions a loop may have."""
LWZ, LBZ, LHZ, LD, EXTENDED = 32, 34, 40, 58, 31
LWARX, LDARX, SYNC, COMPARE, COMPARE_LOGICAL, OR = 20, 84, 598, 0, 32, 444
OR_IMMEDIATE, AND_IMMEDIATE, ROTATE_AND, COMPARE_IMMEDIATE, COMPARE_LOGICAL_IMMEDIATE = 24, 28, 21, 11, 10
BRANCH, BRANCH_CONDITIONAL = 18, 16


@native(inline=True)
def register(word: u32, shift: u32) -> u32:
    """The bit of the register in a field of an instruction."""
    return u32(1) << (word >> shift & 31)


@native
def reads(word: u32) -> u32:
    """The registers that an instruction such a loop may have depends on."""
    op = word >> 26
    if op == AND_IMMEDIATE or op == ROTATE_AND or op == OR_IMMEDIATE:
        return register(word, 21)
    if op == EXTENDED:
        return register(word, 16) | register(word, 11)
    return register(word, 16)


@native
def writes(word: u32) -> u32:
    """The registers that an instruction such a loop may have changes, all of them when it may not be in one."""
    op, extended = word >> 26, word >> 1 & 0x3FF
    if op == LWZ or op == LBZ or op == LHZ or (op == LD and word & 3 == 0):
        return register(word, 21)
    if op == AND_IMMEDIATE or op == ROTATE_AND:
        return register(word, 16)
    if op == COMPARE_IMMEDIATE or op == COMPARE_LOGICAL_IMMEDIATE or (op == OR_IMMEDIATE and word & 0x3FF_FFFF == 0):
        return u32(0)
    if op == EXTENDED and (extended == LWARX or extended == LDARX):
        return register(word, 21)
    if op == EXTENDED and (extended == COMPARE or extended == COMPARE_LOGICAL or extended == SYNC):
        return u32(0)
    if op == EXTENDED and extended == OR and register(word, 21) | register(word, 11) == register(word, 16):
        return u32(0)  # or rx,rx,rx: a hint to the core's other thread
    return u32(0xFFFF_FFFF)


@native
def waits(code: u64, count: u32) -> bool:
    """Whether the code at a host address, `count` words of it, begins with a loop that waits for memory to change."""
    read, written = u32(0), u32(0)
    for n in range(count if count < LONGEST else u32(LONGEST)):
        word = bswap(load(u32, code + u64(n) * 4))
        op = word >> 26
        if op == BRANCH:
            return word == 0x4800_0000 | (u32(0) - n * 4 & 0x3FF_FFFF) and read & written == 0
        if op == BRANCH_CONDITIONAL:
            if word & 3 != 0 or word >> 23 & 1 == 0:  # a call, or one that counts
                return False
            if i64(i16(word & 0xFFFC)) + i64(n) * 4 == 0:
                return read & written == 0
        else:
            changed = writes(word)
            if changed == 0xFFFF_FFFF:
                return False
            read |= reads(word) & ~written
            written |= changed
    return False
