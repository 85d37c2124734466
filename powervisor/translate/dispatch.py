"""Between blocks: where code continues, what is serviced there, and one-at-a-time execution."""

from __future__ import annotations

from ..isa.registers import MAS2
from ..native.ints import i64, u32, u64
from ..native.lang import (
    Abort,
    at,
    atomic_load,
    atomic_store,
    atomic_xchg,
    attempt,
    bswap,
    call_host,
    field_addr,
    load,
    native,
)
from ..native.locks import give_way
from ..vcpu.access import mmio_exit, rom
from ..vcpu.codemap import WORDS_PER_PAGE, CodePage, lock_code, reset_entries, unlock_code
from ..vcpu.debug import debug_after, debug_before
from ..vcpu.fpscr import fp_enter, fp_leave
from ..vcpu.locks import BILLION, FOREVER, sleep, stop_thread
from ..vcpu.mmu import EXECUTE, PAGE, code_space, entry_pid, fill_code, forget_all, in_ram, physical, translate
from ..vcpu.pending import IDLE, idle_ends, take_pending
from ..vcpu.sampling import sample
from ..vcpu.spinning import waits
from ..vcpu.state import (
    SOFT_CODE_ENTRIES,
    Context,
    ExitReason,
    Request,
    SoftCode,
    Stat,
    TlbEntry,
    Vcpu,
    Vm,
)
from ..vcpu.stops import may_stop, stops_here
from ..vcpu.timers import check_timers, doze, host_ns, idle_timeout_ns, soon
from ..vcpu.timing import VcpuTiming, rested
from ..vcpu.trace import (
    Trace,
    TraceEvent,
    after_instruction,
    before_instruction,
    emit,
    steps_here,
    trace_stepped,
    traces_here,
)
from .reach import reach
from .tables import Tables
from .translator import BLOCK_LIMIT, decode, translate_block

SLICE = 40_000
"""Instructions between two looks at the clock, at most: about 20 microseconds."""
SCATTER = 0x9E37_79B9_7F4A_7C15
"""Makes slices differ in length (by 13 bits of the product with the instructions retired): slices of one length end
again and again at the same few places of a loop, and `warm` would not see the others."""
HOTTEST = 254
"""What `CodePage.heat` grows to; one more says that a region was published."""
SHORTEST_SLICE = 1_000
"""Instructions of the last slice before a timer is due."""
WAITING_SLICE = 2_000
"""Instructions of a slice in a loop that waits for another vCPU."""
COUNTED = 1 << 62
"""Fewer instructions left than this: the run has a limit."""
LONGEST_NAP = 50_000_000
"""Nanoseconds a vCPU of such a run sleeps at a time."""
ONE_AT_A_TIME = WORDS_PER_PAGE + BLOCK_LIMIT
"""The last instructions of a run are executed one by one, or as far as they cannot be too many (`hop`): forward jumps
in a page do not look at the budget."""


@native
def known_page(slot: u64, mode: u32) -> u64:
    """The CodePage of a mode in a list, or 0. Pages are added at the front, and taken away while nobody is here."""
    where = atomic_load(u64, slot)
    while where != 0:
        page = at(CodePage, where)
        if page.mode == mode:
            return where
        where = page.next
    return u64(0)


@native
def code_page(vm: Vm, pa: u64, mode: u32) -> u64:
    """The CodePage of a physical page and mode, made when new; 0 when there is no room."""
    slot = vm.code_map + (pa >> 12) * 8
    where = known_page(slot, mode)
    if where != 0:
        return where
    lock_code(vm)
    where = known_page(slot, mode)
    if where != 0:
        unlock_code(vm)
        return where
    fresh = vm.code_pages
    if fresh + CodePage.size > vm.code_pages_end:
        unlock_code(vm)
        return u64(0)
    vm.code_pages = fresh + CodePage.size
    page = at(CodePage, fresh)
    page.pa = pa
    page.mode = mode
    page.next = load(u64, slot)
    reset_entries(vm, page)
    link(slot, fresh)
    unlock_code(vm)
    return fresh


@native(inline=True)
def link(slot: u64, page: u64) -> None:
    """Publish a CodePage in the code map."""
    atomic_xchg(u64, slot, page)


