"""The CPUs together: starting them, giving them jobs, waiting for them."""

from __future__ import annotations

from ....devices.spintable import SpinTable
from ....isa.registers import MSR, TCR
from ....native.ints import u32, u64
from ....native.lang import Static, atomic_add, atomic_cas, fence, field_addr, native
from ..words import peek, poke, routine, symbol, text, the
from .board import map_devices, map_spin_table
from .cpu import milliseconds, now, numbered, this
from .interrupts import admit, send_ipi
from .kernels import integer_turns
from .state import Cpu, Team
from .tree import cell, cells64, find_property, first_child, follow, next_sibling

IPI_WORK, IPI_TEST, IPI_RING = 0, 1, 2

# What a CPU can be asked to do; 0 is nothing.
ADD_ATOMICALLY, ADD_LOCKED, NEXT_IPI, SPIN, STAMP, START_THREAD = 1, 2, 3, 4, 5, 6
PATIENCE_MS = 5000
"""How long others are waited for: hosts may have fewer CPUs than the guest, and be busy."""
LOOK_MS = 10
"""How often the clock is looked at meanwhile."""


# ---- waiting -------------------------------------------------------------------------------------------------------


@native
def come(seen: u32, value: u32, exactly: Static) -> bool:
    """Whether a word is what is waited for."""
    if exactly:
        return bool(seen == value)
    return bool(seen >= value)


@native
def wait_for(where: u32, value: u32, exactly: Static, ms: u32) -> bool:
    """Sleep until a word has a value (or at least that); whether it has before some milliseconds are over."""
    end = now() + milliseconds(ms)
    while True:
        seen = peek(u32, where)
        if come(seen, value, exactly):
            return True
        if now() >= end:
            return False
        routine(None, "set_dec", u32(milliseconds(LOOK_MS)))
        routine(None, "idle", where, seen)


# ---- jobs ----------------------------------------------------------------------------------------------------------


@native
def lock() -> None:
    """Take the team's lock; polls."""
    where = field_addr(the(Team), "lock")
    while atomic_cas(u32, where, u32(0), u32(1)) != 0:
        routine(None, "relax")


@native
def unlock() -> None:
    """Give the lock back."""
    fence()
    poke(u32, u32(field_addr(the(Team), "lock")), u32(0))


@native
def work(job: u32, argument: u32) -> u64:
    """Do a job on the running CPU."""
    team = the(Team)
    if job == ADD_ATOMICALLY:
        for _ in range(argument):
            atomic_add(u32, field_addr(team, "shared"), u32(1))
    elif job == ADD_LOCKED:
        for _ in range(argument):
            lock()
            team.guarded += 1
            unlock()
    elif job == NEXT_IPI:
        after = this().number + 1
        send_ipi(IPI_RING, u32(1) << (after if after < team.present else u32(0)))
    elif job == SPIN:
        start = now()
        integer_turns(argument)
        return now() - start
    elif job == STAMP:
        before = team.passed
        team.passed = now()
        return u64(team.passed < before)
    elif job == START_THREAD:
        routine(None, "thread_start", symbol("secondary"), u32(MSR.ME))
    return u64(0)


@native
def ask(cpu: Cpu, job: u32, argument: u32) -> None:
    """Give another CPU a job; an IPI is still to be sent."""
    cpu.argument = argument
    fence()
    poke(u32, u32(field_addr(cpu, "job")), job)


@native
def serve() -> None:
    """The life of CPUs other than 0: sleep, do what is asked."""
    cpu = this()
    job = u32(field_addr(cpu, "job"))
    while True:
        routine(None, "idle", job, u32(0))
        wanted = peek(u32, job)
        if wanted != 0:
            cpu.result = work(wanted, cpu.argument)
            fence()
            poke(u32, job, u32(0))
            send_ipi(IPI_WORK, 1)


@native
def ask_one(number: u32, job: u32, argument: u32) -> bool:
    """Another CPU does a job; whether it finishes."""
    ask(numbered(number), job, argument)
    send_ipi(IPI_WORK, u32(1) << number)
    return wait_for(u32(field_addr(numbered(number), "job")), 0, True, PATIENCE_MS)


@native
def everybody() -> u32:
    """A bit for each CPU that has reported in."""
    count = the(Team).present
    return ~u32(0) if count >= 32 else (u32(1) << count) - 1


@native
def together(job: u32, argument: u32) -> bool:
    """All CPUs do a job at the same time; whether all finish."""
    team = the(Team)
    for n in range(1, team.present):
        ask(numbered(n), job, argument)
    send_ipi(IPI_WORK, everybody() & ~u32(1))
    numbered(u32(0)).result = work(job, argument)
    done = True
    for n in range(1, team.present):
        if not wait_for(u32(field_addr(numbered(n), "job")), 0, True, PATIENCE_MS):
            done = False
    return done


# ---- starting ------------------------------------------------------------------------------------------------------


@native
def introduce() -> None:
    """The running CPU is ready for work: its interrupts are on."""
    cpu = this()
    cpu.pir = routine(u32, "get_pir")
    admit(0)
    routine(None, "set_tcr", u32(TCR.DIE) if cpu.number == 0 else u32(0))
    routine(None, "enable_interrupts")
    fence()
    poke(u32, u32(field_addr(cpu, "here")), u32(1))


@native
def other_cpu() -> None:
    """Where entry.s brings every CPU but the first."""
    map_devices()
    introduce()
    send_ipi(IPI_WORK, 1)
    serve()


@native
def arrived(number: u32) -> bool:
    """Wait for a CPU that is being started."""
    if not wait_for(u32(field_addr(numbered(number), "here")), 1, True, PATIENCE_MS):
        return False
    the(Team).present += 1
    return True


@native
def release(number: u32, entry: u64) -> bool:
    """Start a CPU from its spin-table entry (ePAPR 5.5.2); whether it reports in."""
    where = map_spin_table(entry)
    the(Team).entering = number
    fence()
    poke(u32, where + SpinTable.pir.offset, number)
    poke(u32, where + SpinTable.r3_high.offset, u32(0))
    poke(u32, where + SpinTable.r3_low.offset, number)
    poke(u32, where + SpinTable.addr_high.offset, u32(0))
    poke(u32, where + SpinTable.addr_low.offset, symbol("secondary"))  # last: this one lets it go
    return arrived(number)


@native
def start_thread(number: u32, first: u32) -> bool:
    """Let the first thread of a core start the second; whether it reports in."""
    the(Team).entering = number
    fence()
    if first == 0:
        work(START_THREAD, 0)
    elif not ask_one(first, START_THREAD, 0):
        return False
    return arrived(number)


@native
def start_everybody() -> bool:
    """Start the CPUs of the device tree; whether all report in."""
    team = the(Team)
    team.present = u32(1)
    team.count = u32(0)
    good = True
    node = first_child(follow(text("/cpus")))
    while node != 0:
        _, length = find_property(node, text("reg"))
        first = cell(node, text("reg"), u32(0))
        at, _ = find_property(node, text("cpu-release-addr"))
        if at != 0 and not release(first, cells64(at)):
            good = False
        for n in range(1, length // 4):
            if not start_thread(cell(node, text("reg"), n), first):
                good = False
        team.count += length // 4
        node = next_sibling(node)
    return good
