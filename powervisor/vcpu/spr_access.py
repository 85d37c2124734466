"""Reading and writing special-purpose, performance monitor and thread management registers.

`sprs` says which exist, who may, and which bits; here is what happens besides storing a value.
"""

from __future__ import annotations

from ..isa.registers import DBCR0, EPLC, ESR, IVOR, L1CSR1, MSR, MSRP, SPR, XER
from ..native.ints import u8, u32, u64
from ..native.lang import at, native
from .codemap import drop_range
from .interrupts import deliver, raise_program
from .mmu_ops import flash_invalidate
from .modes import update_mode
from .sprs import Access
from .state import ExitReason, Vcpu
from .threads import disable_threads, enable_threads, enabled_threads
from .timers import freeze_timers, machine_ticks, read_dec, set_timebase, timebase, write_dec, write_tcr, write_tsr

PRIVILEGED = 0x10
"""The bit of an SPR or PMR number that says it is privileged, implemented or not."""
USER_READ = SPR.SPRG3 - SPR.SPRG3U
"""Distance of SPRG3-7 from the numbers under which users read them."""
LOW = 0xFFFF_FFFF


@native(field_function=True)
def stored(n: u32) -> u32:
    """The number under which a register's value lives."""
    return n + USER_READ if n >= SPR.SPRG3U and n <= SPR.SPRG7U else n


@native(field_function=True)
def guest_register(n: u32) -> u32:
    """The guest's copy that a supervisor register stands for while MSR[GS]=1 (Book III-E 2.2.3)."""
    if n >= SPR.SPRG0 and n <= SPR.SPRG3:
        return n - SPR.SPRG0 + SPR.GSPRG0
    if n == SPR.SRR0:
        return SPR.GSRR0
    if n == SPR.SRR1:
        return SPR.GSRR1
    if n == SPR.DEAR:
        return SPR.GDEAR
    if n == SPR.ESR:
        return SPR.GESR
    if n == SPR.PIR:
        return SPR.GPIR
    if n == SPR.EPR:
        return SPR.GEPR
    return n


@native(field_function=True)
def guest_stored(n: u32) -> u32:
    """The number under which a register's value lives while MSR[GS]=1."""
    return guest_register(stored(n))


@native(cold=True)
def undefined_register(cpu: Vcpu, n: u32) -> None:
    """Program interrupt for a register that does not exist: privileged if a user named a privileged number."""
    if cpu.msr & MSR.PR and n & PRIVILEGED:
        raise_program(cpu, ESR.PPR)
    raise_program(cpu, ESR.PIL)


@native
def permitted_register(cpu: Vcpu, n: u32, write: u32) -> u32:
    """The register that an mfspr (write 0) or mtspr (1) of a number means, or the interrupt it causes."""
    access = u32(cpu.core.spr_access[n])
    level = access >> Access.WRITE & Access.LEVEL if write else access & Access.LEVEL
    if level == Access.NONE:
        undefined_register(cpu, n)
    if level != Access.USER and cpu.msr & (MSR.PR | MSR.GS):
        if cpu.msr & MSR.PR:
            raise_program(cpu, ESR.PPR)
        if level == Access.HYPERVISOR:
            deliver(cpu, IVOR.HYPERVISOR_PRIVILEGE, cpu.pc)
    real = stored(n)
    if access & Access.GUEST and cpu.msr & MSR.GS:
        return guest_register(real)
    return real


# ---- XER and pairs -------------------------------------------------------------------------------------------------


@native(inline=True)
def read_xer(cpu: Vcpu) -> u32:
    """XER from its parts."""
    return u32(cpu.so) << 31 | u32(cpu.ov) << 30 | u32(cpu.ca) << 29 | u32(cpu.xer_count)


@native(inline=True)
def write_xer(cpu: Vcpu, value: u32) -> None:
    """XER to its parts."""
    cpu.so = u8(value >> 31)
    cpu.ov = u8(value >> 30 & 1)
    cpu.ca = u8(value >> 29 & 1)
    cpu.xer_count = u8(value & XER.COUNT)


@native(inline=True)
def pair(cpu: Vcpu, high: u32, low: u32) -> u64:
    """Two 32-bit registers read as one."""
    return (cpu.spr[high] & LOW) << 32 | cpu.spr[low] & LOW


@native
def store_masked(cpu: Vcpu, n: u32, value: u64) -> None:
    """Write the bits of a register that exist."""
    cpu.spr[n] = value & cpu.core.spr_mask[n]


@native(inline=True)
def store_pair(cpu: Vcpu, high: u32, low: u32, value: u64) -> None:
    """Write two 32-bit registers."""
    store_masked(cpu, high, value >> 32)
    store_masked(cpu, low, value & LOW)


# ---- all of them ---------------------------------------------------------------------------------------------------


@native
def read_spr(cpu: Vcpu, n: u32) -> u64:
    """A register's value, without a look at privileges."""
    if u32(cpu.core.spr_access[n]) & Access.EFFECT == 0:
        return cpu.spr[stored(n)]
    if n == SPR.XER:
        return u64(read_xer(cpu))
    if n == SPR.TBL:
        tb = timebase(cpu)
        return tb if cpu.core.is64 else tb & LOW
    if n == SPR.TBU:
        return timebase(cpu) >> 32
    if n == SPR.ATBL:
        atb = machine_ticks(cpu)
        return atb if cpu.core.is64 else atb & LOW
    if n == SPR.ATBU:
        return machine_ticks(cpu) >> 32
    if n == SPR.DEC:
        return read_dec(cpu)
    if n == SPR.MAS5_MAS6:
        return pair(cpu, SPR.MAS5, SPR.MAS6)
    if n == SPR.MAS8_MAS1:
        return pair(cpu, SPR.MAS8, SPR.MAS1)
    if n == SPR.MAS7_MAS3:
        return pair(cpu, SPR.MAS7, SPR.MAS3)
    if n == SPR.MAS0_MAS1:
        return pair(cpu, SPR.MAS0, SPR.MAS1)
    if n == SPR.TENSR or n == SPR.TENS or n == SPR.TENC:
        return enabled_threads(cpu)
    return cpu.spr[n]


