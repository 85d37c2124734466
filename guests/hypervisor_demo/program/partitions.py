"""Making partitions: their memory, their TLB entries, what they may; giving a CPU to one of them."""

from __future__ import annotations

from ....devices.mpic_registers import Offset
from ....isa.registers import EPCR, MAS0, MAS1, MAS2, MAS3, MAS8, MSR
from ....native.ints import u32, u64
from ....native.lang import field_addr, native
from ...builtin.program.cpu import ALL_RIGHTS, DEVICE, KIB4, map_page, shift_of
from ...builtin.program.interrupts import mpic
from ...builtin.program.state import Board
from ...builtin.words import poke, routine, symbol, text, the
from . import layout
from .options import FAULT_EXTGS, FAULT_MASK, FAULT_TAG, FAULT_TLPID
from .state import READY, A, Cpu, Hypervisor, Memory, Partition, Partitions
from .timers import admit_timer

FIRST_SLOT, SLOTS = 16, 4
"""TLB1 entries of partition A; B's follow."""
KIB64 = 6
CANARY = 0xC0FF_EE00
GUEST_DOORBELL, LPIDTAG = 2 << 27, 0x03FF_C000
"""Type and LPID field of a message of msgsnd (Book III-E, Processor Control); the lowest bits are the PIR tag."""
OWN = EPCR.EXTGS | EPCR.DUVD | EPCR.DMIUH | EPCR.DGTMI
"""External inputs are the partition's (EXTGS). What has no bit here comes to the hypervisor: storage and TLB error
interrupts, whose misses leave MAS as the partition set them (DMIUH), and TLB management (DGTMI)."""


@native
def numbered(number: u32) -> Partition:
    """A partition by its number."""
    return the(Partitions).each[number]


@native
def vault_of(number: u32) -> u32:
    """Where a partition sees its vault."""
    return u32(layout.VAULT_A) if number == A else u32(layout.VAULT_B)


@native
def give_page(p: Partition, slot: u32, effective: u32, real: u64, tsize: u32, wimge: u32) -> None:
    """Write a TLB1 entry that exists for one partition: TGS says a guest's, TLPID whose."""
    tlpid = p.lpid
    if the(Hypervisor).fault == FAULT_TLPID and effective == vault_of(p.number):
        tlpid = u32(0)  # 0 matches every partition
    routine(None, "set_mas8", u32(MAS8.TGS) | tlpid)
    map_page(u32(FIRST_SLOT) + p.number * SLOTS + slot, effective, real, tsize, wimge)
    routine(None, "set_mas8", u32(0))


@native
def map_partition(p: Partition) -> None:
    """All that a partition has; every CPU does it for both."""
    board = the(Board)
    registers = board.ccsr + u64(board.mpic)
    give_page(p, 0, u32(layout.MEMORY), u64(p.real), KIB64, u32(MAS2.M))
    give_page(p, 1, vault_of(p.number), u64(p.vault), KIB4, u32(MAS2.M))
    give_page(p, 2, u32(layout.SHARED), u64(the(Hypervisor).shared), KIB4, u32(MAS2.M))
    give_page(p, 3, u32(layout.CONTROLLER), registers + (Offset.EOI & ~0xFFF), KIB4, u32(DEVICE))
    if has_lrat():
        write_lrat(p)


