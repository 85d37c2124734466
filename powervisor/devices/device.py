"""What every device is: registers, typed state, counters, interrupt pins, a device-tree node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Protocol, TypeVar, cast

from powervisor.devices.irq import IrqOutput
from powervisor.devices.registers import NamedRegister, Placed, Reg

T = TypeVar("T")


class TreeNode(Protocol):
    """The device-tree node a device describes itself in; see boards/devicetree.py."""

    def set(self, name: str, *value: int | str | bytes) -> Any:
        """Set property `name`: cells, strings, bytes, or empty."""

    def child(self, name: str) -> Any:
        """A new node below this one."""


class State:
    """One declared piece of a device's state; use `state()`."""

    def __init__(self, initial: Callable[[], Any], keep: bool) -> None:
        self.initial, self.keep = initial, keep


def state(initial: Callable[[], T], *, keep: bool = False) -> T:
    """Declare state that is saved, restored and (unless `keep`) reset: `count: int = state(int)`.

    `initial()` makes the value after reset; ints, bools, strings, bytes, bytearrays and lists of ints.
    """
    return cast(T, State(initial, keep))


class Counters:
    """What a device met, without what native code answered for it.

    `unknown` maps offsets without a register to the number of accesses.
    """

    MAX_OFFSETS = 256  # a guest that scans its address space must not fill the host's memory

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0
        self.unknown: dict[int, int] = {}
        self.unknown_elsewhere = 0

    @property
    def accesses(self) -> int:
        return self.reads + self.writes

    def count_unknown(self, offset: int) -> None:
        """Note an access to `offset`, where nothing is."""
        if offset in self.unknown or len(self.unknown) < self.MAX_OFFSETS:
            self.unknown[offset] = self.unknown.get(offset, 0) + 1
        else:
            self.unknown_elsewhere += 1


class _Slot:
    """One register at one offset, with its hooks bound to the device."""

    __slots__ = ("base", "bytes", "mask", "name", "read", "reg", "write", "written")

    def __init__(self, device: Device, placed: Placed[Any], index: int, reg: Reg) -> None:
        self.name = placed.name if placed.n == 1 else f"{placed.name}[{index}]"
        self.base = placed.offset + index * placed.stride
        self.bytes = placed.bytes
        self.mask = (1 << reg.width) - 1
        self.reg = reg

        def bind(kind: str) -> Callable[..., Any] | None:
            name = placed.hooks.get(kind)
            if name is None:
                return None
            method = getattr(device, name)
            return method if placed.n == 1 else lambda *a: method(index, *a)

        self.read, self.write, self.written = bind("read"), bind("write"), bind("written")

    def load(self) -> int:
        return self.read() & self.mask if self.read else self.reg.guest_read()

    def store(self, value: int, lanes: int) -> None:
        if self.write:
            self.write(value if lanes == self.mask else self.reg.value & ~lanes | value)
            return
        old = self.reg.value
        self.reg.guest_write(value, lanes)
        if self.written:
            self.written(old, self.reg.value)