@native
def service(cpu: Vcpu) -> None:
    """Requests of other threads, the clock, pending interrupts. PC is between two instructions."""
    requests = atomic_xchg(u32, field_addr(cpu, "requests"), u32(0))
    if requests & Request.FLUSH:
        forget_all(cpu)
    # Leaving for another reason will do as well; turns in lockstep end where they have to.
    if requests & Request.KICK and cpu.exit_reason == 0 and cpu.vm.lockstep == 0:
        cpu.exit_reason = u32(ExitReason.KICK)
    if requests & Request.SAMPLE:
        sample(cpu)
    settle(cpu)
    refill(cpu, check_timers(cpu))


@native(inline=True)
def refill(cpu: Vcpu, ticks: u64) -> None:
    """Grant the next slice; it ends when a timer that is due in so many ticks may be, and the clock is looked at."""
    grant = cpu.left
    if grant > ONE_AT_A_TIME:
        grant -= ONE_AT_A_TIME
        if grant > SLICE:
            grant = SLICE - i64(cpu.executed * SCATTER >> 51)
        if ticks < soon(cpu.vm.timebase_hz):
            near = i64(ticks * BILLION // cpu.vm.timebase_hz)  # an instruction a nanosecond: rather too early
            if near < SHORTEST_SLICE:
                near = i64(SHORTEST_SLICE)
            if near < grant:
                grant = near
    cpu.slice = grant
    cpu.budget = grant


@native(inline=True)
def settle(cpu: Vcpu) -> None:
    """Account the instructions retired since the last slice was granted."""
    spent = cpu.slice - cpu.budget
    cpu.executed += u64(spent)
    cpu.left -= spent
    cpu.slice = cpu.budget


@native
def enter(cpu: Vcpu) -> None:
    """Before native code of this vCPU runs on a host thread."""
    atomic_store(u32, field_addr(cpu, "inside"), u32(1))
    fp_enter(cpu)


@native
def leave(cpu: Vcpu) -> None:
    """Before native code is left. An instruction that waits for a device, a handler or a debugger is counted later."""
    reason = cpu.exit_reason
    if reason == ExitReason.MMIO or reason == ExitReason.HANDLER or reason == ExitReason.WATCH:
        cpu.budget += 1
    settle(cpu)
    fp_leave(cpu)
    if cpu.timing != 0:
        at(VcpuTiming, cpu.timing).left_ns = u64(host_ns(cpu))
    atomic_store(u32, field_addr(cpu, "inside"), u32(0))


@native
def fetch(cpu: Vcpu) -> None:
    """Translate PC and remember where its page's code is: `fetch_pa`, and `fetch_plain` when it can be translated."""
    entry = at(TlbEntry, translate(cpu, cpu.pc, code_space(cpu), u32(EXECUTE), u32(0)))
    cpu.fetch_pa = physical(entry, cpu.pc)
    cpu.fetch_owned = u32(entry_pid(entry) != 0)
    cpu.fetch_plain = u32(in_ram(cpu, cpu.fetch_pa)) & (entry.mas2 & MAS2.E ^ 1)


@native(inline=True)
def soft_code(cpu: Vcpu) -> SoftCode:
    """The cached code translation that PC may be in."""
    return at(Context, cpu.context).code[cpu.pc >> 12 & (SOFT_CODE_ENTRIES - 1)]


@native(inline=True)
def fetch_again(cpu: Vcpu) -> bool:
    """As `fetch`, from a cached translation; False where there is none."""
    soft = soft_code(cpu)
    if soft.tag != cpu.pc & PAGE | u64(cpu.mode):
        return False
    cpu.fetch_pa = at(CodePage, soft.entries).pa | cpu.pc & ~u64(PAGE)
    cpu.fetch_plain = u32(1)
    return True


@native
def rest(cpu: Vcpu) -> None:
    """Sleep until something happens. A run with a limit comes back to Python now and then: people press Ctrl-C.

    In lockstep it ends the turn.
    """
    if cpu.vm.lockstep:
        stop_thread(cpu)
        if cpu.exit_reason == 0:
            cpu.exit_reason = u32(ExitReason.KICK)
        return
    held = cpu.halted | cpu.disabled != 0
    time = u64(FOREVER) if held else idle_timeout_ns(cpu)
    if cpu.left < COUNTED:
        if time > LONGEST_NAP:
            time = u64(LONGEST_NAP)
        if cpu.exit_reason == 0:
            cpu.exit_reason = u32(ExitReason.KICK)
    since = u64(0)
    if cpu.timing != 0 or cpu.trace & Trace.WAIT:
        since = u64(host_ns(cpu))
    if cpu.timing != 0:
        at(VcpuTiming, cpu.timing).rests_since = since
    if held:
        sleep(cpu, time)
    else:
        doze(cpu, time)
    if since != 0:
        rested(cpu, held, since, u64(host_ns(cpu)))
        if cpu.trace & Trace.WAIT:
            emit(cpu, u32(TraceEvent.WAIT), u32(0), cpu.pc, since, u64(0), u64(0), u64(0), u64(0))


@native
def warm(cpu: Vcpu, page: CodePage, index: u32) -> None:
    """A time slice ended before this word: an instruction where many do is hot, and leaves for tier 1.

    Slices end at back edges and calls only, so this finds the heads of loops that matter
    without any counting in translated code. Counting goes on: of those that wait the hottest is compiled first.
    """
    heat = page.heat[index]
    if cpu.vm.hot_after != 0 and cpu.vm.coverage == 0 and u32(heat) < HOTTEST:
        page.heat[index] = heat + 1
        if u32(heat) + 1 == cpu.vm.hot_after:
            cpu.hot_page = field_addr(page, "entries", 0)
            cpu.hot_index = index
            cpu.exit_reason = u32(ExitReason.HOT)


@native
def look_for_wait(cpu: Vcpu, page: CodePage, index: u32) -> None:
    """A time slice ended before this word: if that is a loop that waits, let another vCPU run."""
    if waits(cpu.vm.ram + page.pa + u64(index) * 4, WORDS_PER_PAGE - index):
        give_way(cpu.vm.futex)
        if cpu.budget > WAITING_SLICE:
            cpu.slice -= cpu.budget - WAITING_SLICE
            cpu.budget = i64(WAITING_SLICE)


@native
def resume(cpu: Vcpu) -> u64:
    """A region stopped before an instruction that it cannot execute: do that one, then as `next_code`."""
    cpu.stats[Stat.REGION_STOPS] = cpu.stats[Stat.REGION_STOPS] + 1
    step(cpu)
    return next_code(cpu)


@native
def hop(cpu: Vcpu, index: u32) -> bool:
    """Near the end of a run: whether code at PC leaves before that in any case. It leaves as soon as it can, then."""
    if not fetch_again(cpu):
        return False
    settle(cpu)
    if cpu.left <= i64(reach(cpu.vm.ram + cpu.fetch_pa, WORDS_PER_PAGE - index)):
        return False
    cpu.slice = i64(0)
    cpu.budget = i64(0)
    return True


@native
def next_code(cpu: Vcpu) -> u64:
    """Address of the code to run at PC, 0 to leave native code. Everything between blocks happens here."""
    spent = cpu.budget <= 0 and cpu.slice != 0
    while True:
        if cpu.requests or cpu.budget <= 0:
            service(cpu)
        # No interrupt before a device access asked for is done and the instruction at PC was executed again with it.
        # In lockstep once a turn, and after an access that Python answered.
        if cpu.exit_reason | cpu.mmio_done | cpu.halted | cpu.disabled | cpu.passing | cpu.deferring == 0:
            take_pending(cpu)
            cpu.deferring = cpu.vm.lockstep
        if cpu.exit_reason:
            return u64(0)
        if cpu.left <= 0:
            cpu.exit_reason = u32(ExitReason.BUDGET)
            return u64(0)
        if cpu.waiting == IDLE and idle_ends(cpu):
            cpu.waiting = u32(0)
        if cpu.waiting | cpu.halted | cpu.disabled and cpu.mmio_done == 0:
            cpu.stats[Stat.HALTS] = cpu.stats[Stat.HALTS] + 1
            rest(cpu)
            service(cpu)
            continue
        index = u32(cpu.pc >> 2) & (WORDS_PER_PAGE - 1)
        stopping = may_stop(cpu.vm, index)
        if stopping and cpu.passing | cpu.mmio_done == 0 and stops_here(cpu):
            cpu.exit_reason = u32(ExitReason.DEBUG)
            return u64(0)
        if cpu.trace & Trace.INSN and steps_here(cpu):
            stopping = True
        if (
            cpu.debug_events
            or cpu.mmio_done
            or cpu.passing
            or stopping
            or (cpu.left <= ONE_AT_A_TIME and not hop(cpu, index))
        ):
            step(cpu)
            if cpu.passing:
                pass_one(cpu)
            continue
        page_ea = cpu.pc & PAGE
        soft = soft_code(cpu)
        tag = page_ea | u64(cpu.mode)
        if soft.tag != tag:
            cpu.stats[Stat.CODE_LOOKUPS] = cpu.stats[Stat.CODE_LOOKUPS] + 1
            if attempt(fetch, cpu):
                cpu.budget -= 1  # the vector may be no better: timers and kicks must get through all the same
                continue
            if cpu.fetch_plain == 0:
                step(cpu)
                continue
            page = code_page(cpu.vm, cpu.fetch_pa & PAGE, cpu.mode)
            if page == 0:
                cpu.exit_reason = u32(ExitReason.CODE_FULL)
                return u64(0)
            fill_code(cpu, page_ea, page)
        cpu.page = tag
        page_at = at(CodePage, soft.entries)
        known = page_at.entries[index]
        if known - cpu.vm.miss_ladder < cpu.vm.miss_step * WORDS_PER_PAGE:
            known = translate_block(cpu, page_at, index)
            spent |= cpu.vm.hot_at_once != 0
        # Where short runs end says little of what is hot: too little where once is enough.
        if spent and known != 0 and (cpu.slice != 0 or cpu.vm.hot_after > 1):
            if cpu.vm.vcpu_count > 1 and cpu.vm.lockstep == 0:
                look_for_wait(cpu, page_at, index)
            warm(cpu, page_at, index)
            if cpu.exit_reason:
                return u64(0)
        return known


@native
def pass_one(cpu: Vcpu) -> None:
    """An instruction that a debugger let pass was executed; if it was the last of the run, no interrupt comes after."""
    if cpu.exit_reason != ExitReason.HANDLER:
        cpu.passing = u32(0)
    settle(cpu)
    if cpu.left <= 0 and cpu.exit_reason == 0:
        cpu.exit_reason = u32(ExitReason.BUDGET)


ABANDONED = 2
"""What a handler returns when its instruction was abandoned, see `runtime.handler_ir`."""


@native
def execute_fetched(cpu: Vcpu) -> None:
    """Execute the instruction at `fetch_pa` through its handler; PC moves on unless it was abandoned."""
    cpu.mmio_cursor = u32(0)
    word = u32(0)
    if in_ram(cpu, cpu.fetch_pa):
        word = load(u32, cpu.vm.ram + cpu.fetch_pa)
        if cpu.fetch_plain:
            word = bswap(word)
    else:
        where = rom(cpu, cpu.fetch_pa)
        if where != 0:
            word = bswap(load(u32, where))
        else:
            word = u32(mmio_exit(cpu, cpu.fetch_pa, u64(0), u32(4), u32(EXECUTE)))
    row = decode(at(Tables, cpu.vm.tables), word)
    cpu.fetch_word = word
    done = call_host(u32, row.handler, cpu_address(cpu), word)
    if done == ABANDONED:
        raise Abort
    if done == 0:
        after = cpu.pc + 4
        cpu.pc = after if cpu.mode & 1 else after & 0xFFFF_FFFF


@native(inline=True)
def cpu_address(cpu: Vcpu) -> u64:
    """Host address of the vCPU's state."""
    return field_addr(cpu, "gpr", 0)


@native
def step(cpu: Vcpu) -> None:
    """Execute one instruction natively, with debug events and replayed device accesses."""
    cpu.budget -= 1
    events = cpu.debug_events
    if events:
        if attempt(debug_before, cpu):
            return
    if not fetch_again(cpu) and attempt(fetch, cpu):
        cpu.mmio_done = u32(0)
        return
    if cpu.vm.coverage:
        trace_stepped(cpu)
    traced = cpu.trace & Trace.INSN != 0 and traces_here(cpu)
    if traced:
        before_instruction(cpu)
    if attempt(execute_fetched, cpu):
        if traced:
            after_instruction(cpu, True)
        if cpu.exit_reason != ExitReason.MMIO:  # an interrupt: the device accesses of this instruction are over
            cpu.mmio_done = u32(0)
        return
    if traced:
        after_instruction(cpu, False)
    cpu.mmio_done = u32(0)
    if events & cpu.debug_events:
        debug_after(cpu, cpu.fetch_word, events)
