"""Power's floating-point arithmetic over exact rationals: a second model, written from the manual alone.

It works on Fractions and knows nothing of significands in machine words; slow, and therefore simple.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from powervisor.isa.registers import FPSCR as F

INF, NAN = 0x7FF << 52, 0x7FF8 << 48
SIGN = 1 << 63

CLASS = {"qnan": 0x11, "inf": 0b00101, "normal": 0b00100, "denormal": 0b10100, "zero": 0b00010}
NEGATIVE_CLASS = {"qnan": 0x11, "inf": 0b01001, "normal": 0b01000, "denormal": 0b11000, "zero": 0b10010}


@dataclass(frozen=True)
class Format:
    """Precision, exponent range, and the bias adjustment of enabled overflow and underflow."""

    precision: int
    low: int
    high: int
    adjust: int


DOUBLE, SINGLE = Format(53, -1022, 1023, 1536), Format(24, -126, 127, 192)


def is_nan(bits: int) -> bool:
    return bits & ~SIGN > INF


def is_snan(bits: int) -> bool:
    return is_nan(bits) and not bits >> 51 & 1


def is_inf(bits: int) -> bool:
    return bits & ~SIGN == INF


def value(bits: int) -> Fraction:
    """The number a finite pattern stands for."""
    exponent, fraction = bits >> 52 & 0x7FF, bits & (1 << 52) - 1
    magnitude = Fraction(fraction | (1 << 52 if exponent else 0)) * Fraction(2) ** (max(exponent, 1) - 1075)
    return -magnitude if bits & SIGN else magnitude


def exponent_of(x: Fraction) -> int:
    """floor(log2(x)) of a positive rational."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def classify(kind: str, sign: int) -> int:
    return (NEGATIVE_CLASS if sign else CLASS)[kind] << 12


def to_integral(x: Fraction, negative: bool, mode: int) -> int:
    """A non-negative rational rounded to an integer in a rounding mode."""
    whole = x.numerator // x.denominator
    rest = x - whole
    if mode == 0:
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    else:
        up = rest != 0 and ((mode == 2 and not negative) or (mode == 3 and negative))
    return whole + up


def pack(sign: int, x: Fraction, denormal: bool = False) -> int:
    """The double pattern of a magnitude of at most 53 bits; an exponent out of range wraps."""
    e = exponent_of(x)
    if denormal:
        return sign << 63 | int(x * Fraction(2) ** 1074)
    return sign << 63 | (e + 1023 & 0x7FF) << 52 | int(x * Fraction(2) ** (52 - e)) & (1 << 52) - 1


def rounded(x: Fraction, fmt: Format, fpscr: int) -> tuple[int, int]:
    """Result pattern and status of a non-zero exact result."""
    sign, magnitude, mode = int(x < 0), abs(x), fpscr & 3
    status = 0
    tiny = exponent_of(magnitude) < fmt.low
    if tiny and fpscr & F.UE:
        magnitude *= Fraction(2) ** fmt.adjust
        status |= F.UX
    e = exponent_of(magnitude)
    if tiny and not fpscr & F.UE:
        e = fmt.low
    unit = Fraction(2) ** (e - fmt.precision + 1)
    result = to_integral(magnitude / unit, sign == 1, mode) * unit
    if result != magnitude:
        status |= F.XX | F.FI | (F.FR if result > magnitude else 0) | (F.UX if tiny else 0)
    if result == 0:
        return sign << 63, status | classify("zero", sign)
    if result >= Fraction(2) ** (fmt.high + 1):
        if not fpscr & F.OE:
            status = F.OX | F.XX | F.FI
            if mode == 1 or (mode == 2 and sign) or (mode == 3 and not sign):
                largest = (2 - Fraction(2) ** (1 - fmt.precision)) * Fraction(2) ** fmt.high
                return pack(sign, largest), status | classify("normal", sign)
            return sign << 63 | INF, status | F.FR | classify("inf", sign)
        status |= F.OX
        result /= Fraction(2) ** fmt.adjust
    denormal = result < Fraction(2) ** fmt.low and not (tiny and fpscr & F.UE)
    return pack(sign, result, denormal and fmt is DOUBLE), status | classify("denormal" if denormal else "normal", sign)


