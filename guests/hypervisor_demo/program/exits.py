"""What leaves a partition: each interrupt that comes to the hypervisor, and what it does about it."""

from __future__ import annotations

from ....isa.registers import ESR, IVOR, MAS3, MSR, SPR, TSR
from ....native.ints import u8, u32, u64
from ....native.lang import at, native
from ...builtin.program.board import reboot
from ...builtin.program.console import put_char
from ...builtin.program.interrupts import interrupt_name
from ...builtin.words import routine, say
from . import layout
from .partitions import numbered, ring, write_for
from .scenes import job_wanted, lost, slice_over
from .state import STOPPED, Cpu, Partition

EXTERNAL_VECTOR = 0x400
"""GIVOR4 (entry.s: set_guest_vectors)."""
# Fields of an instruction: opcode and extended opcode, and the SPR, whose halves are swapped (Book I, mfspr).
OPERATION = 0xFC00_07FE
MFSPR, TLBWE, EHPRIV = 31 << 26 | 339 << 1, 31 << 26 | 978 << 1, 31 << 26 | 270 << 1
SPR_FIELD = 0x001F_F800
MMUCFG = (SPR.MMUCFG & 31) << 16 | (SPR.MMUCFG >> 5) << 11
TEXT_LIMIT = 80


@native
def on_exit(cpu: Cpu, p: Partition, number: u32) -> None:
    """A partition was left by an interrupt; afterwards it goes on where its struct says."""
    p.exits[number] += 1
    if number == IVOR.DECREMENTER:
        routine(None, "set_tsr", u32(TSR.DIS))
        p.slices = p.slices + 1
        cpu.turn = u32(0)
        slice_over(p)
    elif number == IVOR.HYPERVISOR_SYSTEM_CALL:
        on_hypercall(cpu, p)
    elif number == IVOR.GUEST_DOORBELL:
        on_doorbell(p)
    elif number == IVOR.HYPERVISOR_PRIVILEGE:
        on_privilege(cpu, p)
    elif number == IVOR.DATA_TLB or number == IVOR.DATA_STORAGE:
        on_data(p, number)
    elif number == IVOR.LRAT_ERROR:
        refuse_page(p, number)
    elif number == IVOR.EXTERNAL:
        on_external(p)
    else:
        stop(p, number)


# ---- interrupts that the hypervisor gives to a partition -----------------------------------------------------------


@native
def refuse(p: Partition, number: u32, syndrome: u32) -> None:
    """Reflect: the partition takes an interrupt as if the hardware had directed it there."""
    p.refused += 1
    routine(None, "set_gsrr0", u32(p.pc))
    routine(None, "set_gsrr1", p.msr)
    routine(None, "set_gesr", syndrome)
    p.msr &= ~u32(MSR.EE)
    p.pc = u64(number << 8)


@native
def on_data(p: Partition, number: u32) -> None:
    """No TLB entry with its LPID there: everything a partition has is mapped, so it has no business there."""
    say("  hv  {:s} at 0x{:x}: no such page for LPID {}, ", p.name, u32(p.pc), p.lpid)
    say("{:s} interrupt reflected (address 0x{:x})\n", interrupt_name(number), u32(p.dear))
    routine(None, "set_gdear", u32(p.dear))
    refuse(p, number, p.esr)


@native
def refuse_page(p: Partition, number: u32) -> None:
    """A partition's tlbwe names a page that is not in its memory."""
    page = routine(u32, "get_mas3") & u32(MAS3.RPN)
    say("  hv  {:s} at 0x{:x}: {:s} interrupt, ", p.name, u32(p.pc), interrupt_name(number))
    say("its page 0x{:x} is behind its memory: refused\n", page)
    refuse(p, u32(IVOR.PROGRAM), u32(ESR.PPR))


@native
def on_doorbell(p: Partition) -> None:
    """Guest doorbell: the partition is running with EE=1. PC and MSR are in GSRR0 and GSRR1 already."""
    p.rung = 0
    vector = u32(layout.VECTOR_DOORBELL)
    if p.held != 0:
        vector = p.held
        p.held = 0
    else:
        p.received += 1
    routine(None, "set_gepr", vector)
    p.msr &= ~u32(MSR.EE)
    p.pc = u64(EXTERNAL_VECTOR)


