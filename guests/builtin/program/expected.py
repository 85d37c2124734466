"""Operands and results of the suites in kernels.s, computed by the host when the guest is built."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
CR_LT, CR_GT, CR_EQ = 8, 4, 2


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack(">d", value), "big")


def _compared(a: float, b: float) -> int:
    return CR_LT if a < b else CR_GT if a > b else CR_EQ


def _float_results(a: float, b: float, c: float) -> tuple[int, ...]:
    """fadd fsub fmul fdiv fmadd fnmsub frsp fctiwz fcmpu."""
    product = Fraction(a) * Fraction(b)
    single: float = struct.unpack(">f", struct.pack(">f", a))[0]
    fused = float(product + Fraction(c)), -float(product - Fraction(c))
    return (
        *map(_bits, (a + b, a - b, a * b, a / b, *fused, single)),
        int(c) & MASK32,
        _compared(a, b),
    )


def _lanes(vector: int, bits: int) -> list[int]:
    return [vector >> shift & (1 << bits) - 1 for shift in range(128 - bits, -1, -bits)]


def _vector(lanes: list[int], bits: int) -> int:
    shifts = range(128 - bits, -1, -bits)
    return sum((lane & (1 << bits) - 1) << shift for lane, shift in zip(lanes, shifts, strict=True))


def _halves(vectors: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(half for vector in vectors for half in (vector >> 64, vector & MASK64))


def _vector_results(a: int, b: int) -> tuple[int, ...]:
    """vadduwm vaddubs vmrghb vxor."""
    words = [x + y for x, y in zip(_lanes(a, 32), _lanes(b, 32), strict=True)]
    bytes_ = list(zip(_lanes(a, 8), _lanes(b, 8), strict=True))
    saturated = [min(x + y, 255) for x, y in bytes_]
    merged = [byte for pair in bytes_[:8] for byte in pair]
    return _halves((_vector(words, 32), _vector(saturated, 8), _vector(merged, 8), a ^ b))


def _wide_results(a: int, b: int) -> tuple[int, ...]:
    """add mulld mulhdu divdu rldicl cmpd, of positive numbers."""
    rotated = (a << 13 | a >> 51) & MASK64 >> 7
    return a + b & MASK64, a * b & MASK64, a * b >> 64, a // b, rotated, _compared(a, b)


_FLOATS = (math.pi, math.e, -12345.678)
FLOAT_OPERANDS, FLOAT_RESULTS = tuple(map(_bits, _FLOATS)), _float_results(*_FLOATS)
_VECTORS = (0x00112233445566778899AABBCCDDEEFF, 0xFFEEDDCC0123456789ABCDEF80808080)
VECTOR_OPERANDS, VECTOR_RESULTS = _halves(_VECTORS), _vector_results(*_VECTORS)
WIDE_OPERANDS = (0x7123_4567_89AB_CDEF, 0x0000_0001_2345_6789)
WIDE_RESULTS = _wide_results(*WIDE_OPERANDS)
