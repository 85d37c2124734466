"""The words of the native subset beyond Python's own: `@native`, memory, atomics, bit operations.

Every word works in both worlds: Python executes the bodies below, the compiler replaces the calls (`INTRINSICS` maps
a word to the method of `compile.FunctionCompiler` that emits it).

The subset: fixed-width integers, `bool`, Struct pointers; assignment, `if`, `while`, `for .. in range()`, `return`,
`break`, `continue`, `raise Abort`; calls of other native functions; tuples as return values. Parameters annotated
`Static` are compile-time Python values and specialise the function; `if` on a static test keeps only the taken arm,
`for .. in static(...)` is unrolled.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import struct as _struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, overload

from .ints import Fixed, i64, u32, u64
from .struct import ArrayType, Struct, read_scalar, size_of, write_scalar


class Abort(Exception):
    """Leaves the current instruction: an interrupt has been delivered or an exit prepared, registers stay."""


if TYPE_CHECKING:
    Static = Any  # any Python value, a type among them
else:

    class Static:
        """Annotation of a parameter that is a compile-time value."""


class NativeFunction:
    """A function of the native subset; calling it runs the Python body (the oracle's way)."""

    def __init__(self, body: Callable[..., Any], *, inline: bool, cold: bool, field_function: bool) -> None:
        functools.update_wrapper(self, body)
        self.body, self.inline, self.cold, self.field_function = body, inline, cold, field_function
        code = body.__code__
        self.parameters = list(code.co_varnames[: code.co_argcount])
        self.name = f"{body.__module__.removeprefix('powervisor.')}.{body.__qualname__}"
        self._coerce: list[tuple[int, str, Any]] | None = None
        self._result: Any = None
        self._notes: dict[str, Any] = {}

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The parameters with their annotations."""
        return inspect.signature(self.body)

    def annotation(self, note: Any, statics: dict[str, Any]) -> Any:
        """Evaluate an annotation; it may name a static parameter whose value is a type."""
        if not isinstance(note, str):
            return note
        if note in statics:
            return self.annotation(statics[note], statics)
        if statics:
            return self.annotation(eval(note, self.body.__globals__, statics), statics)
        if note not in self._notes:
            self._notes[note] = self.annotation(eval(note, self.body.__globals__), statics)
        return self._notes[note]

    def _prepare(self) -> list[tuple[int, str, Any]]:
        coerce = []
        for index, parameter in enumerate(self.signature.parameters.values()):
            note = parameter.annotation
            if note is parameter.empty or note in ("Static", Static):
                continue
            try:
                kind = self.annotation(note, {})
            except NameError:
                continue
            if inspect.isclass(kind) and issubclass(kind, Fixed):
                coerce.append((index, parameter.name, kind))
        note = self.signature.return_annotation
        try:
            kind = self.annotation(note, {})
        except NameError:
            kind = None
        self._result = kind if inspect.isclass(kind) and issubclass(kind, Fixed) else None
        self._coerce = coerce
        return coerce

    def _converted(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with bare integers given the types declared."""
        given = list(args)
        for index, name, kind in self._coerce or ():
            if index < len(given) and type(given[index]) is not kind:
                if type(given[index]) is not int:
                    raise TypeError(f"{self.name}: {name} is {type(given[index]).__name__}, wants {kind.__name__}")
                given[index] = kind(given[index])
        return tuple(given)

    def __call__(self, *args: Any) -> Any:
        coerce = self._coerce
        if coerce is None:
            coerce = self._prepare()
        count = len(args)
        for index, _, kind in coerce:
            if index < count and type(args[index]) is not kind:
                args = self._converted(args)
                break
        value = self.body(*args)
        result = self._result
        if result is not None and type(value) is not result:
            if type(value) is not int:
                raise TypeError(f"{self.name} returns {type(value).__name__}, declared {result.__name__}")
            return result(value)
        return value

    def __repr__(self) -> str:
        return f"<native {self.name}>"


@overload
def native(body: Callable[..., Any], /) -> Any: ...
@overload
def native(
    *, inline: bool = False, cold: bool = False, field_function: bool = False
) -> Callable[[Callable[..., Any]], Any]: ...
def native(
    body: Callable[..., Any] | None = None, *, inline: bool = False, cold: bool = False, field_function: bool = False
) -> Any:
    """Declare a native function.

    `inline`: always inlined. `cold`: a rare path; a stencil that reaches it leaves to the instruction's handler
    instead. `field_function`: depends on instruction fields only, so stencils have its value patched in.
    """
    if body is None:
        return lambda real: NativeFunction(real, inline=inline, cold=cold, field_function=field_function)
    return NativeFunction(body, inline=inline, cold=cold, field_function=field_function)


INTRINSICS: dict[Any, str] = {}


def word(body: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a word: the compiler emits it with its method `word_<name>`."""
    INTRINSICS[body] = "word_" + body.__name__
    return body


# ---- control -------------------------------------------------------------------------------------------------------


def static(items: Iterable[Any]) -> Iterable[Any]:
    """`for x in static(...)`: the loop is unrolled when compiled."""
    return items


@word
def attempt(function: Any, *args: Any) -> bool:
    """Call a native function without a result; whether it was abandoned by `raise Abort`."""
    try:
        function(*args)
    except Abort:
        return True
    return False


@word
def likely(condition: bool) -> bool:
    """The condition is almost always true."""
    return condition


@word
def unlikely(condition: bool) -> bool:
    """The condition is almost never true."""
    return condition


@word
def select(condition: bool, a: Any, b: Any) -> Any:
    """`a` if the condition holds else `b`, without a branch; both are evaluated."""
    return a if condition else b


# ---- host memory ---------------------------------------------------------------------------------------------------


@word
def load(kind: Any, address: Any) -> Any:
    """Read an integer at a host address, host byte order, any alignment."""
    return read_scalar(kind, int(address))


@word
def store(kind: Any, address: Any, value: Any) -> None:
    """Write an integer at a host address, host byte order, any alignment."""
    write_scalar(kind, int(address), value)


@word
def field_addr(view: Struct, name: str, index: Any = 0) -> Any:
    """Host address of a field, or of element `index` of an array field."""
    field = type(view).fields[name]
    step = size_of(field.type.element) if isinstance(field.type, ArrayType) else 0
    return u64(view.address + field.offset + step * int(index))


@word
def address_of(view: Struct) -> Any:
    """Host address of a struct."""
    return u64(view.address)


@word
def at(kind: type[Struct], address: Any) -> Any:
    """The struct at a host address."""
    return kind.at(int(address))


@word
def fill(address: Any, byte: Any, length: Any) -> None:
    """Set `length` bytes at a host address."""
    ctypes.memset(int(address), int(byte), int(length))


@word
def copy(to: Any, source: Any, length: Any) -> None:
    """Copy `length` bytes between host addresses that do not overlap."""
    ctypes.memmove(int(to), int(source), int(length))


# ---- atomics: sequentially consistent; Python's versions run under the GIL and serve one oracle thread ---------------


@word
def atomic_load(kind: Any, address: Any) -> Any:
    """Atomic read."""
    return read_scalar(kind, int(address))


@word
def atomic_store(kind: Any, address: Any, value: Any) -> None:
    """Atomic write."""
    write_scalar(kind, int(address), value)


@word
def atomic_xchg(kind: Any, address: Any, value: Any) -> Any:
    """Atomic exchange; returns the old value."""
    old = read_scalar(kind, int(address))
    write_scalar(kind, int(address), value)
    return old


@word
def atomic_or(kind: Any, address: Any, value: Any) -> Any:
    """Atomic or; returns the old value."""
    old = read_scalar(kind, int(address))
    write_scalar(kind, int(address), int(old) | int(value))
    return old


@word
def atomic_and(kind: Any, address: Any, value: Any) -> Any:
    """Atomic and; returns the old value."""
    old = read_scalar(kind, int(address))
    write_scalar(kind, int(address), int(old) & int(value))
    return old


@word
def atomic_add(kind: Any, address: Any, value: Any) -> Any:
    """Atomic add; returns the old value."""
    old = read_scalar(kind, int(address))
    write_scalar(kind, int(address), int(old) + int(value))
    return old


@word
def atomic_cas(kind: Any, address: Any, expected: Any, new: Any) -> Any:
    """Atomic compare and swap; returns the old value (equal to `expected` on success)."""
    old = read_scalar(kind, int(address))
    if old == expected:
        write_scalar(kind, int(address), new)
    return old


@word
def fence() -> None:
    """A full memory barrier."""


@word
def light_fence() -> None:
    """A memory barrier that lets only an earlier store pass a later load."""


@word
def relax() -> None:
    """A hint to the host inside a spin loop."""


# ---- bits ----------------------------------------------------------------------------------------------------------


@word
def clz(value: Any) -> Any:
    """Leading zeros; the width for 0."""
    return type(value)(value.bits - (int(value) & ((1 << value.bits) - 1)).bit_length())


@word
def ctz(value: Any) -> Any:
    """Trailing zeros; the width for 0."""
    v = int(value)
    return type(value)(value.bits if v == 0 else (v & -v).bit_length() - 1)


@word
def popcount(value: Any) -> Any:
    """Number of one bits."""
    return type(value)((int(value) & ((1 << value.bits) - 1)).bit_count())


@word
def bswap(value: Any) -> Any:
    """Bytes in reverse order; 8-bit values are returned as they are."""
    size = value.bits // 8
    return type(value)(int.from_bytes((int(value) & ((1 << value.bits) - 1)).to_bytes(size, "little"), "big"))


@word
def rotl(value: Any, amount: Any) -> Any:
    """Rotate left; the amount is taken modulo the width."""
    n = int(amount) % value.bits
    return type(value)(int(value) << n | int(value) >> (value.bits - n))


# ---- host floating point, on bit patterns; round to nearest even ---------------------------------------------------


def _f64(bits: Any) -> float:
    value: float = _struct.unpack("<d", int(bits).to_bytes(8, "little"))[0]
    return value


def _b64(value: float) -> Any:
    return u64(int.from_bytes(_struct.pack("<d", value), "little"))


@word
def host_fadd(a: Any, b: Any) -> Any:
    """Double a + b by the host FPU."""
    return _b64(_f64(a) + _f64(b))


@word
def host_fsub(a: Any, b: Any) -> Any:
    """Double a - b by the host FPU."""
    return _b64(_f64(a) - _f64(b))


@word
def host_fmul(a: Any, b: Any) -> Any:
    """Double a * b by the host FPU."""
    return _b64(_f64(a) * _f64(b))


@word
def host_fdiv(a: Any, b: Any) -> Any:
    """Double a / b by the host FPU; b is not zero in Python."""
    return _b64(_f64(a) / _f64(b))


@word
def host_fma(a: Any, b: Any, c: Any) -> Any:
    """Double a * b + c with one rounding, by the host FPU."""
    from fractions import Fraction

    return _b64(float(Fraction(_f64(a)) * Fraction(_f64(b)) + Fraction(_f64(c))))


@word
def host_f64_to_f32(a: Any) -> Any:
    """Double to single bits, rounded to nearest even."""
    return u32(int.from_bytes(_struct.pack("<f", _f64(a)), "little"))


@word
def host_f32_to_f64(a: Any) -> Any:
    """Single bits to double bits."""
    return _b64(_struct.unpack("<f", int(a).to_bytes(4, "little"))[0])


@word
def host_i64_to_f64(a: Any) -> Any:
    """Signed 64-bit integer to double."""
    return _b64(float(int(i64(a))))


@word
def host_f64_to_i64(a: Any) -> Any:
    """Double to signed 64-bit integer, toward zero; the value fits."""
    return i64(int(_f64(a)))


@word
def host_flt(a: Any, b: Any) -> bool:
    """a < b, false when unordered."""
    return _f64(a) < _f64(b)


@word
def host_feq(a: Any, b: Any) -> bool:
    """a == b, false when unordered."""
    return _f64(a) == _f64(b)


@word
def host_funordered(a: Any, b: Any) -> bool:
    """Either is a NaN."""
    return _f64(a) != _f64(a) or _f64(b) != _f64(b)


def host_has_fma() -> bool:
    """Whether `host_fma` is an instruction of the host; a compile-time constant."""
    from .llvm import host_features

    return bool(host_features().get("fma"))


@word
def host_fp_flags() -> Any:
    """The host FPU's sticky exception flags as x86 MXCSR bits 0..5 (IE DE ZE OE UE PE)."""
    return u32(0)


@word
def host_fp_clear() -> None:
    """Clear the sticky flags, default control word."""


# ---- calls out -----------------------------------------------------------------------------------------------------


@word
def call_host(result: Any, function: Any, *args: Any) -> Any:
    """Call a C function by address; integer arguments and result (`result` is a type or None)."""
    kinds = [ctypes.c_uint64 for _ in args]
    kind = None if result is None else ctypes.c_int64
    value = ctypes.CFUNCTYPE(kind, *kinds)(int(function))(*(int(a) & (1 << 64) - 1 for a in args))
    return None if result is None else result(value)