def nan_result(operands: list[int], fmt: Format, status: int = 0) -> tuple[int, int]:
    first = next(bits for bits in operands if is_nan(bits)) | 1 << 51
    if fmt is SINGLE:
        first &= ~((1 << 29) - 1)
    if any(is_snan(bits) for bits in operands):
        status |= F.VXSNAN
    return first, status | classify("qnan", 0)


def invalid(exception: int) -> tuple[int, int]:
    return NAN, exception | classify("qnan", 0)


def infinite(sign: int, status: int = 0) -> tuple[int, int]:
    return sign << 63 | INF, status | classify("inf", sign)


def zero(sign: int) -> tuple[int, int]:
    return sign << 63, classify("zero", sign)


def fused(a: int, c: int, b: int, fmt: Format, fpscr: int) -> tuple[int, int]:
    """a * c + b; NaNs are looked at in the order a, b, c."""
    imz = (is_inf(a) and c & ~SIGN == 0) or (is_inf(c) and a & ~SIGN == 0)
    if any(map(is_nan, (a, b, c))):
        return nan_result([a, b, c], fmt, F.VXIMZ if imz else 0)
    if imz:
        return invalid(F.VXIMZ)
    sign, addend = (a ^ c) >> 63, b >> 63
    if is_inf(a) or is_inf(c):
        return invalid(F.VXISI) if is_inf(b) and sign != addend else infinite(sign)
    if is_inf(b):
        return infinite(addend)
    total = value(a) * value(c) + value(b)
    if total == 0:
        return zero(sign if sign == addend else int(fpscr & 3 == 3))
    return rounded(total, fmt, fpscr)


def add(a: int, b: int, fmt: Format, fpscr: int) -> tuple[int, int]:
    if is_nan(a) or is_nan(b):
        return nan_result([a, b], fmt)
    if is_inf(a) or is_inf(b):
        if is_inf(a) and is_inf(b) and a != b:
            return invalid(F.VXISI)
        return infinite((a if is_inf(a) else b) >> 63)
    total = value(a) + value(b)
    if total == 0:
        return zero(a >> 63 if a >> 63 == b >> 63 else int(fpscr & 3 == 3))
    return rounded(total, fmt, fpscr)


def multiply(a: int, c: int, fmt: Format, fpscr: int) -> tuple[int, int]:
    if is_nan(a) or is_nan(c):
        return nan_result([a, c], fmt)
    sign = (a ^ c) >> 63
    if is_inf(a) or is_inf(c):
        return invalid(F.VXIMZ) if a & ~SIGN == 0 or c & ~SIGN == 0 else infinite(sign)
    product = value(a) * value(c)
    return zero(sign) if product == 0 else rounded(product, fmt, fpscr)


def divide(a: int, b: int, fmt: Format, fpscr: int) -> tuple[int, int]:
    if is_nan(a) or is_nan(b):
        return nan_result([a, b], fmt)
    sign = (a ^ b) >> 63
    if is_inf(a):
        return invalid(F.VXIDI) if is_inf(b) else infinite(sign)
    if is_inf(b):
        return zero(sign)
    if value(b) == 0:
        return invalid(F.VXZDZ) if value(a) == 0 else infinite(sign, F.ZX)
    return zero(sign) if value(a) == 0 else rounded(value(a) / value(b), fmt, fpscr)


def to_single(b: int, fpscr: int) -> tuple[int, int]:
    if is_nan(b):
        return nan_result([b], SINGLE)
    if is_inf(b):
        return infinite(b >> 63)
    return zero(b >> 63) if value(b) == 0 else rounded(value(b), SINGLE, fpscr)


