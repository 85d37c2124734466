"""Why a vCPU came back: a closed set, in KVM's words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Scope(IntEnum):
    """What a reset covers, as DBCR0[RST] and DBSR[MRR] number it in the PPC440 manual and in QEMU.

    Book E leaves the values to the implementation, and Linux says of its names for them that Freescale's cores differ.
    """

    CORE = 1
    CHIP = 2
    SYSTEM = 3


@dataclass(slots=True)
class Mmio:
    """The guest accesses a device register: answer with `Vcpu.complete_read`, `complete_write` or `fail_access`."""

    pa: int
    size: int
    value: int
    write: bool
    failed: bool = False
    """Nothing answered: the guest gets a machine check."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The instructions granted have been executed."""


@dataclass(frozen=True, slots=True)
class Kick:
    """Another thread asked for the vCPU's attention."""


@dataclass(frozen=True, slots=True)
class Debug:
    """The next instruction is where a debugger stops, or `dnh` was executed."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The next instruction would access a byte that a debugger watches."""

    address: int
    write: bool


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt that was asked for (`Vm.hook_interrupts`) was taken: the next instruction is its vector's."""

    number: int
    """n of IVORn, of GIVORn in guest state."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The guest asked for a reset: DBCR0[RST] or the watchdog, `cause` says which.

    The vCPU runs on if it is let; it should be held until it is reset. `watchdog` is what TSR[WRS] is to hold then.
    """

    cause: str
    scope: Scope
    watchdog: int = 0


@dataclass(frozen=True, slots=True)
class Hcall:
    """The guest calls its hypervisor: answer with `Vcpu.complete_hcall`."""

    token: int
    arguments: tuple[int, ...]
    """The lower halves of r3 to r8."""


@dataclass(frozen=True, slots=True)
class Checkstop:
    """A fault that cannot be delivered to the guest."""

    reason: str


@dataclass(frozen=True, slots=True)
class CodeFull:
    """No room for translated code: flush it with every vCPU stopped."""


@dataclass(frozen=True, slots=True)
class Hot:
    """Code that is executed much: worth compiling better (see translate.tier1)."""


@dataclass(frozen=True, slots=True)
class NoHandler:
    """An instruction that is rare, met for the first time while the image is a quick one: compile its handler."""

    word: int


Exit = Mmio | Budget | Kick | Debug | Watched | Interrupt | Reset | Hcall | Checkstop | CodeFull | Hot | NoHandler
