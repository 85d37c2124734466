"""What is shown, scene after scene: a job for each partition, and what the hypervisor checks when both are done."""

from __future__ import annotations

from ....isa.registers import IVOR
from ....native.ints import u32, u64
from ....native.lang import fence, field_addr, native, static
from ...builtin.program.board import poweroff, reboot
from ...builtin.program.cpu import now
from ...builtin.program.state import Board
from ...builtin.words import peek, poke, say, the
from . import layout
from .partitions import CANARY, drop_held, has_lrat, numbered
from .report import check, table
from .state import IDLE, INTERRUPTS, READY, STOPPED, A, B, Hypervisor, Partition
from .timers import start_timer, stop_timer

NO_JOB = -1
BOOT, GREET_A, GREET_B, TRAP, CALLS, RINGS, ALONE, SHARE, MAP, TOUCH_A, TOUCH_B, END, LIVE_ON = range(13)
SCENES = (
    (GREET_A, "2. Each partition's first lines", layout.GREET, NO_JOB),
    (GREET_B, "", NO_JOB, layout.GREET),
    (TRAP, "3. An instruction that is the hypervisor's", layout.READ_MMUCFG, NO_JOB),
    (CALLS, "4. Hypercalls", layout.CALL, NO_JOB),
    (RINGS, "5. Doorbells from A to B", layout.RING_OTHER, layout.LISTEN),
    (ALONE, "6. Interrupts and system calls without the hypervisor", layout.ALONE, layout.ALONE),
    (SHARE, "7. Time slices", layout.SHARE, layout.SHARE),
    (MAP, "8. TLB entries of a partition's own", layout.MAP, NO_JOB),
    (TOUCH_A, "9. The other's memory", layout.TOUCH, NO_JOB),
    (TOUCH_B, "", NO_JOB, layout.TOUCH),
    (END, "10. The end of one", NO_JOB, layout.END),
    (LIVE_ON, "", layout.LIVE_ON, NO_JOB),
)  # fmt: skip


# ---- the order of things -------------------------------------------------------------------------------------------


@native
def job_wanted(p: Partition) -> None:
    """Hypercall NEXT: a partition has done its job, and says what came of it."""
    p.result = u32(p.gpr[3])
    p.told[0] = u32(p.gpr[4])
    p.told[1] = u32(p.gpr[5])
    p.state = u32(IDLE)
    if p.held != 0:
        drop_held(p)
    go_on()


@native
def lost(p: Partition) -> None:
    """A partition was stopped: nothing waits for it any more."""
    p.result = u32(layout.REFUSED)
    go_on()


@native
def go_on() -> None:
    """When no partition works any more: look at what came of the scene, begin the next one."""
    if numbered(u32(A)).state == READY or numbered(u32(B)).state == READY:
        return
    hypervisor = the(Hypervisor)
    if hypervisor.scene != BOOT:
        conclude(hypervisor.scene)
    if hypervisor.scene == LIVE_ON:
        finish()
    hypervisor.scene += 1
    begin(hypervisor.scene)


@native
def begin(scene: u32) -> None:
    """A scene's title, what it needs, and its jobs."""
    shared = the(Hypervisor).shared
    poke(u32, shared + layout.ANSWERED, u32(0))
    poke(u32, shared + layout.OVER, u32(0))
    for number in range(2):
        p = numbered(number)
        p.mark = exits_of(p)
        p.slices_mark = p.slices
    if scene == ALONE:
        for number in range(2):
            start_timer(numbered(number))
    elif scene == CALLS:
        the(Hypervisor).began = now()
    for known, title, job_a, job_b in static(SCENES):
        if scene == known:
            if title:
                say("\n{}\n", title)
            if job_a != NO_JOB:
                give_job(numbered(u32(A)), job_a)
            if job_b != NO_JOB:
                give_job(numbered(u32(B)), job_b)


@native
def give_job(p: Partition, job: u32) -> None:
    """The answer to NEXT; whoever has the partition's CPU goes on with it."""
    if p.state == STOPPED:
        return
    p.gpr[3] = u64(job)
    fence()
    poke(u32, u32(field_addr(p, "state")), u32(READY))


