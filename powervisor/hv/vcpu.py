"""A virtual processor as the machine half sees it: run it, answer its exits, read and write its registers."""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import Any

from ..isa.cores import Core
from ..isa.registers import IVOR
from ..native.struct import size_of
from ..translate.engine import Engine
from ..vcpu.access import MMIO_FAILED
from ..vcpu.build import Processor, reset
from ..vcpu.inspect import UNMAPPED
from ..vcpu.locks import BILLION
from ..vcpu.state import GUEST_TAKES, ExitReason, MmioLog, Request, Stat, TlbEntry
from ..vcpu.state import Vcpu as State
from ..vcpu.stops import WRITES
from ..vcpu.timers import NEVER
from ..vcpu.timing import VcpuTiming
from .exits import (
    Budget,
    Checkstop,
    CodeFull,
    Debug,
    Exit,
    Hcall,
    Hot,
    Interrupt,
    Kick,
    Mmio,
    NoHandler,
    Reset,
    Scope,
    Watched,
)
from .registers import Registers

UNLIMITED = (1 << 63) - 1
LOW = 0xFFFF_FFFF

_EXIT = struct.Struct("<II")  # exit_reason, exit_detail
_RUN = struct.Struct("<qqq")  # budget, slice, left
_MMIO = struct.Struct("<QQIII")  # mmio_pa, mmio_data, mmio_size, mmio_write, mmio_done
_LOG = struct.Struct("<QQII")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_HCALL = struct.Struct("<9Q")  # r3 to r11
_HCALL_AT = State.offset("gpr") + 3 * 8
_DEFERRING_AT, _DEADLINE_AT = State.offset("deferring"), State.offset("next_deadline")
_EXIT_AT, _RUN_AT = State.offset("exit_reason"), State.offset("budget")
_MMIO_AT, _DONE_AT, _LOG_AT = State.offset("mmio_pa"), State.offset("mmio_done"), State.offset("mmio_log")

_INTERRUPTS_AT = State.offset("interrupts")
_INTERRUPT_COUNTS = struct.Struct("<128Q")

NAMES = {value: name.lower() for name, value in vars(ExitReason).items() if name.isupper()}
"""Names of exit reasons, for statistics."""