@native
def write_spr(cpu: Vcpu, n: u32, value: u64) -> None:
    """Write a register as mtspr does, without a look at privileges. It may ask for an exit (`exit_reason`)."""
    access = u32(cpu.core.spr_access[n])
    if access & Access.CLEAR:
        cpu.spr[n] = cpu.spr[n] & ~(value & LOW)
        if n == SPR.DBSR:
            freeze_timers(cpu)
    elif access & Access.EFFECT:
        write_effect(cpu, n, value & cpu.core.spr_mask[n])
    else:
        store_masked(cpu, n, value)
        if access & Access.SHARED and cpu.sibling:
            at(Vcpu, cpu.sibling).spr[n] = cpu.spr[n]
        if n == SPR.L1CSR1 and value & L1CSR1.ICFI and cpu.vm.code_map:
            drop_range(cpu.vm, u64(0), cpu.vm.ram_size)


@native
def write_effect(cpu: Vcpu, n: u32, value: u64) -> None:
    """Write a register that does more than hold a value; `value` has only bits that exist."""
    low = u32(value)
    if n == SPR.XER:
        write_xer(cpu, low)
    elif n == SPR.PID or n == SPR.LPIDR or n == SPR.EPCR or n == SPR.DBCR0:
        cpu.spr[n] = value & ~u64(DBCR0.RST) if n == SPR.DBCR0 else value
        update_mode(cpu)
        if n == SPR.DBCR0:
            freeze_timers(cpu)
            if low & DBCR0.RST:
                cpu.exit_reason = u32(ExitReason.RESET)
                cpu.exit_detail = (low & DBCR0.RST) >> 28
    elif n == SPR.DEC:
        write_dec(cpu, low)
    elif n == SPR.TSR:
        write_tsr(cpu, low)
    elif n == SPR.TCR:
        write_tcr(cpu, low)
    elif n == SPR.TBL_WRITE:
        set_timebase(cpu, timebase(cpu) >> 32 << 32 | value)
    elif n == SPR.TBU_WRITE:
        set_timebase(cpu, value << 32 | timebase(cpu) & LOW)
    elif n == SPR.DBSRWR:
        cpu.spr[SPR.DBSR] = value
        freeze_timers(cpu)
    elif n == SPR.MMUCSR0:
        flash_invalidate(cpu, low)
    elif n == SPR.EPLC or n == SPR.EPSC:
        kept = u64(EPLC.EGS | EPLC.ELPID) if cpu.msr & MSR.GS else u64(0)
        cpu.spr[n] = cpu.spr[n] & kept | value & ~kept
    elif n == SPR.MAS5_MAS6:
        store_pair(cpu, SPR.MAS5, SPR.MAS6, value)
    elif n == SPR.MAS8_MAS1:
        store_pair(cpu, SPR.MAS8, SPR.MAS1, value)
    elif n == SPR.MAS7_MAS3:
        store_pair(cpu, SPR.MAS7, SPR.MAS3, value)
    elif n == SPR.MAS0_MAS1:
        store_pair(cpu, SPR.MAS0, SPR.MAS1, value)
    elif n == SPR.TENS:
        enable_threads(cpu, value)
    elif n == SPR.TENC:
        disable_threads(cpu, value)


# ---- performance monitor -------------------------------------------------------------------------------------------


class Pmr:
    """First numbers of the performance monitor registers; the user's read-only copies lie 16 below."""

    PMC = 16
    PMLCA = 144
    PMLCB = 272
    PMGC0 = 400


@native
def pmr_exists(cpu: Vcpu, n: u32) -> bool:
    """Whether a privileged PMR number is implemented."""
    counters = cpu.core.pmcs
    return n - Pmr.PMC < counters or n - Pmr.PMLCA < counters or n - Pmr.PMLCB < counters or n == Pmr.PMGC0


@native
def read_pmr(cpu: Vcpu, n: u32) -> u64:
    """mfpmr: a user reads copies of the registers; a guest whose MSRP[PMMP] is set sees none (reads as 0)."""
    protected = cpu.msr & MSR.GS != 0 and u32(cpu.spr[SPR.MSRP]) & MSRP.PMMP != 0
    if not pmr_exists(cpu, n | PRIVILEGED):
        undefined_register(cpu, n)
    if n & PRIVILEGED == 0:
        return u64(0) if protected else u64(cpu.pmr[n | PRIVILEGED])
    supervisor_pmr(cpu, protected)
    return u64(cpu.pmr[n])


@native
def write_pmr(cpu: Vcpu, n: u32, value: u32) -> None:
    """mtpmr."""
    protected = cpu.msr & MSR.GS != 0 and u32(cpu.spr[SPR.MSRP]) & MSRP.PMMP != 0
    if n & PRIVILEGED == 0 or not pmr_exists(cpu, n):
        undefined_register(cpu, n)
    supervisor_pmr(cpu, protected)
    cpu.pmr[n] = value


@native(inline=True)
def supervisor_pmr(cpu: Vcpu, protected: bool) -> None:
    """The interrupt of an access to a privileged PMR that is not allowed."""
    if cpu.msr & MSR.PR:
        raise_program(cpu, ESR.PPR)
    if protected:
        deliver(cpu, IVOR.HYPERVISOR_PRIVILEGE, cpu.pc)
