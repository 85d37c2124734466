"""Struct layouts shared by native code and Python.

A layout is a class with annotated fields, laid out as C would::

    class Timer(Struct):
        deadline: u64
        counts: Array[u32, 4]
        vm: Ptr["Vm"]

Native code sees a pointer; Python sees a view over the same bytes (`Timer.at(address)`), whose attributes are typed
integers. There is one declaration of every field and every offset is derived from it.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .ints import INTS, Fixed


@dataclass(frozen=True)
class ArrayType:
    """`count` elements of `element` (an integer type, a Struct, or another array)."""

    element: Any
    count: int


@dataclass(frozen=True)
class PtrType:
    """A pointer to a Struct, given by class or by name in the declaring module."""

    target: Any


if TYPE_CHECKING:
    # Fields are seen as views by Python and as values by the compiler: no one type fits both.
    Array: Any
    Ptr: Any
else:

    class Array:
        """`Array[u32, 4]` in a field annotation."""

        def __class_getitem__(cls, item: tuple[Any, int]) -> ArrayType:
            return ArrayType(*item)

    class Ptr:
        """`Ptr[Vm]` or `Ptr["Vm"]` in a field annotation."""

        def __class_getitem__(cls, target: Any) -> PtrType:
            return PtrType(target)


@dataclass(frozen=True)
class Field:
    """One laid-out field: byte offset and type."""

    name: str
    offset: int
    type: Any


_CTYPES = {
    (8, False): ctypes.c_uint8, (16, False): ctypes.c_uint16, (32, False): ctypes.c_uint32,
    (64, False): ctypes.c_uint64, (8, True): ctypes.c_int8, (16, True): ctypes.c_int16,
    (32, True): ctypes.c_int32, (64, True): ctypes.c_int64,
}  # fmt: skip


def size_of(kind: Any) -> int:
    """Size in bytes of an integer type, a Struct class, an array or a pointer."""
    if isinstance(kind, ArrayType):
        return size_of(kind.element) * kind.count
    if isinstance(kind, PtrType):
        return 8
    return int(kind.size)


def align_of(kind: Any) -> int:
    """Natural alignment in bytes."""
    if isinstance(kind, ArrayType):
        return align_of(kind.element)
    if isinstance(kind, PtrType):
        return 8
    if issubclass(kind, Struct):
        return int(kind.align)
    return int(kind.size)


_CTYPE_OF: dict[Any, Any] = {kind: _CTYPES[kind.bits, kind.signed] for kind in INTS if kind.bits <= 64}
_new = int.__new__


def read_scalar(kind: type[Fixed], address: int) -> Any:
    """Read one host-endian integer at a host address."""
    ctype = _CTYPE_OF.get(kind)
    if ctype is None:
        return kind(int.from_bytes(ctypes.string_at(address, kind.bits // 8), "little"))
    return _new(kind, ctype.from_address(address).value)


def write_scalar(kind: type[Fixed], address: int, value: int) -> None:
    """Write one host-endian integer at a host address."""
    ctype = _CTYPE_OF.get(kind)
    if ctype is None:
        size = kind.bits // 8
        ctypes.memmove(address, (int(value) & ((1 << kind.bits) - 1)).to_bytes(size, "little"), size)
    else:
        ctype.from_address(address).value = value


class ArrayView:
    """An array inside a struct, seen from Python."""

    __slots__ = ("address", "element", "count", "step")

    def __init__(self, kind: ArrayType, address: int) -> None:
        self.address, self.element, self.count = address, kind.element, kind.count
        self.step = size_of(kind.element)

    def __len__(self) -> int:
        return self.count

    def _at(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"index {int(index)} of an array of {self.count}")
        return self.address + int(index) * self.step

    def __getitem__(self, index: int) -> Any:
        return _get(self.element, self._at(index))

    def __setitem__(self, index: int, value: int) -> None:
        write_scalar(self.element, self._at(index), value)


class ScalarArrayView(ArrayView):
    """An array of integers of up to 64 bits: the same, quicker."""

    __slots__ = ("_raw",)

    def __init__(self, kind: ArrayType, address: int) -> None:
        super().__init__(kind, address)
        self._raw = (_CTYPE_OF[kind.element] * kind.count).from_address(address)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(f"index {int(index)} of an array of {self.count}")
        return _new(self.element, self._raw[index])

    def __setitem__(self, index: int, value: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"index {int(index)} of an array of {self.count}")
        self._raw[index] = value


class StructArrayView(ArrayView):
    """An array of structs."""

    __slots__ = ()

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(f"index {int(index)} of an array of {self.count}")
        return self.element(self.address + int(index) * self.step)


def _get(kind: Any, address: int) -> Any:
    if isinstance(kind, ArrayType):
        if kind.element in _CTYPE_OF:
            return ScalarArrayView(kind, address)
        nested = isinstance(kind.element, type) and issubclass(kind.element, Struct)
        return (StructArrayView if nested else ArrayView)(kind, address)
    if isinstance(kind, PtrType):
        return resolve_target(kind).at(ctypes.c_uint64.from_address(address).value)
    if issubclass(kind, Struct):
        return kind.at(address)
    return read_scalar(kind, address)


def resolve_target(kind: PtrType) -> type[Struct]:
    """The Struct class a pointer field points to."""
    if isinstance(kind.target, str):
        return Struct.by_name[kind.target]
    target: type[Struct] = kind.target
    return target


def _property(field: Field) -> property:
    """A field's attribute. Views of what lies inside a struct, and of what it points to, are kept."""
    kind, offset, name = field.type, field.offset, field.name
    ctype = None if isinstance(kind, (ArrayType, PtrType)) else _CTYPE_OF.get(kind)

    def get_scalar(self: Struct) -> Any:
        return _new(kind, ctype.from_address(self.address + offset).value)  # type: ignore[union-attr]

    def set_scalar(self: Struct, value: Any) -> None:
        ctype.from_address(self.address + offset).value = value  # type: ignore[union-attr]

    if ctype is not None:
        return property(get_scalar, set_scalar)

    def get_inside(self: Struct) -> Any:
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = _get(kind, self.address + offset)
        return view

    def get_target(self: Struct) -> Any:
        address = ctypes.c_uint64.from_address(self.address + offset).value
        view = self._views.get(name)
        if view is None or view.address != address:
            view = self._views[name] = resolve_target(kind).at(address)
        return view

    def get(self: Struct) -> Any:
        return _get(kind, self.address + offset)

    def set_(self: Struct, value: Any) -> None:
        if isinstance(kind, PtrType):
            ctypes.c_uint64.from_address(self.address + offset).value = int(getattr(value, "address", value))
        else:
            write_scalar(kind, self.address + offset, value)

    if isinstance(kind, PtrType):
        return property(get_target, set_)
    inside = isinstance(kind, ArrayType) or issubclass(kind, Struct)
    return property(get_inside if inside else get, set_)


