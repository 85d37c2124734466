"""What hooks are told: device accesses, interrupts, system calls, exits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UserError
from ..hv.exits import Exit
from ..isa.registers import IVOR

if TYPE_CHECKING:
    from .cpu import Cpu

INTERRUPTS = {name: number for name, number in vars(IVOR).items() if name.isupper()}
"""Numbers of the interrupts by name: the n of IVORn."""
INTERRUPT_NAMES: dict[int | None, str] = {number: name for name, number in INTERRUPTS.items()}
_SAVED_BY_NUMBER = {
    IVOR.MACHINE_CHECK: "mcsrr", IVOR.DEBUG: "dsrr", IVOR.GUEST_DOORBELL: "gsrr",
    **dict.fromkeys(
        (IVOR.CRITICAL, IVOR.WATCHDOG, IVOR.CRITICAL_DOORBELL, IVOR.GUEST_CRITICAL_DOORBELL), "csrr"
    ),
}  # fmt: skip


class Access:
    """An access to a device, before the device knows of it.

    `value` is what is written, or what the device answers: a device is read when `value` is first asked for, and not
    at all if `value` was set. `drop` keeps a write from the device and lets a read give 0; `fail` lets nothing answer,
    which the guest gets as a machine check.
    """

    def __init__(
        self, cpu: Cpu, pa: int, size: int, value: int | None, place: tuple[str, str | None, int],
        read: Callable[[], int],
    ) -> None:  # fmt: skip
        self.cpu = cpu
        self.address = pa
        """Physical."""
        self.size = size
        """Bytes: 1, 2, 4 or 8."""
        self.write = value is not None
        self.device, self.register, self.offset = place
        """Names of the device and of its register (None where it names none), and where in the device's window."""
        self.dropped = self.failed = self.altered = False
        self._value, self._read = value, read

    @property
    def value(self) -> int:
        """What goes to the device or comes from it, as a big-endian number."""
        if self._value is None:
            self._value = self._read()
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        if not 0 <= value < 1 << 8 * self.size:
            raise UserError(f"{self}: {value:#x} does not fit into {self.size} byte{'s' * (self.size > 1)}")
        self._value, self.altered = value, True

    def drop(self) -> None:
        """The device never sees it."""
        self.dropped = self.altered = True

    def fail(self) -> None:
        """Nothing answers: the guest gets a machine check."""
        self.failed = self.altered = True

    def __str__(self) -> str:
        where = f"{self.device}.{self.register}" if self.register else f"{self.device}+0x{self.offset:x}"
        return f"{'write' if self.write else 'read'} of {where} on cpu{self.cpu.index}"


@dataclass(frozen=True)
class Interrupt:
    """An interrupt that was just taken: the next instruction of `cpu` is the first of its handler."""

    cpu: Cpu
    number: int
    """n of IVORn or GIVORn."""
    source: str | None = None
    """Of an external interrupt, the interrupt controller's input: "42", "ipi0", "timer3"."""

    @property
    def name(self) -> str:
        """The interrupt's name, EXTERNAL for one."""
        return INTERRUPT_NAMES.get(self.number, f"IVOR{self.number}")

    @property
    def guest(self) -> bool:
        """Whether a partition's guest took it itself (MSR[GS])."""
        return bool(self.cpu.msr.GS)

    @property
    def saved(self) -> str:
        """The pair of registers that hold where it came from: "srr", "csrr", "mcsrr", "dsrr" or "gsrr"."""
        return "gsrr" if self.guest else _SAVED_BY_NUMBER.get(self.number, "srr")

    @property
    def interrupted(self) -> int:
        """Effective address at which the interrupted program goes on."""
        return self.cpu.regs[f"{self.saved}0"]

    def return_(self) -> None:
        """Undo it: the interrupted program goes on where it was, as after an `rfi`; the handler sees nothing."""
        regs = self.cpu.regs
        regs["pc"], regs["msr"] = regs[f"{self.saved}0"], regs[f"{self.saved}1"]


class Syscall(Interrupt):
    """A system call (`sc`), just taken; number and arguments are where the ELF ABIs have them."""

    @property
    def call(self) -> int:
        """The number of the call: r0."""
        return self.cpu.regs["r0"]

    @property
    def arguments(self) -> tuple[int, ...]:
        """r3 to r8."""
        return tuple(self.cpu.regs[f"r{n}"] for n in range(3, 9))

    @property
    def pc(self) -> int:
        """Effective address of the `sc`."""
        return self.interrupted - 4

    def answer(self, value: int, failed: bool = False) -> None:
        """Return to the caller with r3 = `value`, the kernel unasked; `failed` sets CR0[SO], Linux's sign."""
        regs = self.cpu.regs
        regs["r3"], regs["cr"] = value, regs["cr"] & ~(1 << 28) | failed << 28
        self.return_()


@dataclass(frozen=True)
class Accessed:
    """The next instruction of `cpu` would access a watched byte."""

    cpu: Cpu
    address: int
    """Effective."""
    write: bool


@dataclass(frozen=True)
class Exited:
    """A vCPU left native code, and the exit was answered."""

    cpu: Cpu
    exit: Exit
    """Why: an object of `powervisor.hv.exits`."""
    seconds: float
    """Host time that the answer took."""
