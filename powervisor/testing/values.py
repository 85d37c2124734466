"""Boundary values that every differential test draws from."""

from __future__ import annotations

import random

WORD = 0xFFFF_FFFF
DOUBLEWORD = 0xFFFF_FFFF_FFFF_FFFF

INTEGERS: tuple[int, ...] = (
    0, 1, 2, 3, 31, 32, 63, 64, 127, 128, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000,
    0x7FFF_FFFE, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFE, 0xFFFF_FFFF, 0x1_0000_0000, 0x1_0000_0001,
    0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000,
    0x8000_0000_0000_0001, 0xFFFF_FFFF_0000_0000, 0xFFFF_FFFF_7FFF_FFFF, 0xFFFF_FFFF_8000_0000,
    0xFFFF_FFFF_FFFF_8000, 0xFFFF_FFFF_FFFF_FF80, 0xFFFF_FFFF_FFFF_FFFE, 0xFFFF_FFFF_FFFF_FFFF,
)  # fmt: skip
"""Where carries, overflows, signs and shift counts change."""

_EXPONENTS = (
    0, 1, 2, 0x1FF, 0x200, 0x368, 0x369, 0x36A, 0x380, 0x381, 0x3C9, 0x3CA, 0x3FD, 0x3FE, 0x3FF, 0x400, 0x401, 0x41D,
    0x41E, 0x41F, 0x433, 0x434, 0x43D, 0x43E, 0x43F, 0x47E, 0x47F, 0x5FF, 0x600, 0x7FD, 0x7FE, 0x7FF,
)  # fmt: skip
_FRACTIONS = (
    0, 1, 2, 0x0_0000_1000_0000, 0x0_0000_2000_0000, 0x0_0000_3000_0000, 0x5_5555_5555_5555, 0x7_FFFF_FFFF_FFFF,
    0x8_0000_0000_0000, 0x8_0000_0000_0001, 0xF_FFFF_E000_0000, 0xF_FFFF_EFFF_FFFF, 0xF_FFFF_F000_0000,
    0xF_FFFF_FFFF_FFFF,
)  # fmt: skip
DOUBLES: tuple[int, ...] = tuple(
    sign << 63 | exponent << 52 | fraction for exponent in _EXPONENTS for fraction in _FRACTIONS for sign in (0, 1)
)
"""Zeros, denormalised numbers, what is near the limits of singles, words and doublewords, infinities and NaNs."""

_LANES = {
    8: (0x00, 0x01, 0x07, 0x08, 0x7F, 0x80, 0x81, 0xFE, 0xFF),
    16: (0x0000, 0x0001, 0x00FF, 0x4000, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF),
    32: (
        0, 1, 0x1F, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF, 0x0080_0000, 0x007F_FFFF, 0x3F80_0000,
        0x4B00_0000, 0x4EFF_FFFF, 0x4F00_0000, 0x4F80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7F80_0001, 0x7FC0_0000,
        0xFF80_0000, 0xBF00_0000, 0xC2FE_0000, 0x4300_0000,
    ),
}  # fmt: skip


def integer(rng: random.Random) -> int:
    """A doubleword: a boundary value, one near it, a small number, or any."""
    kind = rng.randrange(8)
    if kind < 4:
        return rng.choice(INTEGERS)
    if kind == 4:
        return rng.choice(INTEGERS) + rng.randrange(-3, 4) & DOUBLEWORD
    if kind == 5:
        return rng.getrandbits(8)
    return rng.getrandbits(64)


def double(rng: random.Random) -> int:
    """The bits of a double: a boundary value, an ordinary number (often a single's), or any."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(DOUBLES)
    if kind == 3:
        return rng.getrandbits(64)
    fraction = rng.getrandbits(52)
    if kind < 6:
        fraction &= ~((1 << 29) - 1)
    return rng.getrandbits(1) << 63 | 1023 + rng.randrange(-40, 41) << 52 | fraction


def vector(rng: random.Random) -> int:
    """A quadword: lanes of boundary values of one width, ordinary singles, or anything."""
    kind = rng.randrange(6)
    if kind >= 4:
        return rng.getrandbits(128)
    whole = 0
    if kind == 3:
        for _ in range(4):
            one = rng.getrandbits(1) << 31 | 127 + rng.randrange(-30, 31) << 23 | rng.getrandbits(23)
            whole = whole << 32 | one
        return whole
    width = 8 << kind
    for _ in range(128 // width):
        whole = whole << width | rng.choice(_LANES[width])
    return whole
