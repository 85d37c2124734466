"""What the hypervisor keeps in memory. Words that interrupts or the other CPU change are read with `peek`."""

from __future__ import annotations

from ....native.ints import u32, u64
from ....native.struct import Array, Struct
from . import layout

A, B, PARTITIONS, CPUS = 0, 1, 2, 2
INTERRUPTS = 43
"""IVOR0 to IVOR42."""
IDLE, READY, STOPPED = 0, 1, 2
"""A partition asked for its next job; has one; has gone too far."""


class Partition(Struct):
    """A virtual machine of one virtual CPU: its registers while it does not run, what it may, what it did."""

    # Saved at each exit and loaded at each entry (world.s: leave, enter_partition).
    gpr: Array[u64, 32]
    pc: u64
    lr: u64
    ctr: u64
    dear: u64
    msr: u32
    cr: u32
    xer: u32
    esr: u32
    exit: u32  # the interrupt that ended the last visit
    # Stay in the CPU from visit to visit; saved and loaded when another partition gets it (depart, arrive).
    gsrr0: u64
    gsprg: Array[u64, 4]
    gdear: u64
    gsrr1: u32
    gesr: u32
    gepr: u32
    lpid: u32
    epcr: u32
    # Who it is.
    number: u32
    name: u32  # a string
    cpu: u32
    real: u32  # its memory
    vault: u32
    # How it stands.
    state: u32
    slices: u32
    rung: u32  # a doorbell was rung that it has not taken
    timed: u32  # its timer counts
    held: u32  # vector of an interrupt that waits until it takes some
    # What it did.
    exits: Array[u32, INTERRUPTS]
    mark: u32  # exits, time slices apart, when the scene began
    slices_mark: u32
    sent: u32
    received: u32
    hypercalls: u32
    emulated: u32
    refused: u32
    ticks: u32
    system_calls: u32
    # What it said when it asked for its next job.
    result: u32
    told: Array[u32, 2]


class Partitions(Struct):
    """Both."""

    each: Array[Partition, PARTITIONS]


class Cpu(Struct):
    """A CPU that runs partitions."""

    number: u32
    here: u32
    loaded: u32  # the partition whose registers it has, plus 1
    turn: u32  # cleared when the time slice is over
    recover: u32  # where to go on when the hypervisor itself is interrupted (guest_word)
    unreadable: u32
    own: Partition  # takes the registers of such an interrupt


class Cpus(Struct):
    """Those that are used."""

    each: Array[Cpu, CPUS]


class Stacks(Struct):
    """A stack for each CPU."""

    words: Array[u32, CPUS * layout.STACK_SIZE // 4]


class Memory(Struct):
    """The partitions' memory: 64 KiB each, then three pages; aligned when it is handed out."""

    bytes: Array[u64, (layout.MEMORY_SIZE * 4) // 8]


class Hypervisor(Struct):
    """What there is one of."""

    cpus: u32
    lock: u32
    entering: u32  # the CPU that is being started
    scene: u32
    shared: u32  # real address of the page both partitions have
    checks: u32
    failed: u32
    fault: u32  # what the boot arguments break on purpose
    began: u64  # time base
    open: u32  # partitions are made: CPU 1 may run its own
