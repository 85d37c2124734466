"""The two machines of a differential test: the oracle (Python) and native code, each with RAM and a vCPU of its own."""

from __future__ import annotations

import ctypes
import mmap
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ..insns import TABLE
from ..isa.cores import Core
from ..isa.insn import Insn
from ..isa.registers import ESR, MSR, SPR
from ..native.lang import attempt
from ..native.struct import size_of
from ..translate import dispatch
from ..translate.engine import Engine
from ..translate.tier1.options import RegionOptions
from ..vcpu import fpscr
from ..vcpu.build import new_core_config, new_vcpu, new_vm
from ..vcpu.debug import debug_after, debug_before
from ..vcpu.interrupts import raise_program
from ..vcpu.mmu import EXECUTE, code_space, data_space, fill_data, find, physical, translate
from ..vcpu.modes import update_mode
from ..vcpu.pending import quiet, take_pending
from ..vcpu.sprs import Access, access_table
from ..vcpu.state import (
    CONTEXTS,
    Context,
    ExitReason,
    MmioLog,
    Request,
    Tlb,
    TlbEntry,
    Vcpu,
)
from ..vcpu.timers import check_timers
from . import place, soft_tlb
from .cases import Case
from .state import TLB_COMPARED, architecture, reservation, tlb_values, values

SVR = 0x8500_0012
UNLIMITED = 1 << 40
STEPS_AT_ONCE = dispatch.ONE_AT_A_TIME - 1
CODE_LIMIT = 24 << 20
"""Bytes of translated code after which the code space is emptied."""
HANG_SECONDS = 10
_SPACE = MSR.IS | MSR.PR | MSR.GS | MSR.CM
TRANSLATING = frozenset(("special", "system", "mmu", "cache"))
"""Families of instructions that may change translations."""


def device_value(pa: int, size: int) -> int:
    """What the devices of these tests answer: a number that depends on the address and the size."""
    return (pa * 0x9E37_79B9_7F4A_7C15 ^ size * 0x0101_0101_0101_0101) & (1 << 8 * size) - 1


@dataclass
class Outcome:
    """What is compared after a run, besides what lies in memory: how it ended, steps made, device accesses.

    `unfetched` steps, whose fetch was interrupted, are counted by native code only while it executes one at a time.
    """

    exit: tuple[int, int] = (0, 0)
    steps: int = 0
    unfetched: int = 0
    devices: list[tuple[int, int, int, int]] = field(default_factory=list)


CODE_SPACE = 64 << 20
"""Bytes for translated code: several machines share the low 2 GiB."""


class Side:
    """A vCPU over RAM of its own, put into the state of a case before each run."""

    def __init__(self, core: Core) -> None:
        self.core, self.table = core, TABLE.for_core(core.categories)
        self.ram = mmap.mmap(-1, place.RAM_SIZE)
        self._pin: Any = (ctypes.c_char * place.RAM_SIZE).from_buffer(self.ram)
        self.ram_address = ctypes.addressof(self._pin)
        self.vm = new_vm(self.ram_address, place.RAM_SIZE)
        self.vm.clock_gettime = 0  # the clock stands still at Vm.fixed_ns
        self.processor = new_vcpu(self.vm, core, new_core_config(core, SVR), 0)
        self.cpu: Any = self.processor.cpu
        self.address: int = self.cpu.address
        self.memory = memoryview((ctypes.c_char * Vcpu.size).from_address(self.address)).cast("B")
        self._power_on = ctypes.string_at(self.address, Vcpu.size)
        self._contexts = int(self.cpu.contexts)
        self._tlb = self.cpu.tlb.address

    def load(self, case: Case) -> None:
        """Put the machine into the state a case begins with; no translation is cached."""
        ctypes.memmove(self.address, self._power_on, Vcpu.size)
        for n in range(CONTEXTS):
            soft_tlb.empty(self._contexts + n * Context.size)
        ctypes.memmove(self._tlb, place.tlb_image(self.core.name, case.layout), size_of(Tlb))
        ctypes.memmove(self.ram_address + place.DATA_PA, case.data, place.DATA_SIZE)
        self.ram[place.CODE_PA : place.CODE_PA + place.CODE_SIZE] = case.code()
        self.ram[place.HANDLERS_PA : place.HANDLERS_PA + place.PAGE] = place.handlers()
        case.registers.write(self.memory)
        self.vm.fixed_ns = case.clock_ns

    def answer(self, outcome: Outcome) -> None:
        """Do the device access that the vCPU waits for."""
        cpu = self.cpu
        pa, size, write = int(cpu.mmio_pa), int(cpu.mmio_size), int(cpu.mmio_write)
        outcome.devices.append((pa, size, write, int(cpu.mmio_data) & (1 << 8 * size) - 1 if write else 0))
        data = 0 if write else device_value(pa, size)
        at = Vcpu.offset("mmio_log") + int(cpu.mmio_done) * MmioLog.size
        struct.pack_into("<QQII", self.memory, at, pa, data, size, write)
        cpu.mmio_done += 1

    def go_on(self, pc: int, msr: int) -> None:
        """Continue elsewhere, as if an interrupt handler had returned."""
        self.cpu.pc, self.cpu.msr, self.cpu.exit_reason, self.cpu.mmio_done = pc, msr, 0, 0

    def close(self) -> None:
        """Free the RAM."""
        self._pin = None
        self.ram.close()