class Device:
    """Base of all devices with a register window.

    An access that matches a register is that register's; a narrower one touches its byte lanes
    (big-endian, as the bus numbers them); a wider one is taken apart in address order.
    """

    size: ClassVar[int] = 0x1000
    """Bytes of the register window."""
    compatible: ClassVar[tuple[str, ...]] = ()
    device_type: ClassVar[str | None] = None

    _placed: ClassVar[dict[str, Placed[Any]]] = {}
    _state: ClassVar[dict[str, State]] = {}

    def __init_subclass__(cls) -> None:
        cls._placed = {**cls._placed, **{k: v for k, v in vars(cls).items() if isinstance(v, Placed)}}
        own = {k: v for k, v in vars(cls).items() if isinstance(v, State)}
        cls._state = {**cls._state, **own}
        for name in own:  # from now on an instance attribute
            delattr(cls, name)

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters = Counters()
        self.on_unknown: Callable[[], None] = lambda: None
        """Told of each access where no register is."""
        self.irq = IrqOutput()
        self.registers: dict[str, list[Reg]] = {
            name: [placed.kind(placed.reset) for _ in range(placed.n)] for name, placed in self._placed.items()
        }
        for attribute, declared in self._state.items():
            setattr(self, attribute, declared.initial())
        self._slots: dict[int, _Slot] = {}
        for register, placed in self._placed.items():
            for index, reg in enumerate(self.registers[register]):
                slot = _Slot(self, placed, index, reg)
                for offset in range(slot.base, slot.base + slot.bytes):
                    if offset in self._slots or offset >= self.size:
                        raise TypeError(f"{type(self).__name__}.{register} overlaps or leaves the window")
                    self._slots[offset] = slot
        self._settle()

    # -- the guest's side

    def read(self, offset: int, size: int, cpu: int = 0) -> int:
        """The big-endian value of `size` bytes at `offset`; 0 where no register is."""
        self.counters.reads += 1
        slot = self._slots.get(offset)
        if slot is not None and slot.base == offset and slot.bytes == size:
            return slot.load()
        value, end = 0, offset + size
        while offset < end:
            slot = self._slots.get(offset)
            if slot is None:
                self.unknown(offset)
                value, offset = value << 8, offset + 1
                continue
            n = min(end, slot.base + slot.bytes) - offset
            below = 8 * (slot.base + slot.bytes - offset - n)
            value = value << 8 * n | slot.load() >> below & (1 << 8 * n) - 1
            offset += n
        return value

    def write(self, offset: int, size: int, value: int, cpu: int = 0) -> None:
        """Store `value` of `size` bytes at `offset`; ignored where no register is."""
        self.counters.writes += 1
        slot = self._slots.get(offset)
        if slot is not None and slot.base == offset and slot.bytes == size:
            slot.store(value & slot.mask, slot.mask)
            return
        end = offset + size
        while offset < end:
            slot = self._slots.get(offset)
            if slot is None:
                self.unknown(offset)
                offset += 1
                continue
            n = min(end, slot.base + slot.bytes) - offset
            below = 8 * (slot.base + slot.bytes - offset - n)
            ones = (1 << 8 * n) - 1
            slot.store((value >> 8 * (end - offset - n) & ones) << below, ones << below)
            offset += n

    def unknown(self, offset: int) -> None:
        """Count and tell an access to `offset`, where no register is."""
        self.counters.count_unknown(offset)
        self.on_unknown()

    # -- the machine's side

    def register_at(self, offset: int) -> NamedRegister | None:
        """What is called by the name of a register at `offset`; None where nothing is.

        What a hook makes up for a read has the register's fields if any of them is the device's to set.
        """
        slot = self._slots.get(offset)
        if slot is None:
            return None
        kind = type(slot.reg)
        as_read = slot.read is None or any(field.access == "ro" for field in kind.fields.values())
        return NamedRegister(slot.name, slot.base, slot.bytes, kind if as_read else None, kind)

    def plain_registers(self) -> Iterator[tuple[int, int, Reg]]:
        """Offset, bytes and value of each register that does nothing but hold bits: native code may answer for it."""
        if type(self).read is Device.read and type(self).write is Device.write:
            for offset, slot in self._slots.items():
                hooked = slot.read or slot.write or slot.written
                if offset == slot.base and not hooked and slot.reg.plain_mask:
                    yield offset, slot.bytes, slot.reg

    def reset(self) -> None:
        """Return to the state after power-on, except for what is declared as kept."""
        for name, placed in self._placed.items():
            for reg in self.registers[name]:
                reg.value = placed.reset
        for attribute, declared in self._state.items():
            if not declared.keep:
                setattr(self, attribute, declared.initial())
        self._settle()

    def _settle(self) -> None:
        """Bring everything derived (pins, timers, decoded windows) in line with the state.

        Called after construction, reset and restore; must depend on saved state alone.
        """

    def still(self) -> AbstractContextManager[object]:
        """Nothing is done for the guest meanwhile by threads of the device's own; entered under the machine's lock."""
        return nullcontext()

    def unsaved(self) -> str:
        """What the guest has of the device that cannot be saved, for people; empty when there is nothing."""
        return ""

    def save(self) -> dict[str, Any]:
        """All state by name, in plain values; while the device is `still`."""
        saved: dict[str, Any] = {
            "registers": {name: [reg.value for reg in regs] for name, regs in self.registers.items()}
        }
        for attribute in self._state:
            value = getattr(self, attribute)
            saved[attribute] = bytes(value) if isinstance(value, bytearray) else _copy(value)
        return saved

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned, while the device is `still`. Names that are missing get their reset value.

        Raises ValueError for names or sizes this device does not have; the device is then unchanged.
        """
        registers = saved.get("registers", {})
        unknown = sorted({*saved} - {*self._state, "registers"} | {*registers} - {*self.registers})
        if unknown:
            raise ValueError(f"{self.name}: saved state has unknown parts: {', '.join(unknown)}")
        for name, values in registers.items():
            if len(values) != len(self.registers[name]):
                raise ValueError(f"{self.name}: saved state has {len(values)} of register {name}")
        for name, regs in self.registers.items():
            values = registers.get(name, [self._placed[name].reset] * len(regs))
            for reg, value in zip(regs, values, strict=True):
                reg.value = value
        for attribute, declared in self._state.items():
            initial = declared.initial()
            value = saved.get(attribute, initial)
            setattr(self, attribute, bytearray(value) if isinstance(initial, bytearray) else _copy(value))
        self._settle()

    def resumed(self) -> None:
        """Everything was restored: tell the driver what has changed on the host since it was saved."""

    def close(self) -> None:
        """Free what is the host's: threads, files, views of guest memory. The vCPUs have stopped; not under a lock."""

    def parts(self) -> list[Device]:
        """Devices inside this one, with state and counters of their own."""
        return []

    def irqs(self) -> dict[str, IrqOutput]:
        """All interrupt pins by name."""
        return {"irq": self.irq}

    def statistics(self) -> dict[str, int]:
        """Counters by name: reads, writes, interrupts by pin, accesses without register by offset."""
        counters = self.counters
        numbers = {"reads": counters.reads, "writes": counters.writes}
        numbers |= {f"{pin} raised": output.raised for pin, output in self.irqs().items()}
        numbers |= {f"unknown 0x{offset:x}": count for offset, count in sorted(counters.unknown.items())}
        if counters.unknown_elsewhere:
            numbers["unknown elsewhere"] = counters.unknown_elsewhere
        return {name: number for name, number in numbers.items() if number}

    def fdt(self, node: TreeNode) -> None:
        """Add to `node` what only the device knows; the board has set compatible, reg and interrupts."""


def _copy(value: Any) -> Any:
    return [_copy(item) for item in value] if isinstance(value, (list, tuple)) else value