class Vcpu:
    """One vCPU. `run` belongs to one thread; `kick` may be called by any."""

    def __init__(self, engine: Engine, processor: Processor, core: Core) -> None:
        """`core` is the model as the guest sees it."""
        self.engine, self.processor, self.core = engine, processor, core
        self.state: Any = processor.cpu
        self.index = int(self.state.index)
        self.address: int = self.state.address
        self._memory = memoryview((ctypes.c_char * State.size).from_address(self.address)).cast("B")
        self.regs = Registers(self)
        self.exits = [0] * 16
        self.asking = False
        """Whether the last exit is an Mmio, Hcall or Reset without an answer, and the vCPU was not reset since."""
        self.inside = False
        """Whether it is in native code or was let in, see `Vm`."""
        self.entered = self.left = 0
        """When it went into native code last and came back, in ns of CLOCK_MONOTONIC; 0 without observers."""
        self._access = (0, 0, 0, 0, 0)  # the last exit's pa, data, size, write, and how many were done before
        self._wake = engine.function("wake", None, ctypes.c_uint64, ctypes.c_uint32)

    def run(self, budget: int = UNLIMITED) -> Exit:
        """Execute until something needs the machine half, at most `budget` instructions."""
        memory = self._memory
        _EXIT.pack_into(memory, _EXIT_AT, 0, 0)
        _RUN.pack_into(memory, _RUN_AT, 0, 0, budget)
        self.engine.run(self.address)
        reason, detail = _EXIT.unpack_from(memory, _EXIT_AT)
        self.exits[reason] += 1
        if reason == ExitReason.MMIO:
            self._access = pa, value, size, write, _ = _MMIO.unpack_from(memory, _MMIO_AT)
            self.asking = True
            return Mmio(pa, size, value, write != 0)
        return self._exit(reason, detail)

    def _exit(self, reason: int, detail: int) -> Exit:
        match reason:
            case ExitReason.BUDGET:
                return Budget()
            case ExitReason.KICK | ExitReason.THREADS:
                return Kick()
            case ExitReason.DEBUG:
                return Debug()
            case ExitReason.WATCH:
                return Watched(int(self.state.watch_address), detail == WRITES)
            case ExitReason.INTERRUPT:
                return Interrupt(detail)
            case ExitReason.WATCHDOG:
                self.asking = True
                return Reset("watchdog", WATCHDOG_SCOPE[detail], detail)
            case ExitReason.RESET:
                self.asking = True
                return Reset("DBCR0[RST]", Scope(detail))
            case ExitReason.HCALL:
                self.asking = True
                *arguments, _, _, token = (gpr & LOW for gpr in _HCALL.unpack_from(self._memory, _HCALL_AT))
                return Hcall(token, tuple(arguments))
            case ExitReason.CODE_FULL:
                return CodeFull()
            case ExitReason.HANDLER:
                return NoHandler(detail)
            case ExitReason.HOT:
                return Hot()
            case ExitReason.CHECKSTOP:
                return Checkstop(CHECKSTOPS.get(detail, "machine check while MSR[ME]=0"))
        raise AssertionError(f"cpu{self.index}: exit reason {reason} is not known")

    # ---- answers to Hcall and Mmio -----------------------------------------------------------------------------------

    def _log(self, data: int, size: int) -> None:
        self.asking = False
        pa, _, real_size, write, done = self._access
        _LOG.pack_into(self._memory, _LOG_AT + done * MmioLog.size, pa, data, size or real_size, write)
        _U32.pack_into(self._memory, _DONE_AT, done + 1)

    def complete_hcall(self, *results: int) -> None:
        """The status and what else the call returns, for r3 and on."""
        self.asking = False
        struct.pack_into(f"<{len(results)}Q", self._memory, _HCALL_AT, *results)

    def complete_read(self, value: int) -> None:
        """The register's value."""
        self._log(value, 0)

    def complete_write(self) -> None:
        """The register was written."""
        self._log(0, 0)

    def fail_access(self) -> None:
        """Nothing answered: the guest gets a machine check."""
        self._log(0, MMIO_FAILED)

    def translate(self, ea: int) -> int | None:
        """Physical address behind an effective one, as the next instruction would find it; the vCPU is stopped."""
        found = self.engine.debug_address(self.address, ea)
        return None if found == UNMAPPED else int(found)

    def pass_stop(self) -> None:
        """Let the next instruction be executed whatever a debugger set, and no interrupt come before it."""
        self.state.passing = 1

    # ---- lockstep --------------------------------------------------------------------------------------------------

    def let_interrupts(self) -> None:
        """Take pending interrupts when `run` begins, or when the access that was answered is done, and not again."""
        _U32.pack_into(self._memory, _DEFERRING_AT, 0)

    def look_at_timers(self) -> Exit | None:
        """Put into TSR what expired and find the next deadline; the exit if that is a reset by the watchdog."""
        _EXIT.pack_into(self._memory, _EXIT_AT, 0, 0)
        self.engine.check_timers(self.address)
        reason, detail = _EXIT.unpack_from(self._memory, _EXIT_AT)
        return self._exit(reason, detail) if reason else None

    @property
    def next_deadline(self) -> int | None:
        """When, in nanoseconds of `Vm.set_time`, a timer changes TSR next; None when none will."""
        tick: int = _U64.unpack_from(self._memory, _DEADLINE_AT)[0]
        if tick == NEVER or int(self.state.frozen):
            return None
        vm = self.state.vm
        return int(vm.timebase_start) - -(tick + int(self.state.frozen_for)) * BILLION // int(vm.timebase_hz)

    @property
    def waits(self) -> bool:
        """Whether it executes nothing before an interrupt comes, or somebody lets it."""
        return bool(self.halted or self.state.waiting)

    # ---- the rest --------------------------------------------------------------------------------------------------

    def kick(self, bits: int = Request.KICK) -> None:
        """Make the vCPU leave native code soon (or act on other Request bits); wakes it when it waits."""
        self._wake(self.address, bits)

    @property
    def halted(self) -> bool:
        """Held in reset or by the spin table, or a thread that is not enabled."""
        return bool(self.state.halted or self.state.disabled)

    @property
    def instructions(self) -> int:
        """Instructions executed so far, up to the last time slice."""
        return int(self.state.executed)

    def hold(self) -> None:
        """Execute nothing more until `reset`."""
        self.state.halted = 1

    def reset(self, scope: int = 0, watchdog: int = 0) -> None:
        """Reset state: first threads of cores held, second ones disabled until TENS enables them.

        DBSR[MRR] becomes `scope` and TSR[WRS] `watchdog`: 0 after power-on, else what a `Reset` exit says.
        """
        self.asking = False
        reset(self.state, self.core, scope, watchdog, self.engine.reset_contexts)
        self.state.halted = int(int(self.state.thread) == 0)

    def map_initial(self, index: int, base: int, size: int, coherent: bool = False) -> None:
        """Write the TLB1 entry a CPU enters with: effective 0 to `base`, `size` bytes, every permission."""
        entry: Any = self.state.tlb.tlb1[index]
        ctypes.memset(entry.address, 0, size_of(TlbEntry))
        entry.pa, entry.mask = base, size - 1
        entry.mas1 = 1 << 31 | (size.bit_length() - 11) << 7
        entry.mas2, entry.mas3, entry.valid = 4 if coherent else 0, 0x3F, 1
        self.state.tlb.tlb1_used = max(int(self.state.tlb.tlb1_used), index + 1)

    def follow_timebase(self, other: Vcpu) -> None:
        """Give this core, which is held, the time base of another one."""
        self.state.tb_offset = (int(other.state.tb_offset) - int(other.state.frozen_for)) & (1 << 64) - 1
        if int(self.state.sibling):
            State.at(int(self.state.sibling)).tb_offset = self.state.tb_offset

    def start(self, pc: int, gpr: dict[int, int]) -> None:
        """Leave the held state at an address."""
        self.state.pc = pc
        for number, value in gpr.items():
            self.state.gpr[number] = value
        self.state.halted = 0
        self.kick(Request.LINES)

    def exit_counts(self) -> dict[str, int]:
        """How often the vCPU came back, by reason."""
        return {NAMES[reason]: count for reason, count in enumerate(self.exits) if count}

    def counters(self) -> dict[str, int]:
        """Instructions executed, and what native code counts (`Stat`)."""
        indexes = {name.lower().replace("_", "-"): index for name, index in vars(Stat).items() if name.isupper()}
        stats = self.state.stats
        named = {name: int(stats[index]) for name, index in indexes.items() if index >= len(self.exits)}
        return {"instructions": self.instructions, "interrupts": sum(self.interrupts().values()), **named}

    def interrupts(self) -> dict[str, int]:
        """How many interrupts were taken, by name (`INTERRUPTS`); those taken in the guest state, by GIVORs, apart."""
        counts = _INTERRUPT_COUNTS.unpack_from(self._memory, _INTERRUPTS_AT)
        return {_interrupt_name(number): count for number, count in enumerate(counts) if count}

    @functools.cached_property
    def timing(self) -> Any:
        """VcpuTiming; it stays where it is, since other vCPUs write there too."""
        return VcpuTiming.new()

    def measure(self, on: bool) -> None:
        """Let native code measure waits and latencies from now on, in `timing`, or stop that."""
        if on:
            ctypes.memset(self.timing.address, 0, VcpuTiming.size)
        self.state.timing = self.timing.address if on else 0