def to_integer(b: int, bits: int, mode: int) -> tuple[int, int]:
    """Words are sign-extended; FPRF is 0."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    if is_nan(b):
        return low & (1 << 64) - 1, F.VXCVI | (F.VXSNAN if is_snan(b) else 0)
    if is_inf(b):
        return (low if b & SIGN else high) & (1 << 64) - 1, F.VXCVI
    exact = value(b)
    magnitude = to_integral(abs(exact), exact < 0, mode)
    result = -magnitude if exact < 0 else magnitude
    if not low <= result <= high:
        return (low if b & SIGN else high) & (1 << 64) - 1, F.VXCVI
    status = 0
    if result != exact:
        status = F.XX | F.FI | (F.FR if magnitude > abs(exact) else 0)
    return result & (1 << 64) - 1, status


def from_integer(b: int, fpscr: int) -> tuple[int, int]:
    signed = b - (1 << 64) if b & SIGN else b
    return zero(0) if signed == 0 else rounded(Fraction(signed), DOUBLE, fpscr)


def negated(result: tuple[int, int]) -> tuple[int, int]:
    bits, status = result
    if is_nan(bits):
        return result
    kind = next(k for k, v in (NEGATIVE_CLASS if bits & SIGN else CLASS).items() if v << 12 == status & 0x1F000)
    return bits ^ SIGN, status & ~0x1F000 | classify(kind, 0 if bits & SIGN else 1)


def minus(bits: int) -> int:
    return bits if is_nan(bits) else bits ^ SIGN


def reference(name: str, a: int, b: int, c: int, fpscr: int) -> tuple[int, int]:
    """Result and status (exceptions, FR, FI, FPRF) of an instruction by its mnemonic."""
    if name == "frsp":
        return to_single(b, fpscr)
    if name == "fcfid":
        return from_integer(b, fpscr)
    if name.startswith("fcti"):
        return to_integer(b, 64 if "d" in name else 32, 1 if name.endswith("z") else fpscr & 3)
    fmt = SINGLE if name in ("fadds", "fsubs", "fmuls", "fdivs", "fmadds", "fmsubs", "fnmadds", "fnmsubs") else DOUBLE
    name = name.removesuffix("s") if fmt is SINGLE else name
    if name == "fadd":
        return add(a, b, fmt, fpscr)
    if name == "fsub":
        return add(a, minus(b), fmt, fpscr)
    if name == "fmul":
        return multiply(a, c, fmt, fpscr)
    if name == "fdiv":
        return divide(a, b, fmt, fpscr)
    result = fused(a, c, minus(b) if name.endswith("sub") else b, fmt, fpscr)
    return negated(result) if name.startswith("fn") else result


def after(result: int, status: int, fpscr: int, old: int) -> tuple[int, int]:
    """FRT and FPSCR after an operation, from those before (Book I, 4.4: what enabled exceptions suppress)."""
    invalid_bits = sum((F.VXSNAN, F.VXISI, F.VXIDI, F.VXZDZ, F.VXIMZ, F.VXVC, F.VXSOFT, F.VXSQRT, F.VXCVI))
    sticky = invalid_bits | F.OX | F.UX | F.ZX | F.XX
    if (status & invalid_bits and fpscr & F.VE) or (status & F.ZX and fpscr & F.ZE):
        result, new = old, fpscr & ~(F.FR | F.FI) | status & sticky
    else:
        new = fpscr & ~(F.FR | F.FI | F.FPRF) | status
    if status & sticky & ~fpscr:
        new |= F.FX
    return result, summary(new)


def summary(fpscr: int) -> int:
    """FPSCR with VX and FEX as its other bits say."""
    fpscr &= ~(F.VX | F.FEX)
    if fpscr & (F.VXSNAN | F.VXISI | F.VXIDI | F.VXZDZ | F.VXIMZ | F.VXVC | F.VXSOFT | F.VXSQRT | F.VXCVI):
        fpscr |= F.VX
    for exception, enable in ((F.VX, F.VE), (F.OX, F.OE), (F.UX, F.UE), (F.ZX, F.ZE), (F.XX, F.XE)):
        if fpscr & exception and fpscr & enable:
            fpscr |= F.FEX
    return fpscr
