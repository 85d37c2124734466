"""Register contents that make AltiVec instructions show their edges."""

from __future__ import annotations

import random

BYTES = (0x00, 0x01, 0x7F, 0x80, 0x81, 0xFE, 0xFF)
HALFWORDS = (0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x4000, 0x00FF)
WORDS = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF, 0x0001_0000, 0x7FFF_8000)
SINGLES = (
    0x0000_0000, 0x0000_0001, 0x0000_1234, 0x0040_0000, 0x007F_FFFF, 0x0080_0000, 0x0080_0001, 0x0100_0000,
    0x3380_0000, 0x3EFF_FFFF, 0x3F00_0000, 0x3F00_0001, 0x3F7F_FFFF, 0x3F80_0000, 0x3F80_0001, 0x3FC0_0000,
    0x4000_0000, 0x4020_0000, 0x42FD_0000, 0x4300_0000, 0x4316_0000, 0x4A80_0001, 0x4AFF_FFFF, 0x4B00_0000,
    0x4EFF_FFFF, 0x4F00_0000, 0x4F7F_FFFF, 0x4F80_0000, 0x7E80_0000, 0x7F00_0000, 0x7F7F_FFFF, 0x7F80_0000,
    0x7F80_0001, 0x7FA5_5A5A, 0x7FC0_0000, 0x7FFF_FFFF,
)  # fmt: skip
"""Both signs of each occur."""


def pattern(rng: random.Random, values: tuple[int, ...], width: int) -> int:
    """A register of lanes drawn from a list."""
    whole = 0
    for _ in range(128 // width):
        whole = whole << width | rng.choice(values)
    return whole


def integers(rng: random.Random) -> int:
    """A register of integer edges or of random bits."""
    kind = rng.randrange(5)
    if kind == 0:
        return pattern(rng, BYTES, 8)
    if kind == 1:
        return pattern(rng, HALFWORDS, 16)
    if kind == 2:
        return pattern(rng, WORDS, 32)
    return rng.getrandbits(128)


def singles(rng: random.Random) -> int:
    """A register of single-precision edges, of nearby numbers, or of random bits."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.getrandbits(128)
    whole = 0
    for _ in range(4):
        if kind == 1:
            one = rng.choice((1, 127, 100, 150, 200, 254, 63, 64)) + rng.randrange(-1, 2) << 23 | rng.getrandbits(23)
        else:
            one = rng.choice(SINGLES)
        whole = whole << 32 | (one ^ rng.choice((0, 0x8000_0000))) & 0xFFFF_FFFF
    return whole
