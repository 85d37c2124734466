"""Processor doorbells, category E.PC (Book III-E, chapter 9)."""

from __future__ import annotations

from ..isa.registers import SPR
from ..native.ints import u32, u64
from ..native.lang import at, atomic_and, atomic_or, field_addr, native
from .locks import wake
from .state import Doorbell, Request, Vcpu
from .timers import host_ns
from .timing import Latency, raised


class Message:
    """Fields of the message in rB."""

    BRDCAST = 0x0400_0000
    LPIDTAG = 0x003F_C000
    PIRTAG = 0x0000_3FFF
    GUEST = 2
    TYPES = 5  # 0 doorbell, 1 critical; with category E.HV 2 guest, 3 guest critical, 4 guest machine check


@native
def accepts(cpu: Vcpu, message: u32) -> bool:
    """Whether a vCPU accepts a message: its partition and number are meant, guest types by GPIR, the others by PIR."""
    tag = (message & Message.LPIDTAG) >> 14
    if tag != 0 and tag != u32(cpu.spr[SPR.LPIDR]) and cpu.core.virtual == 0:
        return False
    number = u32(cpu.spr[SPR.GPIR]) if message >> 27 >= Message.GUEST else u32(cpu.spr[SPR.PIR])
    return message & Message.BRDCAST != 0 or number & Message.PIRTAG == message & Message.PIRTAG


@native
def send(cpu: Vcpu, message: u32) -> None:
    """msgsnd: to every vCPU of the machine that accepts it; undefined types are ignored."""
    kind = message >> 27
    if kind >= Message.TYPES or kind >= Message.GUEST and cpu.core.virtual:
        return
    for n in range(cpu.vm.vcpu_count):
        other = at(Vcpu, cpu.vm.vcpus[n])
        if accepts(other, message):
            bit = u32(Doorbell.DBELL) << kind
            if other.timing != 0 and bit & Doorbell.DBELL & ~other.doorbells:
                raised(other, u32(Latency.DOORBELL), u64(host_ns(cpu)))
            atomic_or(u32, field_addr(other, "doorbells"), bit)
            wake(other, u32(Request.LINES))


@native
def clear(cpu: Vcpu, message: u32) -> None:
    """msgclr: forget a pending message of that type that this vCPU accepted."""
    kind = message >> 27
    if kind < Message.TYPES:
        atomic_and(u32, field_addr(cpu, "doorbells"), ~(u32(Doorbell.DBELL) << kind))
