"""The layouts of a virtual processor and what it shares with others, seen alike by native code and Python."""

from __future__ import annotations

from ..native.ints import i64, u8, u32, u64, u128
from ..native.struct import Array, Ptr, Struct

TLB0_ENTRIES = 1024
TLB1_ENTRIES = 64
LRAT_ENTRIES = 8
SOFT_DATA_ENTRIES = 1 << 20
"""A slot for every page of 4 GiB: what is less far apart does not share slots."""
SOFT_CHUNK = 128
"""Slots that are cleared together: 4 KiB of host memory, touched only where the guest is."""
SOFT_CHUNKS = SOFT_DATA_ENTRIES // SOFT_CHUNK
SOFT_CODE_ENTRIES = 1024
CONTEXTS = 8
FOUND_ENTRIES = 4
"""More than one instruction holds on to at a time."""
GUEST_TAKES = 64
"""Index in `Vcpu.interrupts` of those that are taken in the guest state (GIVORs)."""
MMIO_LOG_ENTRIES = 136
"""More than one instruction can need: stswx of 127 bytes, itself fetched from a device."""


class Mode:
    """Bits of `Vcpu.mode`: what translated code is specialised for, besides its physical address."""

    CM = 1  # 64-bit mode
    PR = 2
    GS = 4
    FP = 8  # floating point available, and its exact path not needed for every instruction
    VEC = 16
    FPX = 32  # FPSCR asks for a rounding mode or an enabled exception: no host FPU


class ExitReason:
    """Why native code returned to Python (0: it did not)."""

    NONE = 0
    MMIO = 1
    INTERRUPT = 2  # one that somebody hooked was taken; `exit_detail` is its number
    BUDGET = 3
    KICK = 4
    DEBUG = 5
    WATCHDOG = 6
    RESET = 7
    HCALL = 8
    CHECKSTOP = 9
    CODE_FULL = 10
    HOT = 11
    THREADS = 12
    HANDLER = 13  # the instruction's handler is not compiled yet; `exit_detail` is its word
    WATCH = 14  # an access that a debugger watches is about to happen; `watch_address`, `exit_detail` is a Watch's kind


class Request:
    """Bits of `Vcpu.requests`: what another thread wants of a vCPU."""

    KICK = 1  # leave native code
    LINES = 2  # interrupt lines or doorbells changed
    FLUSH = 4  # drop cached translations of addresses
    CODE = 8  # translated code was dropped
    SAMPLE = 16  # note where it is, see sampling


class TlbEntry(Struct):
    """One entry of TLB0 or TLB1. `mask` covers the page offset (0xfff for 4 KiB); `valid` is MAS1[V]."""

    ea: u64
    pa: u64
    mask: u64
    mas1: u32
    mas2: u32
    mas3: u32
    mas8: u32
    valid: u32
    spare: u32


class LratEntry(Struct):
    """One entry of the logical to real address translation table (E.HV.LRAT); `mask` covers the page offset."""

    lpa: u64
    pa: u64
    mask: u64
    lpid: u32
    valid: u32


class Tlb(Struct):
    """The TLBs of a core, shared by its threads."""

    tlb0: Array[TlbEntry, TLB0_ENTRIES]
    tlb1: Array[TlbEntry, TLB1_ENTRIES]
    next_victim: u32
    tlb1_used: u32  # one more than the highest valid entry of TLB1
    lock: u32
    lrat: Array[LratEntry, LRAT_ENTRIES]


class SoftData(Struct):
    """A cached data translation: host = ea + addend. Tags are the number of the page after it, see `mmu.soft_tag`."""

    read: u64
    write: u64
    addend: u64
    zero: u64  # the page may be written by dcbz of 64 bytes


class SoftCode(Struct):
    """A cached code translation: effective page | mode, and the page's 1024 entry pointers."""

    tag: u64
    entries: u64


