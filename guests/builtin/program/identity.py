"""What machine this is: core and chip by PVR and SVR, caches, TLBs, RAM, where the boot put things."""

from __future__ import annotations

from ....boards.registry import BOARDS
from ....isa.cores import CORES
from ....isa.registers import SPR, TLBCFG
from ....native.ints import u8, u32
from ....native.lang import Static, native, static
from ..words import peek, routine, say, symbol, text, the
from .board import console_node
from .cpu import faulted, read_spr, shift_of
from .state import Board
from .tree import find_property, first_child, follow, name_of, next_sibling, print_nodes, root, size, string

CORE_NAMES = tuple(
    (core.pvr >> 16, core.name, int(core.bits == 64), int("altivec" in core.categories)) for core in CORES.values()
)
CHIP_NAMES = tuple((core.svr, core.chip) for board in BOARDS.values() for core in board.cores.values())
# L1CFG0 and MMUCFG have no class in isa.registers: nothing else reads their fields.
L1_LINE, L1_WAYS, L1_KIB = 0x0180_0000, 0x0007_F800, 0x0000_07FF
RA_SIZE, PID_SIZE, LPID_SIZE = 0x00FE_0000, 0x0000_07C0, 0x0F00_0000
L2_UNITS = 0x3FFF  # of 64 KiB


@native
def field(value: u32, mask: Static) -> u32:
    """A field of a register."""
    return (value & mask) >> shift_of(mask)


@native
def core_name() -> u32:
    """The running core's name, a string."""
    version = routine(u32, "get_pvr") >> 16
    for known, name, _, _ in static(CORE_NAMES):
        if version == known:
            return text(name)
    return text("unknown core")


@native
def recognise() -> None:
    """Note what the running core has beyond the 32-bit base."""
    version = routine(u32, "get_pvr") >> 16
    for known, _, wide, altivec in static(CORE_NAMES):
        if version == known:
            the(Board).wide = u32(wide)
            the(Board).altivec = u32(altivec)


@native
def print_chip() -> None:
    """The chip by its SVR."""
    svr = routine(u32, "get_svr")
    for known, name in static(CHIP_NAMES):
        if svr == known:
            say(", on {} (SVR 0x{:08x})", name, svr)
            return
    if svr != 0:
        say(", SVR 0x{:08x}", svr)


@native
def print_core() -> None:
    """Core, caches, TLBs."""
    pvr = routine(u32, "get_pvr")
    say("  Core      {:s} rev {}.{} (PVR 0x{:08x})", core_name(), pvr >> 4 & 15, pvr & 15, pvr)
    print_chip()
    data, code = routine(u32, "get_l1cfg0"), routine(u32, "get_l1cfg1")
    say("\n  Caches    L1 {} KiB data, {} KiB instructions", field(data, L1_KIB), field(code, L1_KIB))
    say(", {} ways, {}-byte lines", field(data, L1_WAYS) + 1, u32(32) << field(data, L1_LINE))
    l2 = u32(read_spr(SPR.L2CFG0)) & L2_UNITS
    if not faulted() and l2 != 0:
        say("; L2 {} KiB", l2 * 64)
    small, large, mmu = routine(u32, "get_tlb0cfg"), routine(u32, "get_tlb1cfg"), routine(u32, "get_mmucfg")
    say("\n  MMU       TLB0 {} entries, {} ways", field(small, TLBCFG.N_ENTRY), field(small, TLBCFG.ASSOC))
    say("; TLB1 {} entries", field(large, TLBCFG.N_ENTRY))
    if mmu != 0:
        say("; {} address bits, {} of PID", field(mmu, RA_SIZE), field(mmu, PID_SIZE) + 1)
        say(", {} of LPID", field(mmu, LPID_SIZE))
    say("\n")


@native
def count_cpus() -> tuple[u32, u32]:
    """Cores and CPUs (threads) in the device tree."""
    cores, cpus = u32(0), u32(0)
    node = first_child(follow(text("/cpus")))
    while node != 0:
        at, length = find_property(node, text("reg"))
        cores += 1
        cpus += length // 4 if at != 0 else u32(0)
        node = next_sibling(node)
    return cores, cpus


@native
def print_machine() -> None:
    """CPUs, memory, board, what the boot loader gave."""
    board = the(Board)
    cores, cpus = count_cpus()
    say("  CPUs      {}", cpus)
    if cpus != cores:
        say(" ({} cores, {} threads each)", cores, cpus // cores)
    say(", time base {} MHz\n", board.timebase_hz // 1_000_000)
    say("  Memory    {} MiB\n", board.ram >> 20)
    say("  Board     {:s}, CCSR at 0x{:x}", string(root(), text("model")), board.ccsr)
    if board.uart != 0:
        say(", console {:s}", name_of(console_node()))
    say("\n  Boot      device tree at 0x{:x} ({} bytes), {} MiB mapped", board.tree, size(), board.map_size >> 20)
    say(", program at 0x{:x}\n", symbol("start"))
    arguments = boot_arguments()
    if peek(u8, arguments) != 0:
        say("  Arguments {:s}\n", arguments)


@native
def boot_arguments() -> u32:
    """/chosen/bootargs, a string."""
    return string(follow(text("/chosen")), text("bootargs"))


@native
def print_devices() -> None:
    """The device tree in short."""
    say("\nDevice tree (all of it: dt)\n")
    node = first_child(root())
    while node != 0:
        at, _ = find_property(node, text("compatible"))
        if at != 0:
            say("  {:<28s}{:s}\n", name_of(node), at)
            print_nodes(node, 4)
        node = next_sibling(node)


@native
def print_all() -> None:
    """Everything."""
    print_core()
    print_machine()
    print_devices()
