"""Registers as data: classes with named fields, placed at offsets of a device.

    class Rstcr(Reg):
        reset_request = Field(1)

    class Guts(Device):
        rstcr = Register(0xB0, Rstcr)

        @rstcr.written
        def _on_rstcr(self, old: int, new: int) -> None: ...

Bits are numbered as in the value, 0 is the least significant. `guts.rstcr.reset_request` reads a field,
assignment sets it whatever its access says; the access rules hold for the guest only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, cast, overload

Access = Literal["rw", "ro", "wo", "w1c"]
Hook = TypeVar("Hook", bound=Callable[..., Any])


class Field:
    """Bits `hi`..`lo` of a register: an int attribute of it.

    `access` is the guest's: rw, ro (writes ignored), wo (reads as 0) or w1c (writing 1 clears).
    """

    def __init__(self, hi: int, lo: int | None = None, access: Access = "rw", reset: int = 0, doc: str = "") -> None:
        self.hi, self.lo = hi, hi if lo is None else lo
        self.access, self.reset, self.doc = access, reset, doc
        if not self.hi >= self.lo >= 0:
            raise TypeError(f"no field has bits {self.hi}..{self.lo}")
        self.ones = (1 << (self.hi - self.lo + 1)) - 1
        self.mask = self.ones << self.lo

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, reg: None, owner: type) -> Field: ...
    @overload
    def __get__(self, reg: Reg, owner: type) -> int: ...
    def __get__(self, reg: Reg | None, owner: type) -> Field | int:
        return self if reg is None else reg.value >> self.lo & self.ones

    def __set__(self, reg: Reg, value: int) -> None:
        if value & ~self.ones:
            raise ValueError(f"{type(reg).__name__}.{self.name}: 0x{value:x} does not fit its field")
        reg.value = reg.value & ~self.mask | value << self.lo


class _Cell:
    """Where a register's value is kept."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class Reg:
    """A register's value. Bits that no field names read as 0 and ignore writes."""

    width: ClassVar[int] = 32
    fields: ClassVar[dict[str, Field]] = {}
    reset_value: ClassVar[int] = 0
    _rw: ClassVar[int] = 0
    _w1c: ClassVar[int] = 0
    _readable: ClassVar[int] = 0

    __slots__ = ("_cell",)

    def __init_subclass__(cls) -> None:
        cls.fields = {k: v for k, v in vars(cls).items() if isinstance(v, Field)} or cls.fields
        used = {"rw": 0, "ro": 0, "wo": 0, "w1c": 0}
        cls.reset_value = 0
        for name, f in cls.fields.items():
            if f.hi >= cls.width:
                raise TypeError(f"{cls.__name__}.{name} is outside its {cls.width} bits")
            if sum(used.values()) & f.mask:
                raise TypeError(f"{cls.__name__}.{name} overlaps another field")
            used[f.access] |= f.mask
            cls.reset_value |= f.reset << f.lo
        cls._rw, cls._w1c = used["rw"] | used["wo"], used["w1c"]
        cls._readable = used["rw"] | used["ro"] | used["w1c"]

    def __init__(self, value: int | None = None) -> None:
        self._cell: _Cell | ctypes.c_uint64 = _Cell(self.reset_value if value is None else value)

    @property
    def value(self) -> int:
        """All bits."""
        return self._cell.value

    @value.setter
    def value(self, value: int) -> None:
        self._cell.value = value

    def share(self) -> ctypes.c_uint64:
        """The value's place from now on, which native code may read and write as well."""
        if not isinstance(self._cell, ctypes.c_uint64):
            self._cell = ctypes.c_uint64(self._cell.value)
        return self._cell

    @property
    def plain_mask(self) -> int:
        """The bits of a register whose every bit can be read and written, else 0."""
        return self._rw if self._rw == self._readable and not self._w1c else 0

    def guest_read(self) -> int:
        """What the guest reads."""
        return self.value & self._readable

    def guest_write(self, new: int, lanes: int) -> None:
        """Store `new` by the access rules; only the bits in `lanes` are being written."""
        rw = self._rw & lanes
        self.value = (self.value & ~rw | new & rw) & ~(new & self._w1c & lanes)

    def __repr__(self) -> str:
        fields = " ".join(f"{name}={f.__get__(self, Reg):#x}" for name, f in self.fields.items())
        return f"{type(self).__name__}(0x{self.value:0{self.width // 4}x} {fields})"


class Byte(Reg):
    """Eight plain bits."""

    width = 8
    bits = Field(7, 0)


class Word(Reg):
    """Thirty-two plain bits."""

    bits = Field(31, 0)


class RoWord(Reg):
    """Thirty-two bits the guest can only read."""

    bits = Field(31, 0, "ro")


class NamedRegister(NamedTuple):
    """What traces and statistics call a register: its name, with an index in arrays, where it begins, its bytes.

    `kind` has its fields, as far as they are those of what is read (or written).
    """

    name: str
    offset: int
    bytes: int
    read_kind: type[Reg] | None = None
    write_kind: type[Reg] | None = None


R = TypeVar("R", bound=Reg)


class Placed(Generic[R]):
    """A register class at an offset of a device, `n` times `stride` apart when it is an array."""

    def __init__(self, offset: int, kind: type[R], n: int, stride: int, reset: int | None) -> None:
        self.offset, self.kind, self.n, self.stride = offset, kind, n, stride
        self.reset = kind.reset_value if reset is None else reset
        self.bytes = kind.width // 8
        self.hooks: dict[str, str] = {}
        if offset % self.bytes or stride % self.bytes or (n > 1 and stride < self.bytes):
            raise TypeError(f"{kind.__name__} at 0x{offset:x} is not naturally aligned")

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def _hook(self, kind: str, method: Hook) -> Hook:
        if kind in self.hooks:
            raise TypeError(f"{self.name}: two hooks of kind {kind}")
        self.hooks[kind] = method.__name__
        return method

    def read(self, method: Hook) -> Hook:
        """Hook `(self[, index]) -> int`: what the guest reads, instead of the stored value."""
        return self._hook("read", method)

    def write(self, method: Hook) -> Hook:
        """Hook `(self[, index], value)`: takes the guest's write, instead of storing it."""
        return self._hook("write", method)

    def written(self, method: Hook) -> Hook:
        """Hook `(self[, index], old, new)`: after the guest's write was stored."""
        return self._hook("written", method)


class Register(Placed[R]):
    """One register: `device.name` is its Reg."""

    def __init__(self, offset: int, kind: type[R], reset: int | None = None) -> None:
        super().__init__(offset, kind, 1, 0, reset)

    @overload
    def __get__(self, device: None, owner: type) -> Register[R]: ...
    @overload
    def __get__(self, device: object, owner: type) -> R: ...
    def __get__(self, device: Any, owner: type) -> Register[R] | R:
        return self if device is None else cast(R, device.registers[self.name][0])


class RegisterArray(Placed[R]):
    """`n` registers `stride` bytes apart: `device.name[i]` is a Reg."""

    def __init__(self, offset: int, kind: type[R], n: int, stride: int, reset: int | None = None) -> None:
        super().__init__(offset, kind, n, stride, reset)

    @overload
    def __get__(self, device: None, owner: type) -> RegisterArray[R]: ...
    @overload
    def __get__(self, device: object, owner: type) -> list[R]: ...
    def __get__(self, device: Any, owner: type) -> RegisterArray[R] | list[R]:
        return self if device is None else cast("list[R]", device.registers[self.name])