class OracleSide(Side):
    """Python executes the case word by word, with no translation cached from before anything that may change one."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._clears = {
            entry.name: (entry.ends or not entry.hot or entry.group in TRANSLATING)
            and not (entry.hot and entry.group == "branch")
            for entry in self.table
        }
        self._effect = [access & Access.EFFECT for access in access_table(core)]
        self._page, self._frame, self._plain = -1, 0, True
        self._frames: dict[tuple[int, int, int, int], Any] = {}
        self._found: Any = None
        self.executed: list[tuple[Insn | None, int, int, bool, int]] = []
        """Of the last run: entry, word, Vcpu.mode, whether it completed, and PC."""

    def load(self, case: Case) -> None:
        """Also forgets what was executed."""
        super().load(case)
        self.executed = []
        self._page = -1
        self._frames = {}
        update_mode(self.cpu)

    def go_on(self, pc: int, msr: int) -> None:
        super().go_on(pc, msr)
        update_mode(self.cpu)
        self._page = -1

    def run(self, limit: int) -> Outcome:
        """Execute until the case ends by itself or `limit` steps are made (exit (BUDGET, 0))."""
        cpu, outcome = self.cpu, Outcome()
        check_timers(cpu)
        take_pending(cpu)
        while outcome.steps < limit:
            if self.step(outcome):
                break
        else:
            outcome.exit = int(ExitReason.BUDGET), 0
        if cpu.fp_pending:
            fpscr.settle(cpu)
        return outcome

    def step(self, outcome: Outcome) -> bool:
        """Execute one word; whether the case has ended."""
        cpu = self.cpu
        pc, events = int(cpu.pc), int(cpu.debug_events)
        if events and attempt(debug_before, cpu):
            outcome.steps += 1
            self._settle()
            return False
        pa = self._fetch(pc)
        if pa is None:
            outcome.steps += 1
            outcome.unfetched += 1
            self._settle()
            return False
        if pa >= place.RAM_SIZE:
            return True
        word = int.from_bytes(self.ram[pa : pa + 4], "big" if self._plain else "little")
        mode = int(cpu.mode)
        outcome.steps += 1
        while True:
            entry, done = self.execute(word)
            if cpu.exit_reason != ExitReason.MMIO:
                break
            cpu.exit_reason = 0
            self.answer(outcome)
        cpu.mmio_done = 0
        self.executed.append((entry, word, mode, done, pc))
        if done and events and cpu.debug_events:
            debug_after(cpu, word, events)
        if entry is None or not done or self._clears[entry.name]:
            self._settle(entry, word)
            if cpu.exit_reason or cpu.waiting:
                outcome.exit = int(cpu.exit_reason), int(cpu.exit_detail)
                return True
        return False

    def execute(self, word: int) -> tuple[Insn | None, bool]:
        """Execute a word at PC; its entry, and whether it completed (not interrupted, no device access missing)."""
        cpu = self.cpu
        entry = self.table.decode(word)
        limit = 0xFFFF_FFFF_FFFF_FFFF if cpu.mode & 1 else 0xFFFF_FFFF
        cpu.npc = (int(cpu.pc) + 4) & limit
        cpu.mmio_cursor = 0
        if entry is None:
            attempt(raise_program, cpu, ESR.PIL)
            return None, False
        if attempt(entry.function.body, cpu, *entry.operands(word).values()):
            return entry, False
        cpu.pc = cpu.npc
        return entry, True

    def _fetch(self, pc: int) -> int | None:
        """Physical address of an instruction, None when its fetch was interrupted."""
        if self._page != pc >> 12:
            spr = self.cpu.spr
            key = pc >> 12, int(self.cpu.msr) & _SPACE, int(spr[SPR.PID]), int(spr[SPR.LPIDR])
            found = self._frames.get(key)
            if found is None:
                self._found = None
                if attempt(self._look_up, pc):
                    return None
                found = self._frames[key] = self._found
            self._frame, self._plain = found
            self._page = pc >> 12
        return self._frame | pc & 0xFFF

    def _look_up(self, pc: int) -> None:
        cpu = self.cpu
        entry = TlbEntry.at(translate(cpu, cpu.pc, code_space(cpu), EXECUTE, 0))
        self._found = int(physical(entry, cpu.pc)) & ~0xFFF, not int(entry.mas2) & 1

    def _settle(self, entry: Insn | None = None, word: int = 0) -> None:
        """After what may change translations or enable interrupts: forget the former, take the latter."""
        cpu = self.cpu
        if entry is not None and entry.group in TRANSLATING:
            soft_tlb.empty(int(cpu.context))
            if entry.group == "mmu" or (entry.name == "mtspr" and self._effect[int(entry.operands(word)["spr"])]):
                self._frames = {}
        self._page = -1
        if cpu.lines or not quiet(cpu):
            take_pending(cpu)


class NativeSide(Side):
    """Native code executes the case, in translated blocks or one instruction at a time through handlers."""

    def __init__(self, core: Core, tier1: str | None = None, regions: RegionOptions | None = None) -> None:
        super().__init__(core)
        self.engine = Engine(
            core, self.vm, [], tier1=tier1, regions=regions, code_space=CODE_SPACE
        )  # fmt: skip
        self._settle = self.engine.settle
        self._warm: dict[Any, dict[int, tuple[bytes, ...]]] = {}
        self._sleeper = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5)(self._sleep)
        self.vm.futex = ctypes.cast(self._sleeper, ctypes.c_void_p).value
        self._since = 0.0
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _sleep(self, *_: int) -> int:
        """Instead of sleeping for ever a waiting vCPU leaves native code."""
        self.cpu.requests = Request.KICK
        return 0

    def load(self, case: Case) -> None:
        """Also drops code translated before; data translations are cached when the case says so."""
        super().load(case)
        self._drop_code()
        self.cpu.requests = 0
        self.engine.update_mode(self.address)
        if case.warm and not self.cpu.debug_events:
            self._warm_up(case)

    def _drop_code(self) -> None:
        if self.engine.code_bytes() > CODE_LIMIT:
            self.engine.flush()
        else:
            self.engine.drop_range(self.vm.address, place.CODE_PA, place.CODE_SIZE)
            self.engine.drop_range(self.vm.address, place.HANDLERS_PA, place.PAGE)

    def _warm_up(self, case: Case) -> None:
        """Cache the data translations that accesses to the plain pages would have cached."""
        cpu = self.cpu
        where = int(cpu.context)
        key = case.layout, int(cpu.context_key), int(cpu.mode) & 1
        image = self._warm.get(key)
        if image is None:
            space = data_space(cpu)
            for ea in (0, *(case.layout.data + number * place.PAGE for number in range(len(place.PAGES)))):
                if not case.layout.high or cpu.mode & 1:
                    found = find(cpu, ea, space, 0)
                    if found:
                        fill_data(cpu, ea, TlbEntry.at(found), space)
            image = self._warm[key] = soft_tlb.data_translations(where)
        soft_tlb.put_data_translations(where, image)

    def go_on(self, pc: int, msr: int) -> None:
        super().go_on(pc, msr)
        self.engine.update_mode(self.address)

    def run(self, limit: int, by_steps: bool, exact: bool = False) -> Outcome:
        """Run until the case ends by itself, or (by_steps, exact) exactly `limit` steps are made since the load."""
        cpu, outcome = self.cpu, Outcome(steps=int(self.cpu.executed))
        self._since = time.monotonic()
        self._run(cpu, outcome, limit, STEPS_AT_ONCE if by_steps else UNLIMITED, by_steps or exact)
        self._since = 0.0
        return outcome

    def _watch(self) -> None:
        """Make native code leave when a run takes longer than anything a test asks for."""
        while not self._closed.wait(1):
            if self._since and time.monotonic() - self._since > HANG_SECONDS:
                self._sleep()

    def _run(self, cpu: Any, outcome: Outcome, limit: int, at_once: int, exact: bool) -> None:
        while True:
            left = min(at_once, limit - outcome.steps) if exact else at_once
            cpu.exit_reason = cpu.exit_detail = 0
            cpu.left, cpu.slice, cpu.budget = left, 0, 0
            self.engine.run(cpu.address)
            reason = int(cpu.exit_reason)
            outcome.steps = int(cpu.executed)
            outcome.exit = reason, int(cpu.exit_detail)
            if reason == ExitReason.MMIO:
                pa = int(cpu.mmio_pa)
                if int(cpu.fetch_pa) == pa:  # an instruction fetch
                    outcome.exit = 0, 0
                    break
                self.answer(outcome)
            elif reason == ExitReason.CODE_FULL:
                self.engine.flush()
                self.engine.forget_all(self.address)
            elif reason == ExitReason.HOT:
                self.engine.hot(cpu)
                self._since = time.monotonic()
            elif reason == ExitReason.BUDGET:
                if outcome.steps >= limit:
                    break
            elif reason == ExitReason.KICK and cpu.waiting:
                outcome.exit = 0, 0
                break
            else:
                break
        self._settle(self.address)

    def close(self) -> None:
        """Free native code too."""
        self._closed.set()
        self.engine.close()
        super().close()


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def clear_upper_halves(*sides: Side) -> None:
    """Make registers of 32-bit cores comparable with what regions leave: the upper halves of GPRs, LR and CTR mean
    nothing."""
    for side in sides:
        if side.core.bits == 32:
            cpu = side.cpu
            for n in range(len(cpu.gpr)):
                cpu.gpr[n] = int(cpu.gpr[n]) & 0xFFFF_FFFF
            for n in (SPR.LR, SPR.CTR):
                cpu.spr[n] = int(cpu.spr[n]) & 0xFFFF_FFFF


def same(a: Side, b: Side) -> bool:
    """Whether two sides agree on every register, TLB entry and byte of RAM."""
    return (
        architecture(a.address) == architecture(b.address)
        and _memcmp(a.ram_address, b.ram_address, place.RAM_SIZE) == 0
        and _memcmp(a._tlb, b._tlb, TLB_COMPARED) == 0
        and reservation(a.cpu) == reservation(b.cpu)
    )


def differences(a: Side, b: Side) -> list[str]:
    """What two sides disagree on, a line each."""
    rows = [
        f"{name}: {one:#x}, native {other:#x}"
        for (name, one), (_, other) in (
            *zip(values(a.cpu), values(b.cpu), strict=True),
            *zip(tlb_values(a.cpu.tlb), tlb_values(b.cpu.tlb), strict=True),
        )
        if one != other
    ]
    if reservation(a.cpu) != reservation(b.cpu):
        rows.append(f"reservation: {reservation(a.cpu)}, native {reservation(b.cpu)}")
    one, other = bytes(a.ram), bytes(b.ram)
    rows += [f"RAM {n:#x}: {one[n]:#04x}, native {other[n]:#04x}" for n in range(len(one)) if one[n] != other[n]]
    return rows