INTERRUPTS = {
    IVOR.CRITICAL: "critical", IVOR.MACHINE_CHECK: "machine_check", IVOR.DATA_STORAGE: "dsi",
    IVOR.INSTRUCTION_STORAGE: "isi", IVOR.EXTERNAL: "ext_intr", IVOR.ALIGNMENT: "alignment", IVOR.PROGRAM: "program",
    IVOR.FP_UNAVAILABLE: "fp_unavail", IVOR.SYSTEM_CALL: "sysc", IVOR.AP_UNAVAILABLE: "ap_unavail",
    IVOR.DECREMENTER: "dec", IVOR.FIT: "fit", IVOR.WATCHDOG: "watchdog", IVOR.DATA_TLB: "dtlb_v",
    IVOR.INSTRUCTION_TLB: "itlb_v", IVOR.DEBUG: "debug", IVOR.ALTIVEC_UNAVAILABLE: "altivec_unavail",
    IVOR.ALTIVEC_ASSIST: "altivec_assist", IVOR.PERFORMANCE_MONITOR: "perf_monitor", IVOR.DOORBELL: "doorbell",
    IVOR.CRITICAL_DOORBELL: "critical_doorbell", IVOR.GUEST_DOORBELL: "guest doorbell",
    IVOR.GUEST_CRITICAL_DOORBELL: "guest critical_doorbell", IVOR.HYPERVISOR_SYSTEM_CALL: "hv_sysc",
    IVOR.HYPERVISOR_PRIVILEGE: "hv_priv", IVOR.LRAT_ERROR: "lrat_error",
}  # fmt: skip
"""Interrupts by IVOR number: as KVM for Book E calls its counters of what a guest takes, where it counts them."""


def _interrupt_name(number: int) -> str:
    name = INTERRUPTS.get(number % GUEST_TAKES, f"ivor{number % GUEST_TAKES}")
    return name if number < GUEST_TAKES else f"{name} (guest state)"


WATCHDOG_SCOPE = {1: Scope.CORE, 2: Scope.CHIP, 3: Scope.CORE}
"""What TCR[WRC] asks for, as Freescale's libos (core-regs.h) has it for e500mc and later: 1 an interrupt of the MPIC, 2
the chip's reset request, 3 a reset of the core. Our MPIC has no such input: 1 resets the core as well."""

CHECKSTOPS = {1: "an interrupt vector raises the interrupt it is the vector of"}
"""Exit details of ExitReason.CHECKSTOP."""