@native
def slice_over(p: Partition) -> None:
    """A time slice of a partition has ended; enough of them end scene SHARE."""
    a, b = numbered(u32(A)), numbered(u32(B))
    if a.slices - a.slices_mark >= layout.SLICES and b.slices - b.slices_mark >= layout.SLICES:
        if the(Hypervisor).scene == SHARE:
            poke(u32, the(Hypervisor).shared + layout.OVER, u32(1))


# ---- what came of it -----------------------------------------------------------------------------------------------


@native
def exits_of(p: Partition) -> u32:
    """How often a partition was left, but for the ends of its time slices."""
    count = u32(0)
    for n in range(INTERRUPTS):
        if n != IVOR.DECREMENTER:
            count += p.exits[n]
    return count


@native
def canaries_live(p: Partition) -> bool:
    """Whether a partition's vault holds what the hypervisor put there."""
    for n in range(layout.VAULT_SIZE // 4):
        if peek(u32, p.vault + n * 4) != u32(CANARY) + p.number:
            return False
    return True


@native
def conclude(scene: u32) -> None:
    """Check a scene."""
    a, b = numbered(u32(A)), numbered(u32(B))
    if scene == GREET_A:
        check(a.result == layout.DONE and a.hypercalls == 4, "A spoke twice")
    elif scene == GREET_B:
        check(b.result == layout.DONE and b.hypercalls == 4, "B spoke twice")
    elif scene == TRAP:
        check(a.result == layout.DONE and a.emulated == 1, "A goes on with the value that it was shown")
    elif scene == CALLS:
        us = u32(now() - the(Hypervisor).began) // (the(Board).timebase_hz // 1_000_000)
        say("  hv  {} exits of A in {} us\n", exits_of(a) - a.mark, us)
        check(exits_of(a) - a.mark == layout.CALLS + 1, "each call came here once, and the one for the next job")
    elif scene == RINGS:
        say("  hv  {} rung by A, {} guest doorbell interrupts while B ran, ", a.sent, b.received)
        say("{} answered by B\n", b.told[0])
        check(a.result == layout.DONE and a.sent == layout.RINGS, "A got an answer to each")
        check(b.received == a.sent and b.told[0] == a.sent, "none was lost, none came twice")
    elif scene == ALONE:
        for number in range(2):
            alone(numbered(number))
    elif scene == SHARE:
        say("  hv  A was interrupted {} times by the decrementer, ", a.slices - a.slices_mark)
        say("B {} times\n", b.slices - b.slices_mark)
        check(a.result == layout.DONE and b.result == layout.DONE, "both found their registers as they left them")
    elif scene == MAP:
        exits = exits_of(a) - a.mark
        if has_lrat():
            check(a.result == layout.DONE and exits == 2, "the LRAT gave A its own page without an exit, and no other")
        else:
            check(a.result == layout.DONE and exits == 3, "the hypervisor gave A its own page, and no other")
    elif scene == TOUCH_A:
        check(a.result == layout.DONE and canaries_live(b), "A was refused three times, B's canaries live")
    elif scene == TOUCH_B:
        check(b.result == layout.DONE and canaries_live(a), "B was refused three times, A's canaries live")
    elif scene == END:
        check(b.state == STOPPED, "B runs no more")
    elif scene == LIVE_ON:
        check(a.result == layout.DONE and a.state == IDLE, "A lives on")


@native
def alone(p: Partition) -> None:
    """A partition's account of scene ALONE."""
    stop_timer(p)
    p.ticks += p.told[0]
    p.system_calls += p.told[1]
    exits = exits_of(p) - p.mark
    say("  hv  {:s} took {} timer interrupts and {} system calls, ", p.name, p.told[0], p.told[1])
    say("exits meanwhile (time slices apart): {}\n", exits)
    own = p.result == layout.DONE and p.told[0] == layout.TICKS and p.told[1] == layout.SYSTEM_CALLS
    check(own and exits == 1, "all its own, and its own doing: the one exit is its call to say so")


@native
def finish() -> None:
    """The closing table; the exit status by how the machine ends."""
    table()
    if the(Hypervisor).failed != 0:
        reboot()
    poweroff()
