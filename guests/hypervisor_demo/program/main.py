"""Where CPUs come from entry.s: finding out what there is, making partitions, running them."""

from __future__ import annotations

from ....devices.spintable import SpinTable
from ....isa.registers import MSR, TCR, TSR
from ....native.ints import u32, u64
from ....native.lang import at, atomic_cas, fence, field_addr, native
from ...builtin.program.board import map_devices, map_spin_table, read_board, reboot
from ...builtin.program.identity import core_name, field, recognise
from ...builtin.program.interrupts import admit
from ...builtin.program.state import Board
from ...builtin.program.tree import cell, cells64, find_property, first_child, follow, next_sibling
from ...builtin.words import peek, poke, routine, say, symbol, text, the
from . import layout
from .exits import on_exit
from .options import read_options
from .partitions import give_cpu, make_partitions, map_partition, numbered
from .report import check
from .state import CPUS, PARTITIONS, READY, Cpu, Cpus, Hypervisor, Partition
from .timers import start_controller

NOBODY = PARTITIONS
SLICE_US = 1000


# ---- the start -----------------------------------------------------------------------------------------------------


@native
def first_cpu(tree: u32, map_size: u32) -> None:
    """Everything after power-on."""
    read_board(tree, map_size)
    recognise()
    if not read_options():
        reboot()
    hypervisor = the(Hypervisor)
    hypervisor.cpus = u32(1)
    lpid_bits = field(routine(u32, "get_mmucfg"), layout.MMUCFG_LPIDSIZE)
    say("\nTwo partitions on {:s}\n\n1. The hypervisor\n", core_name())
    say("  hv  MSR is 0x{:x}: GS is clear, so this is the hypervisor state\n", routine(u32, "get_msr"))
    say("  hv  MMUCFG tells of {} bits of LPID: the core has E.HV\n", lpid_bits)
    check(lpid_bits != 0 and routine(u32, "get_msr") & MSR.GS == 0, "there is a hypervisor state, and this is it")
    start_controller()
    start_other()
    make_partitions()
    describe()
    set_up_cpu()
    fence()
    poke(u32, u32(field_addr(the(Hypervisor), "open")), u32(1))
    run_partitions(the(Cpus).each[0])


@native
def other_cpu() -> None:
    """CPU 1."""
    map_devices()
    cpu = at(Cpu, u64(routine(u32, "get_sprg2")))
    poke(u32, u32(field_addr(cpu, "here")), u32(1))
    while peek(u32, u32(field_addr(the(Hypervisor), "open"))) == 0:
        routine(None, "relax")
    set_up_cpu()
    run_partitions(cpu)


@native
def set_up_cpu() -> None:
    """Both partitions' pages into this CPU's TLB, side by side; external inputs of any priority; a decrementer."""
    for number in range(PARTITIONS):
        map_partition(numbered(number))
    admit(u32(0))
    routine(None, "set_tcr", u32(TCR.DIE))


@native
def describe() -> None:
    """Who has what."""
    for number in range(PARTITIONS):
        p = numbered(number)
        say("  hv  partition {:s}: LPID {}, CPU {}, ", p.name, p.lpid, p.cpu)
        say("its 64 KiB are at 0x{:x}, its vault at 0x{:x}\n", p.real, p.vault)


@native
def start_other() -> None:
    """Start a second CPU where there is one: from the spin table (ePAPR 5.5.2), or the first core's other thread."""
    node = first_child(follow(text("/cpus")))
    _, length = find_property(node, text("reg"))
    if length > 4:
        the(Hypervisor).entering = u32(1)
        routine(None, "thread_start", symbol("secondary"), u32(MSR.ME))
        await_other()
        return
    while node != 0:
        release, _ = find_property(node, text("cpu-release-addr"))
        if cell(node, text("reg"), u32(0)) == 1 and release != 0:
            the(Hypervisor).entering = u32(1)
            where = map_spin_table(cells64(release))
            poke(u32, where + SpinTable.pir.offset, u32(1))
            poke(u32, where + SpinTable.addr_high.offset, u32(0))
            poke(u32, where + SpinTable.addr_low.offset, symbol("secondary"))  # last: this one lets it go
            await_other()
        node = next_sibling(node)


@native
def await_other() -> None:
    """Until CPU 1 is there."""
    while peek(u32, u32(field_addr(the(Cpus).each[1], "here"))) == 0:
        routine(None, "relax")
    the(Hypervisor).cpus = u32(CPUS)


# ---- the run loop --------------------------------------------------------------------------------------------------


@native
def run_partitions(cpu: Cpu) -> None:
    """For ever: a time slice for the next partition of this CPU that has something to do."""
    last = u32(0)
    while True:
        number = next_ready(cpu, last)
        if number == NOBODY:
            routine(None, "relax")
            continue
        last = number
        p = numbered(number)
        lock()
        if cpu.loaded != number + 1:
            give_cpu(cpu, p)
        unlock()
        cpu.turn = u32(1)
        routine(None, "set_dec", the(Board).timebase_hz // 1_000_000 * SLICE_US)
        routine(None, "set_tsr", u32(TSR.DIS))
        while cpu.turn != 0 and state_of(p) == READY:
            interrupt = routine(u32, "enter_partition", u32(field_addr(p, "gpr")))
            lock()
            on_exit(cpu, p, interrupt)
            unlock()


@native
def state_of(p: Partition) -> u32:
    """A partition's state, which the other CPU may have changed."""
    return peek(u32, u32(field_addr(p, "state")))


@native
def next_ready(cpu: Cpu, last: u32) -> u32:
    """The partition of this CPU whose turn it is, or NOBODY."""
    for n in range(PARTITIONS):
        number = (last + 1 + n) % PARTITIONS
        p = numbered(number)
        if p.cpu == cpu.number and state_of(p) == READY:
            return number
    return u32(NOBODY)


@native
def lock() -> None:
    """One CPU at a time has what the hypervisor knows."""
    where = field_addr(the(Hypervisor), "lock")
    while atomic_cas(u32, where, u32(0), u32(1)) != 0:
        routine(None, "relax")


@native
def unlock() -> None:
    """The other may."""
    fence()
    poke(u32, u32(field_addr(the(Hypervisor), "lock")), u32(0))
