"""Debug events of category E.ED: instruction and data address compare, branch taken, instruction complete, return.

While an event that needs it is enabled (`Vcpu.debug_events`), the engine executes one instruction at a time between
`debug_before` and `debug_after`, and every data access calls `debug_data`. Interrupt taken and trap events are in
`interrupts`.
"""

from __future__ import annotations

from ..isa.registers import DBCR0, DBCR1, DBCR2, DBSR, IVOR, MSR, SPR
from ..native.ints import u32, u64
from ..native.lang import native
from .interrupts import deliver, record, take
from .modes import STEP_EVENTS, undebugged
from .sprs import MORE_COMPARATORS
from .state import Vcpu
from .stops import watch_data

EVENTS = (
    DBSR.UDE | DBSR.ICMP | DBSR.BRT | DBSR.IRPT | DBSR.TRAP | DBSR.IAC1 | DBSR.IAC2 | DBSR.IAC3 | DBSR.IAC4 | DBSR.IAC5
    | DBSR.IAC6 | DBSR.IAC7 | DBSR.IAC8 | DBSR.DAC1R | DBSR.DAC1W | DBSR.DAC2R | DBSR.DAC2W | DBSR.RET | DBSR.CIRPT
    | DBSR.CRET
)  # fmt: skip
"""DBSR bits that are debug exceptions."""
ADDRESS_EVENTS = STEP_EVENTS & ~(DBCR0.ICMP | DBCR0.BRT)


@native(inline=True)
def logs_events(cpu: Vcpu) -> bool:
    """Whether debug events are recorded: DBCR0[IDM], and not in hypervisor state with EPCR[DUVD]."""
    return u32(cpu.spr[SPR.DBCR0]) & DBCR0.IDM != 0 and not undebugged(cpu, cpu.msr)


@native(inline=True)
def in_state(cpu: Vcpu, choice: u32) -> bool:
    """IACnUS, DACnUS: 0 any state, 2 supervisor, 3 user."""
    return choice == 0 or choice == u32(2) + (cpu.msr >> 14 & 1)


@native
def in_range(low: u64, high: u64, first: u64, last: u64, mode: u32) -> bool:
    """Whether [first, last] touches [low, high) (mode 2), or anything outside (mode 3)."""
    if mode == 2:
        return last >= low and first < high
    return first < low or last >= high


@native
def address_events(one: u64, two: u64, first: u64, last: u64, mode: u32) -> u32:
    """Which of two comparators match an access of the bytes first..last: bits 1 and 2."""
    if mode & 2:
        return u32(3) if in_range(one, two, first, last, mode) else u32(0)
    found = u32(0)
    if first <= one and one <= last:
        found |= 1
    if first <= two and two <= last:
        found |= 2
    return found


@native
def fetch_events(cpu: Vcpu, control: u32, first: u32, event: u32) -> u32:
    """DBSR bits of a pair of comparators: the first one's SPR and event, and their modes where DBCR1 has IAC1's."""
    found = address_events(cpu.spr[first], cpu.spr[first + 1], cpu.pc, cpu.pc, (control & DBCR1.IAC12M) >> 22)
    events = u32(0)
    if found & 1 and in_state(cpu, control >> 30):
        events |= event
    if found & 2 and in_state(cpu, control >> 26 & 3):
        events |= event >> 1
    return events


@native(cold=True)
def debug_before(cpu: Vcpu) -> None:
    """Before an instruction is fetched: instruction address compare; the interrupt comes before it executes."""
    cpu.debug_pc = cpu.pc
    cpu.debug_lr = cpu.spr[SPR.LR]
    cpu.debug_ctr = cpu.spr[SPR.CTR]
    control, events = u32(cpu.spr[SPR.DBCR1]), cpu.debug_events
    event = fetch_events(cpu, control, SPR.IAC1, DBSR.IAC1)
    if events & MORE_COMPARATORS:
        event |= fetch_events(cpu, control << 16, SPR.IAC3, DBSR.IAC3)
        control = u32(cpu.spr[SPR.DBCR5])
        event |= fetch_events(cpu, control, SPR.IAC5, DBSR.IAC5) | fetch_events(cpu, control << 16, SPR.IAC7, DBSR.IAC7)
    event = event & events
    if event:
        record(cpu, event, cpu.msr)
        if cpu.msr & MSR.DE:
            deliver(cpu, IVOR.DEBUG, cpu.pc)