class Context(Struct):
    """Soft TLB of one address space (LPID, PID, AS, GS, PR), in host memory that is zero where it was never used."""

    data: Array[SoftData, SOFT_DATA_ENTRIES]
    # Of the first 4 GiB, where no two pages share a slot, once more without tags: the addend where an access is
    # permitted, or 0. 32-bit mode looks here.
    low_read: Array[u64, SOFT_DATA_ENTRIES]
    low_write: Array[u64, SOFT_DATA_ENTRIES]
    code: Array[SoftCode, SOFT_CODE_ENTRIES]
    # A bit for each chunk of `data`: whether anything is in it, whether by entries of a process (MAS1[TID] not 0).
    used: Array[u64, SOFT_CHUNKS // 64]
    owned: Array[u64, SOFT_CHUNKS // 64]
    code_owned: Array[u64, SOFT_CODE_ENTRIES // 64]  # a bit for each entry of `code`


class CoreConfig(Struct):
    """Constants of a core model that native code looks at."""

    pvr: u32
    svr: u32
    is64: u32
    line_size: u32  # bytes, dcbz
    tlb0_sets: u32
    tlb0_ways: u32
    tlb1_count: u32
    mav2: u32
    pa_mask: u64
    pid_mask: u32
    threads: u32
    has_altivec: u32
    has_ept: u32
    pmcs: u32  # performance monitor counters
    spr_access: Array[u8, 1024]  # Access bits, see sprs
    spr_mask: Array[u64, 1024]  # bits that mtspr changes
    timebase_hz: u64
    virtual: u32  # a guest of Powervisor as a hypervisor: no category E.HV, sc 1 is a hypercall


class MmioLog(Struct):
    """One finished device access of the instruction being executed, kept until the instruction ends."""

    pa: u64
    data: u64
    length: u32  # bytes, or access.MMIO_FAILED
    write: u32


class Port(Struct):
    """A window of byte registers of a device, some of which native code may answer; `next` is another one's address."""

    next: u64
    pa: u64
    length: u64
    state: u64
    read: u64  # host function addresses: (state, offset) -> value, above 255 where the device must be asked
    write: u64  # (state, offset, value) -> whether it was taken
    reads: Array[u64, 16]  # answered here, by offset modulo 16, while somebody wants to know
    writes: Array[u64, 16]


class PlainRegister(Struct):
    """A register of a device that does nothing but hold bits."""

    value: u64  # host address of a u64
    mask: u64  # the bits that exist
    reads: u64  # while somebody wants to know
    writes: u64
    length: u32  # bytes


class Bank(Struct):
    """A device's window; `registers` has the address of the PlainRegister at each offset, or 0."""

    next: u64
    pa: u64
    length: u64
    registers: u64


class Rom(Struct):
    """Memory of a device that native code reads as it lies there, while `open`; `next` is another one's address."""

    next: u64
    pa: u64
    length: u64
    host: u64
    open: u64


class Stop(Struct):
    """Where a debugger stops whoever is about to execute, in the contexts whose key has `space` under `space_mask`."""

    ea: u64
    space_mask: u64
    space: u64


class Watch(Struct):
    """Bytes whose accesses a debugger stops."""

    first: u64
    last: u64
    kinds: u32  # 1: reads, 2: writes
    spare: u32


class Vcpu(Struct):
    """Everything a virtual processor holds. SPRs without hidden structure live in `spr` under their number."""

    gpr: Array[u64, 32]
    pc: u64
    npc: u64
    cr: Array[u8, 8]  # LT 8, GT 4, EQ 2, SO 1
    so: u8
    ov: u8
    ca: u8
    xer_count: u8  # XER[57:63], for lswx and stswx
    msr: u32
    mode: u32  # Mode bits derived from MSR and FPSCR
    fpscr: u32
    # A floating-point result computed by the host, whose FPSCR[FPRF, FR, FI] are worked out when FPSCR is read:
    # the instruction word (0: none) and its operands.
    fp_pending: u32
    fp_a: u64
    fp_b: u64
    fp_c: u64
    fpr: Array[u64, 32]
    vr: Array[u128, 32]  # element 0 in the most significant bits
    vscr: u32
    # The run: where code is looked up, how far it may go.
    context: u64  # address of the current Context
    page: u64  # effective address of the current code page | mode
    budget: i64  # instructions left before native code looks at the clock
    slice: i64  # the budget granted last
    left: i64  # instructions this run may still execute, `slice` included
    executed: u64  # instructions retired, up to the last slice
    fetch_pa: u64  # one-at-a-time execution: where the instruction is,
    fetch_plain: u32  # whether that is big-endian RAM,
    fetch_word: u32  # and what it was
    zero: u32  # always 0: with `requests` above it one number, which no budget reaches while anything is requested
    requests: u32
    fetch_owned: u32  # whether a TLB entry of one process translated it
    halted: u32
    exit_reason: u32
    exit_detail: u32
    # Interrupt inputs; any thread may set them, then sets Request.LINES.
    lines: u32  # Line bits
    doorbells: u32
    waiting: u32  # in `wait`, or idle by hypercall (pending.IDLE)
    hot_page: u64  # what ExitReason.HOT is about: a CodePage,
    hot_index: u32  # and a word in it
    debug_events: u32  # DBCR0 events that may fire: execute one instruction at a time
    asleep: u32  # its host thread sleeps on `requests`, see locks
    trace: u32  # what is traced, Trace bits, see trace
    watch_ns: i64  # how long it looks at `requests` before it sleeps, see timers.doze
    disabled: u32  # ThreadState
    inside: u32  # in native code: may use what it cached of translations, see shootdown
    found_next: u32
    found: Array[TlbEntry, FOUND_ENTRIES]  # copies of TLB entries that the core's other thread may change
    # What `debug_before` remembers for `debug_after`.
    debug_pc: u64
    debug_lr: u64
    debug_ctr: u64
    # A debugger's: the next instruction is executed though it stops there, and no interrupt comes before it;
    passing: u32
    watch_address: u64  # what ExitReason.WATCH is about
    deferring: u32  # in lockstep: this turn's interrupts were taken, others wait for the next
    # Reservation of lwarx/stwcx.
    reserve_valid: u32
    reserve_size: u32
    reserve_address: u64  # host address of the granule
    reserve_value: u64
    # Device accesses.
    mmio_pa: u64
    mmio_data: u64
    mmio_size: u32
    mmio_write: u32
    mmio_done: u32  # finished accesses in the log
    mmio_cursor: u32
    mmio_log: Array[MmioLog, MMIO_LOG_ENTRIES]
    restartable: u32  # executing an instruction of many accesses, which begins anew after each that leaves
    # Timers. Deadlines are in ticks of the machine, before `tb_offset` is added; all ones: never.
    tb_offset: u64
    frozen: u32  # by DBCR0[FT]:
    frozen_tick: u64  # since when,
    frozen_for: u64  # and how many ticks it was in the past
    armed_offset: u64  # the offset the deadlines were found with: the core's other thread writes `tb_offset` too
    dec_deadline: u64  # when DEC becomes 0
    fit_deadline: u64
    wdt_deadline: u64
    next_deadline: u64  # the earliest that changes TSR
    clock_time: Array[i64, 2]  # timespecs handed to the host
    sleep_time: Array[i64, 2]
    spr: Array[u64, 1024]
    pmr: Array[u32, 512]
    tmr: Array[u64, 512]
    core: Ptr[CoreConfig]
    tlb: Ptr[Tlb]
    vm: Ptr["Vm"]  # noqa: UP037 - declared below
    index: u32
    thread: u32
    sibling: u64  # Vcpu of the core's other thread, or 0
    fp_foreign: u32  # the host's sticky flags hold what AltiVec raised, which FPSCR does not see
    contexts: u64  # address of CONTEXTS Context structs
    context_clock: u64
    context_key: u64  # of the current one
    context_keys: Array[u64, CONTEXTS]  # 0: not in use
    context_used: Array[u64, CONTEXTS]
    stats: Array[u64, 64]  # see Stat
    interrupts: Array[u64, 128]  # taken, by IVOR number; those taken in the guest state + GUEST_TAKES
    timing: u64  # address of a VcpuTiming, 0: nobody wants to know
    tracer: u64  # address of its TraceRing, 0: none


class ThreadState:
    """Values of `Vcpu.disabled`: what TENS and TENC made of a thread."""

    ENABLED = 0
    STOPPING = 1  # still between two of its instructions, TENSR shows it enabled
    STOPPED = 2


class Line:
    """Bits of `Vcpu.lines`: interrupt inputs."""

    EXTERNAL = 1
    CRITICAL = 2
    MACHINE_CHECK = 4
    NMI = 8
    DEBUG_UNCONDITIONAL = 16


class Doorbell:
    """Bits of `Vcpu.doorbells`, by message type."""

    DBELL = 1
    CRITICAL = 2
    GUEST = 4
    GUEST_CRITICAL = 8
    GUEST_MACHINE_CHECK = 16


class Stat:
    """Indexes of `Vcpu.stats`."""

    EXITS = 0  # + ExitReason, 16 of them
    TLB_MISSES = 17
    SOFT_FILLS = 18
    TRANSLATED_BLOCKS = 19
    TRANSLATED_INSNS = 20
    CODE_LOOKUPS = 21
    HALTS = 22
    REGION_STOPS = 23
    CONTEXT_SWITCHES = 24
    HYPERCALLS = 25


class Vm(Struct):
    """What the vCPUs of a machine share."""

    ram: u64  # host address of guest-physical 0
    ram_size: u64
    vcpu_count: u32
    vcpus: Array[u64, 32]
    clock_gettime: u64  # host function addresses
    futex: u64
    timebase_start: i64  # host CLOCK_MONOTONIC ns at time base 0
    irqchip: u64  # address of the interrupt controller's state, 0: none
    irqchip_pa: u64
    irqchip_size: u64
    irqchip_read: u64  # host function addresses: (state, offset, cpu) -> u32
    irqchip_write: u64  # (state, offset, value, cpu)
    irqchip_ack: u64  # (state, cpu) -> vector
    irqchip_proxy: u64  # (state) -> 1 in external proxy mode
    irqchip_taken: u64  # (state, cpu) -> ns since the interrupt that is taken was raised, all ones: not known
    ports: u64  # address of the first Port, 0: none
    banks: u64  # address of the first Bank, 0: none
    roms: u64  # address of the first Rom, 0: none
    stops: u64  # address of the debugger's Stop structs, and how many; which words of pages they are in
    stop_count: u32
    watch_count: u32
    stop_words: Array[u64, 16]
    watches: u64  # address of Watch structs
    hooked_interrupts: u64  # bit n: vCPUs leave when they have taken interrupt n
    code_lock: u32
    code_map: u64  # u64 per physical page: head of its list of CodePage
    code_pages: u64  # bump pointer for CodePage structs
    code_pages_end: u64
    code_next: u64  # bump pointer for translated code
    code_end: u64
    miss_ladder: u64  # first stub of entries without code, and their distance
    miss_step: u64
    tables: u64  # address of the translator's Tables
    hot_after: u32  # time slices that end before an instruction until it is hot; 0: never
    hot_at_once: u32  # whatever is translated is hot
    clock_pause: i64  # ns that the machine's clock was held
    fixed_ns: i64  # the host clock where `clock_gettime` is 0
    lockstep: u32  # one thread runs the vCPUs in turns, between which time passes: nothing depends on translation
    round_end: u64  # the tick to which these turns last
    timebase_hz: u64
    coverage: u32  # blocks end after each branch and are told when they are translated; nothing gets hot
