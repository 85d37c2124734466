"""Fixed-width integers of the native subset.

`u8 .. u128` and `i8 .. i128` are `int` subclasses whose operators wrap as the machine does, so a `@native` function
gives the same answers run by Python (the oracle) and compiled by LLVM. Mixing widths is an error in both worlds;
bare Python literals take the type of the other operand. Shifting by the width or more is an error here because it
is undefined there.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Fixed(int):
    """Base of the fixed-width integers; `bits` and `signed` describe the type, `ir` is its LLVM name."""

    bits: ClassVar[int] = 0
    signed: ClassVar[bool] = False
    ir: ClassVar[str] = ""
    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self):#x})"

    __str__ = int.__repr__


_TEMPLATE = '''
class {name}(Fixed):
    """{sign} {bits}-bit integer."""
    bits = {bits}
    signed = {signed}
    ir = "i{bits}"
    size = {bits} // 8
    __slots__ = ()
    def __new__(cls, value=0):
        value = int(value); return _new(cls, {wrap})
    def __add__(self, other):
        if type(other) is not {name}: _check({name}, other)
        value = _add(self, other); return _new({name}, {wrap})
    __radd__ = __add__
    def __sub__(self, other):
        if type(other) is not {name}: _check({name}, other)
        value = _sub(self, other); return _new({name}, {wrap})
    def __rsub__(self, other):
        _check({name}, other)
        value = _sub(int(other), self); return _new({name}, {wrap})
    def __mul__(self, other):
        if type(other) is not {name}: _check({name}, other)
        value = _mul(self, other); return _new({name}, {wrap})
    __rmul__ = __mul__
    def __and__(self, other):
        value = _and(self, other)
        if type(other) is {name}: return _new({name}, value)
        _check({name}, other); return _new({name}, {wrap})
    __rand__ = __and__
    def __or__(self, other):
        value = _or(self, other)
        if type(other) is {name}: return _new({name}, value)
        _check({name}, other); return _new({name}, {wrap})
    __ror__ = __or__
    def __xor__(self, other):
        value = _xor(self, other)
        if type(other) is {name}: return _new({name}, value)
        _check({name}, other); return _new({name}, {wrap})
    __rxor__ = __xor__
    def __lshift__(self, other):
        if not 0 <= other < {bits}: raise ValueError("shift of {name} by %d" % other)
        value = _shl(self, other); return _new({name}, {wrap})
    def __rlshift__(self, other):
        raise TypeError("shift of an untyped literal by a {name}: give the literal a type")
    __rrshift__ = __rlshift__
    def __rshift__(self, other):
        if not 0 <= other < {bits}: raise ValueError("shift of {name} by %d" % other)
        return _new({name}, _shr(self, other))
    def __invert__(self):
        value = _invert(self); return _new({name}, {wrap})
    def __neg__(self):
        value = _neg(self); return _new({name}, {wrap})
    def __floordiv__(self, other):
        if type(other) is not {name}: _check({name}, other)
        value = _quotient(int(self), int(other)); return _new({name}, {wrap})
    def __mod__(self, other):
        if type(other) is not {name}: _check({name}, other)
        value = int(self) - int(other) * _quotient(int(self), int(other)); return _new({name}, value)
    def __rfloordiv__(self, other):
        _check({name}, other); return {name}(other) // self
    def __rmod__(self, other):
        _check({name}, other); return {name}(other) % self
    def __truediv__(self, other):
        raise TypeError("{name} has no /: use //")
'''


def _check(kind: type[Fixed], other: object) -> None:
    if type(other) is int:
        return
    raise TypeError(f"{kind.__name__} mixed with {type(other).__name__}: convert one of them")


def _quotient(a: int, b: int) -> int:
    """Division rounding toward zero, as the machine's."""
    q = abs(a) // abs(b)
    return -q if (a < 0) != (b < 0) else q


def _build(bits: int, signed: bool) -> type[Fixed]:
    name = f"{'i' if signed else 'u'}{bits}"
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    wrap = f"((value & {mask}) ^ {half}) - {half}" if signed else f"value & {mask}"
    scope: dict[str, Any] = {
        "Fixed": Fixed, "_new": int.__new__, "_check": _check, "_quotient": _quotient,
        "_add": int.__add__, "_sub": int.__sub__, "_mul": int.__mul__, "_and": int.__and__, "_or": int.__or__,
        "_xor": int.__xor__, "_shl": int.__lshift__, "_shr": int.__rshift__,
        "_invert": int.__invert__, "_neg": int.__neg__,
    }  # fmt: skip
    exec(
        _TEMPLATE.format(name=name, bits=bits, signed=signed, sign="Signed" if signed else "Unsigned", wrap=wrap),
        scope,
    )
    kind: type[Fixed] = scope[name]
    kind.__module__ = __name__
    return kind


u8: Any = _build(8, False)
u16: Any = _build(16, False)
u32: Any = _build(32, False)
u64: Any = _build(64, False)
u128: Any = _build(128, False)
i8: Any = _build(8, True)
i16: Any = _build(16, True)
i32: Any = _build(32, True)
i64: Any = _build(64, True)
i128: Any = _build(128, True)

INTS: tuple[type[Fixed], ...] = (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128)
UNSIGNED = {8: u8, 16: u16, 32: u32, 64: u64, 128: u128}
SIGNED = {8: i8, 16: i16, 32: i32, 64: i64, 128: i128}
