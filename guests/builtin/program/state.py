"""What the guest keeps in memory. Words that interrupts or other CPUs change are read with `peek`."""

from __future__ import annotations

from ....devices.mpic_registers import IPIS, MAX_CPUS
from ....native.ints import u8, u32, u64
from ....native.struct import Array, Struct

PAGE_SIZE = 4096
STACK_SIZE = 8192
RING_SIZE = 256
LINE_SIZE = 128
HISTORY = 8


class Frame(Struct):
    """An interrupted context, as entry.s saves it."""

    gpr: Array[u32, 32]
    cr: u32
    xer: u32
    lr: u32
    ctr: u32
    pc: u32
    msr: u32
    esr: u32
    dear: u32


class Cpu(Struct):
    """One CPU: how far it is, what it was asked to do, what interrupts it took."""

    number: u32
    here: u32
    pir: u32
    # Set by `guarded` in entry.s: where to go on after an interrupt, and which one came (number + 1).
    recover: u32
    recover_sp: u32
    fault: u32
    fault_address: u32
    fault_syndrome: u32
    job: u32
    argument: u32
    result: u64
    ticks: u32
    system_calls: u32
    doorbells: u32
    unavailable: u32
    spurious: u32
    timer: u32
    uart: u32
    ipis: Array[u32, IPIS]


class Cpus(Struct):
    """All CPUs, by number."""

    each: Array[Cpu, MAX_CPUS]


class Stacks(Struct):
    """A stack per CPU."""

    words: Array[u32, MAX_CPUS * STACK_SIZE // 4]


class Team(Struct):
    """What the CPUs share."""

    count: u32  # CPUs that the device tree lists
    present: u32  # CPUs that have reported in
    entering: u32  # the one that is being started
    lock: u32
    shared: u32
    guarded: u32
    passed: u64


class Board(Struct):
    """What the device tree says; physical addresses, offsets in CCSR, sizes in bytes."""

    tree: u32
    map_size: u32
    ccsr: u64
    ccsr_size: u32
    ram: u64
    timebase_hz: u32
    wide: u32  # whether the core has the 64-bit instructions
    altivec: u32
    uart: u32
    uart_source: u32
    mpic: u32
    guts: u32
    gpio: u32


class Console(Struct):
    """The serial line: its registers' address (0: none), and what was typed."""

    uart: u32
    head: u32
    tail: u32
    full: u32  # the line's interrupt is off until something is taken from the ring
    ring: Array[u8, RING_SIZE]
    line: Array[u8, LINE_SIZE]
    history: Array[u8, HISTORY * LINE_SIZE]
    lines: u32
    character: Array[u8, 2]
    stop: u32  # Ctrl-C came since the last prompt


class Tally(Struct):
    """Tests run and failed."""

    run: u32
    failed: u32


class Scratch(Struct):
    """Room for operands and results of assembly routines; two pages, of which one is whole."""

    operands: Array[u64, 16]
    results: Array[u64, 16]
    row: Array[u8, 16]
    page: Array[u32, 2 * PAGE_SIZE // 4]


class Code(Struct):
    """Room for code made at run time. Nothing else is in its page: writing there would throw away translations."""

    words: Array[u32, 2 * PAGE_SIZE // 4]
