"""Faults that hardware has and tests want: flipped bits, lost interrupts, devices that fail, lie or are stuck."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ..errors import UserError
from ..machine import Hook, Machine
from ..machine.events import Access

Where = str | int | range


class LostInterrupts:
    """Interrupts of a source that do not arrive, until `undo` or the end of a `with` block."""

    def __init__(self, machine: Machine, source: int, count: int | None) -> None:
        self._machine, self._line = machine, machine.mpic.line(source)
        self._before = self._line.dropped
        machine.changed()
        with machine.lock:
            self._line.dropping = -1 if count is None else count

    @property
    def count(self) -> int:
        """How many were lost."""
        return self._line.dropped - self._before

    def undo(self) -> None:
        """Lose no more; a device that still asks for its interrupt is heard now."""
        with self._machine.lock:
            self._line.heal()

    def __enter__(self) -> LostInterrupts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


class Faults:
    """Injects faults into a machine; `clear` ends those that last."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._undo: list[Callable[[], None]] = []

    def clear(self) -> None:
        """End every fault that lasts; bits that were flipped stay as they are."""
        while self._undo:
            self._undo.pop()()

    # ---- once ------------------------------------------------------------------------------------------------------

    def flip(self, address: int, bit: int, size: int = 1) -> int:
        """Flip a bit of physical memory (0: the least significant) of the number of `size` bytes; its new value."""
        if not 0 <= bit < 8 * size:
            raise UserError(f"faults.flip 0x{address:x}: {size} byte{'s' * (size > 1)} have bits 0 to {8 * size - 1}")
        memory = self._machine.memory
        with self._machine.lock:
            value = int.from_bytes(memory.read(address, size), "big") ^ 1 << bit
            memory.write(address, value.to_bytes(size, "big"))
        return value

    def flip_register(self, name: str, bit: int, cpu: int = 0) -> int:
        """Flip a bit of a register (0: the least significant); its new value. The machine is held, or in a hook."""
        regs, bits = self._machine.cpus[cpu].regs, self._machine.cpus[cpu].core.bits
        bits = 128 if name[:1] == "v" and name[1:].isdigit() else 64 if name[:1] == "f" and name[1:].isdigit() else bits
        if not 0 <= bit < bits:
            raise UserError(f"faults.flip_register {name}: it has bits 0 to {bits - 1}")
        regs[name] ^= 1 << bit
        return regs[name]

    # ---- lasting ---------------------------------------------------------------------------------------------------

    def drop_interrupts(self, source: int, count: int | None = None) -> LostInterrupts:
        """Lose what a device raises on an input of the interrupt controller: the next `count` times, or always.

        Message interrupts have no pin: `mmio` on the write of the message instead.
        """
        lost = LostInterrupts(self._machine, source, count)
        self._undo.append(lost.undo)
        return lost

    def mmio(
        self, where: Where, register: str | None = None, *, error: bool = False, drop: bool = False,
        stuck: int | None = None, flip: int = 0, reads: bool = True, writes: bool = True, after: int = 0,
        count: int | None = None,
    ) -> Hook[Access]:  # fmt: skip
        """Let accesses to a device go wrong, in one way; places are those of `machine.hooks.mmio`.

        `error`: nothing answers, a machine check. `drop`: writes do nothing, reads give 0. `stuck`: reads give this
        value, writes do nothing. `flip`: bits of the value that are inverted. The first `after` accesses are spared,
        and those after `count` wrong ones. The hook that is returned ends it by `remove`.
        """
        if (error, drop, stuck is not None, bool(flip)).count(True) != 1:
            raise UserError("faults.mmio: give one of error=True, drop=True, stuck=VALUE and flip=BITS")
        met = 0

        def disturb(access: Access) -> None:
            nonlocal met
            met += 1
            if met <= after or count is not None and met > after + count:
                return
            if error:
                access.fail()
            elif drop or stuck is not None and access.write:
                access.drop()
            elif stuck is not None:
                access.value = stuck
            else:
                access.value ^= flip & (1 << 8 * access.size) - 1

        hook = self._machine.hooks.mmio(where, register, disturb, reads=reads, writes=writes)
        self._undo.append(hook.remove)
        return hook