@native
def branches(cpu: Vcpu, word: u32) -> bool:
    """Whether a word just executed was a branch that was taken (CTR is already decremented)."""
    opcode, extended = word >> 26, word >> 1 & 0x3FF
    if opcode == 18:
        return True
    if opcode != 16 and (opcode != 19 or (extended != 16 and extended != 528)):
        return False
    bo, bi = word >> 21 & 31, word >> 16 & 31
    if bo & 16 == 0 and u32(cpu.cr[bi >> 2]) >> (3 - (bi & 3)) & 1 != bo >> 3 & 1:
        return False
    if bo & 4:
        return True
    count = cpu.spr[SPR.CTR]
    if cpu.msr & MSR.CM == 0:
        count = count & 0xFFFF_FFFF
    return u32(count == 0) == bo >> 1 & 1


@native
def debug_after(cpu: Vcpu, word: u32, before: u32) -> None:
    """After an instruction completed, PC at the next: branch taken (which undoes the branch) and instruction complete.

    `before`: `debug_events` when the instruction began; an event it enabled itself comes with the next instruction,
    so that a debugger can step from an rfi. Both need MSR[DE], so neither is ever imprecise (Book III-E 8.4.4, 8.4.5).
    """
    events = cpu.debug_events & before
    if cpu.msr & MSR.DE == 0:
        return
    if events & DBCR0.BRT and branches(cpu, word):
        cpu.spr[SPR.LR] = cpu.debug_lr
        cpu.spr[SPR.CTR] = cpu.debug_ctr
        record(cpu, DBSR.BRT, cpu.msr)
        take(cpu, IVOR.DEBUG, cpu.debug_pc)
    elif events & DBCR0.ICMP:
        record(cpu, DBSR.ICMP, cpu.msr)
        take(cpu, IVOR.DEBUG, cpu.pc)


@native(inline=True)
def debug_data(cpu: Vcpu, ea: u64, size: u32, store: bool) -> None:
    """Data address compare of an access, by the guest or by a debugger; called on the slow path only.

    Every access takes that while events are on, and those to pages with bytes that a debugger watches.
    """
    if cpu.vm.watch_count:
        watch_data(cpu, ea, size, store)
    if cpu.debug_events & ADDRESS_EVENTS:
        data_event(cpu, ea, size, store)


@native(cold=True)
def data_event(cpu: Vcpu, ea: u64, size: u32, store: bool) -> None:
    """Compare the bytes of an access with DAC1 and DAC2; the interrupt comes before the access."""
    control = u32(cpu.spr[SPR.DBCR2])
    found = address_events(cpu.spr[SPR.DAC1], cpu.spr[SPR.DAC2], ea, ea + u64(size) - 1, (control & DBCR2.DAC12M) >> 22)
    wanted = u32(DBCR0.DAC1W | DBCR0.DAC2W) if store else u32(DBCR0.DAC1R | DBCR0.DAC2R)
    event = u32(0)
    if found & 1 and in_state(cpu, control >> 30):
        event |= DBSR.DAC1R | DBSR.DAC1W
    if found & 2 and in_state(cpu, control >> 26 & 3):
        event |= DBSR.DAC2R | DBSR.DAC2W
    event = event & wanted & cpu.debug_events
    if event:
        record(cpu, event, cpu.msr)
        if cpu.msr & MSR.DE:
            deliver(cpu, IVOR.DEBUG, cpu.pc)


@native
def return_event(cpu: Vcpu, control: u32, event: u32) -> None:
    """Return event of rfi (RET) or rfci (CRET, not without MSR[DE]); the interrupt comes at the target."""
    if u32(cpu.spr[SPR.DBCR0]) & control and logs_events(cpu):
        if event == DBSR.RET or cpu.msr & MSR.DE:
            record(cpu, event, cpu.msr)