@native
def make_partition(number: u32, real: u32, vault: u32) -> None:
    """Memory with the program in it, a vault full of canaries, registers as at a reset."""
    p = numbered(number)
    p.number = number
    p.name = text("A") if number == A else text("B")
    p.lpid = number + 1
    p.cpu = number if the(Hypervisor).cpus > 1 else u32(0)
    p.real = real
    p.vault = vault
    p.epcr = u32(OWN)
    if the(Board).wide != 0:
        p.epcr |= u32(EPCR.GICM)  # its interrupts begin in 64-bit mode
    if has_lrat():
        p.epcr &= ~u32(EPCR.DGTMI)  # it may write TLB0 itself
    if the(Hypervisor).fault == FAULT_EXTGS:
        p.epcr &= ~u32(EPCR.EXTGS)
    routine(None, "copy_words", real, symbol("partition_program"), u32(layout.PROGRAM_SIZE // 4))
    for at in range(0, layout.PROGRAM_SIZE, 64):
        routine(None, "make_code_visible", real + at)
    for n in range(layout.VAULT_SIZE // 4):
        poke(u32, vault + n * 4, u32(CANARY) + number)
    p.pc = u64(layout.START)
    p.msr = u32(MSR.GS | MSR.ME) | (u32(MSR.CM) if the(Board).wide != 0 else u32(0))
    p.gpr[3] = u64(number)
    p.state = u32(READY)


@native
def make_partitions() -> None:
    """Both, and the page they share."""
    size = u32(layout.MEMORY_SIZE)
    memory = (u32(field_addr(the(Memory), "bytes")) + size - 1) & ~(size - 1)
    pages = memory + 2 * size
    the(Hypervisor).shared = pages + 2 * layout.VAULT_SIZE
    for number in range(2):
        make_partition(number, memory + number * size, pages + number * layout.VAULT_SIZE)


# ---- TLB entries that a partition writes itself --------------------------------------------------------------------


@native
def has_lrat() -> bool:
    """Whether the core (e6500) translates the logical addresses that a guest puts into TLB entries."""
    return routine(u32, "get_mmucfg") & layout.MMUCFG_LRAT != 0


@native
def write_lrat(p: Partition) -> None:
    """Logical page 0, 64 KiB, of this partition's LPID is its memory; there is no entry for more."""
    routine(None, "lrat_write", u32(MAS0.ATSEL) | p.number << shift_of(MAS0.ESEL),
            u32(MAS1.V) | u32(KIB64 << shift_of(MAS1.TSIZE)), p.lpid, p.real)  # fmt: skip


@native
def write_for(p: Partition) -> bool:
    """What an LRAT does, for a core without: the entry in a partition's MAS, with its real page; False beyond."""
    logical = routine(u32, "get_mas3") & u32(MAS3.RPN)
    if routine(u32, "get_mas7") != 0 or logical >= layout.MEMORY_SIZE or routine(u32, "get_mas0") & MAS0.TLBSEL:
        return False
    rights = routine(u32, "get_mas3") & u32(ALL_RIGHTS)
    routine(None, "tlb_rewrite", p.real + logical | rights, u32(0), u32(MAS8.TGS) | p.lpid)
    return True


# ---- doorbells -----------------------------------------------------------------------------------------------------


@native
def doorbell_to(p: Partition) -> u32:
    """The message that reaches a partition where it runs: its LPID and the PIR it sees."""
    tag = p.lpid + 2 if the(Hypervisor).fault == FAULT_TAG else p.lpid
    return u32(GUEST_DOORBELL) | tag << shift_of(LPIDTAG) | p.number


@native
def ring(p: Partition) -> None:
    """Ring, and remember it: a CPU accepts the message only while it is the partition's."""
    p.rung = 1
    routine(None, "send_doorbell", doorbell_to(p))


@native
def drop_held(p: Partition) -> None:
    """End an interrupt that a partition was to get and takes no more: until then the controller keeps others back."""
    p.held = 0
    p.rung = 0
    routine(None, "forget_doorbells", u32(GUEST_DOORBELL))
    poke(u32, mpic(u32(Offset.EOI)), u32(0))


@native
def give_cpu(cpu: Cpu, p: Partition) -> None:
    """Another partition's registers, LPID and interrupts into the running CPU; its doorbell is rung again."""
    if cpu.loaded != 0:
        before = numbered(cpu.loaded - 1)
        admit_timer(before, the(Hypervisor).fault == FAULT_MASK)
        routine(None, "depart", u32(field_addr(before, "gpr")))
    admit_timer(p, True)
    routine(None, "arrive", u32(field_addr(p, "gpr")))
    cpu.loaded = p.number + 1
    routine(None, "forget_doorbells", u32(GUEST_DOORBELL))  # the one before may not have taken its own
    if p.rung != 0:
        routine(None, "send_doorbell", doorbell_to(p))
