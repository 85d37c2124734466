"""Interesting floating-point patterns: the shared boundary values of every floating-point test."""

from __future__ import annotations

import random
import struct

SIGN = 1 << 63


def double(value: float) -> int:
    """Bits of a double."""
    return int(struct.unpack(">Q", struct.pack(">d", value))[0])


def single(bits: int) -> int:
    """A single's bits in double format, as registers keep singles; SNaNs stay signalling."""
    sign, magnitude = (bits >> 31) << 63, bits & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000:
        return sign | 0x7FF << 52 | (magnitude & 0x7F_FFFF) << 29
    return sign | double(struct.unpack(">f", struct.pack(">I", magnitude))[0])


_POSITIVE = (
    0,  # zero
    1, 2, 0x000F_FFFF_FFFF_FFFF,  # denormalised doubles
    0x0010_0000_0000_0000, 0x0010_0000_0000_0001, 0x001F_FFFF_FFFF_FFFF, 0x0020_0000_0000_0000,  # smallest normals
    0x2000_0000_0000_0000, 0x1E60_0000_0000_0003,  # whose squares underflow
    0x3690_0000_0000_0000, 0x36A0_0000_0000_0000, 0x36A0_0000_0000_0001,  # about the smallest single
    0x380F_FFFF_C000_0000, 0x380F_FFFF_E000_0000, 0x380F_FFFF_F000_0000, 0x380F_FFFF_FFFF_FFFF,
    0x3810_0000_0000_0000, 0x3810_0000_2000_0000, 0x3820_0000_0000_0000,  # about the smallest normal single
    0x3CA0_0000_0000_0000, 0x3CB0_0000_0000_0000,  # 2**-53, 2**-52
    0x3FD5_5555_5555_5555, 0x3FE0_0000_0000_0000, 0x3FE0_0000_0000_0001, 0x3FEF_FFFF_FFFF_FFFF,  # 1/3, 1/2, below 1
    0x3FF0_0000_0000_0000, 0x3FF0_0000_0000_0001, 0x3FF0_0000_1000_0000, 0x3FF0_0000_2000_0000,  # 1, ties of singles
    0x3FF0_0000_3000_0000, 0x3FF8_0000_0000_0000, 0x3FFF_FFFF_FFFF_FFFF, 0x4000_0000_0000_0000,
    0x4004_0000_0000_0000, 0x400C_0000_0000_0000, 0x4009_21FB_5444_2D18,  # 2.5, 3.5, pi
    0x4170_0000_1000_0000, 0x41DF_FFFF_FFC0_0000, 0x41DF_FFFF_FFE0_0000, 0x41E0_0000_0000_0000,  # about 2**31
    0x41E0_0000_0020_0000, 0x41F0_0000_0000_0000, 0x4330_0000_0000_0000, 0x4330_0000_0000_0001,
    0x43DF_FFFF_FFFF_FFFF, 0x43E0_0000_0000_0000, 0x43E0_0000_0000_0001, 0x43F0_0000_0000_0000,  # about 2**63
    0x47EF_FFFF_E000_0000, 0x47EF_FFFF_EFFF_FFFF, 0x47EF_FFFF_F000_0000, 0x47F0_0000_0000_0000,  # about largest single
    0x5FF0_0000_0000_0000, 0x7FDF_FFFF_FFFF_FFFF, 0x7FE0_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF,  # about overflow
    0x7FF0_0000_0000_0000,  # infinity
    0x7FF0_0000_0000_0001, 0x7FF4_0000_2000_0000, 0x7FF7_FFFF_FFFF_FFFF,  # signalling NaNs
    0x7FF8_0000_0000_0000, 0x7FF8_0000_2000_0001, 0x7FFF_FFFF_FFFF_FFFF,  # quiet NaNs
)  # fmt: skip

DOUBLES: tuple[int, ...] = tuple(v | s for v in _POSITIVE for s in (0, SIGN))
"""Boundary values in double format, both signs."""

SINGLE_BITS: tuple[int, ...] = tuple(
    v | s
    for v in (
        0, 1, 2, 0x1234, 0x7F_FFFF, 0x80_0000, 0x80_0001, 0xFF_FFFF, 0x100_0000, 0x3380_0000, 0x3EAA_AAAB,
        0x3F00_0000, 0x3F7F_FFFF, 0x3F80_0000, 0x3F80_0001, 0x3FC0_0000, 0x4049_0FDB, 0x4B00_0001, 0x4B7F_FFFF,
        0x4EFF_FFFF, 0x4F00_0000, 0x5EFF_FFFF, 0x5F00_0000, 0x7E80_0000, 0x7F7F_FFFF, 0x7F80_0000,
        0x7F80_0001, 0x7FA0_0000, 0x7FC0_0000, 0x7FFF_FFFF,
    )
    for s in (0, 1 << 31)
)  # fmt: skip
"""Boundary values of single-precision words."""

SINGLES: tuple[int, ...] = tuple(single(bits) for bits in SINGLE_BITS)
"""The same in double format."""


def random_double(rng: random.Random) -> int:
    """A pattern of one of several kinds: near others in exponent, few or many significant bits, or anything."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(DOUBLES)
    if kind == 1:
        return rng.getrandbits(64)
    if kind == 2:
        return single(rng.getrandbits(32))
    sign, fraction = rng.getrandbits(1) << 63, rng.getrandbits(52)
    if kind == 3:
        fraction &= fraction >> rng.randrange(52) << rng.randrange(52)
    if kind == 4:
        fraction = fraction >> 30 << 30 | rng.choice((0, 1 << 28, 1 << 28 | 1, (1 << 28) - 1))
    return sign | 1023 + rng.randrange(-60, 60) << 52 | fraction & (1 << 52) - 1


def random_single(rng: random.Random) -> int:
    """A value a single can hold, in double format."""
    if rng.randrange(6) == 0:
        return rng.choice(SINGLES)
    if rng.randrange(6) == 0:
        return single(rng.getrandbits(32))
    fraction = rng.getrandbits(23)
    if rng.randrange(3) == 0:
        fraction = fraction >> 16 << 16
    return single(rng.getrandbits(1) << 31 | 127 + rng.randrange(-26, 26) << 23 | fraction)