class Struct:
    """Base of layouts; see the module's text. `size` and `align` in bytes, `fields` by name."""

    size: ClassVar[int] = 0
    align: ClassVar[int] = 1
    fields: ClassVar[dict[str, Field]] = {}
    by_name: ClassVar[dict[str, type[Struct]]] = {}
    __slots__ = ("address", "_owner", "_views")

    def __init_subclass__(cls) -> None:
        scope = vars(sys.modules[cls.__module__])
        offset, align, fields = cls.size, cls.align, dict(cls.fields)
        for name, note in vars(cls).get("__annotations__", {}).items():
            kind = eval(note, scope) if isinstance(note, str) else note
            step = align_of(kind)
            offset = (offset + step - 1) & -step
            fields[name] = Field(name, offset, kind)
            setattr(cls, name, _property(fields[name]))
            offset += size_of(kind)
            align = max(align, step)
        cls.align, cls.fields = align, fields
        cls.size = (offset + align - 1) & -align
        Struct.by_name[cls.__name__] = cls

    def __init__(self, address: int, owner: Any = None) -> None:
        self.address = address
        self._owner = owner
        self._views: dict[str, Any] = {}

    @classmethod
    def at(cls, address: int) -> Any:
        """A view of the struct at a host address."""
        return cls(int(address))

    @classmethod
    def new(cls) -> Any:
        """A zeroed instance in memory of its own, for tests and the oracle."""
        buffer = ctypes.create_string_buffer(cls.size + 64)
        return cls((ctypes.addressof(buffer) + 63) & ~63, buffer)

    @classmethod
    def offset(cls, name: str) -> int:
        """Byte offset of a field."""
        return cls.fields[name].offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Struct) and self.address == other.address

    def __hash__(self) -> int:
        return self.address