@native
def on_external(p: Partition) -> None:
    """With fault=extgs only: hold the vector until the partition takes interrupts, of which its doorbell tells us."""
    p.held = routine(u32, "get_epr")
    ring(p)


# ---- calls ---------------------------------------------------------------------------------------------------------


@native
def on_hypercall(cpu: Cpu, p: Partition) -> None:
    """sc 1: what is wanted is in r11; SRR0 is behind the instruction."""
    p.hypercalls += 1
    what = u32(p.gpr[11])
    result = u32(layout.REFUSED)
    if what == layout.NOTHING:
        result = u32(layout.DONE)
    elif what == layout.NEXT:
        job_wanted(p)
        return
    elif what == layout.SAY:
        result = print_for(cpu, p, u32(p.gpr[3]), p.gpr[4])
    elif what == layout.RING:
        result = ring_for(p, u32(p.gpr[3]))
    p.gpr[3] = u64(result)


@native
def ring_for(p: Partition, other: u32) -> u32:
    """A partition rings another's doorbell."""
    if other >= 2 or numbered(other).state == STOPPED:
        return u32(layout.REFUSED)
    p.sent += 1
    ring(numbered(other))
    return u32(layout.DONE)


@native
def print_for(cpu: Cpu, p: Partition, where: u32, value: u64) -> u32:
    """Print a partition's text, `#` as a number; read with the partition's rights, so that it names only its own."""
    routine(u32, "guest_word", where & ~u32(3))
    if cpu.unreadable != 0:
        say("  hv  {:s} may not read 0x{:x}, so its text there is not printed\n", p.name, where)
        return u32(layout.REFUSED)
    say("  {:s}   ", p.name)
    for n in range(TEXT_LIMIT):
        here = where + n
        word = routine(u32, "guest_word", here & ~u32(3))
        byte = u8(word >> (24 - 8 * (here & 3)))
        if cpu.unreadable != 0 or byte == 0:
            break
        if byte == 35:
            say("{:x}", value)
        else:
            put_char(byte)
    say("\n")
    return u32(layout.DONE)


# ---- instructions that are the hypervisor's ------------------------------------------------------------------------


@native
def on_privilege(cpu: Cpu, p: Partition) -> None:
    """Embedded hypervisor privilege: look at the instruction, do it in the partition's stead or stop the partition."""
    word = routine(u32, "guest_word", u32(p.pc))
    if cpu.unreadable == 0 and word & OPERATION == MFSPR and word & SPR_FIELD == MMUCFG:
        p.emulated += 1
        value = routine(u32, "get_mmucfg") & ~u32(layout.MMUCFG_LPIDSIZE | layout.MMUCFG_LRAT)
        say("  hv  {:s} at 0x{:x}: mfspr of MMUCFG, 0x{:x} shown\n", p.name, u32(p.pc), value)
        p.gpr[word >> 21 & 31] = u64(value)
        p.pc += 4
    elif cpu.unreadable == 0 and word & OPERATION == TLBWE:
        if write_for(p):
            p.emulated += 1
            p.pc += 4
        else:
            refuse_page(p, u32(IVOR.HYPERVISOR_PRIVILEGE))
    else:
        say("  hv  {:s} at 0x{:x}: instruction 0x{:08x} is not done for it\n", p.name, u32(p.pc), word)
        stop(p, u32(IVOR.HYPERVISOR_PRIVILEGE))


@native
def stop(p: Partition, number: u32) -> None:
    """A partition has gone too far: it runs no more."""
    say("  hv  {:s} interrupt: {:s} is stopped at 0x{:x}\n", interrupt_name(number), p.name, u32(p.pc))
    p.state = STOPPED
    lost(p)


@native
def crash(registers: u32) -> None:
    """An interrupt in the hypervisor itself that nobody expected (world.s: own_interrupt)."""
    own = at(Partition, u64(registers))
    say("\nhypervisor-demo: {:s} interrupt in the hypervisor at 0x{:x}\n", interrupt_name(own.exit), u32(own.pc))
    reboot()
