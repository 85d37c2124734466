"""Guests that go astray, alone or against each other: the machine does what the architecture says, and stays whole."""

from __future__ import annotations

import time

import pytest

from powervisor import Machine
from tests.support.waiting import run_until
from tests.system.bare import MAPPED, RESULTS, bare_machine, results

STRAY = """
    vector 401, machine_check
    vector 402, storage
    vector 406, storage
    vector 413, storage
    vector 414, storage
    map 1, MAPPED, 0, 0x04000000, 4, 0     # the first page after RAM
    load32 r6, 0x04000000
    load32 r7, RESULTS
    li    r4, {msr}
    mtmsr r4
    isync
    {body}
    b     .
    .balign 16
machine_check:
    mfspr r3, 572               # MCSR
    mfspr r4, 573               # MCAR
    mfspr r5, 570               # MCSRR0
    b     leave
    .balign 16
storage:
    mfspr r3, 62                # ESR
    mfspr r4, 61                # DEAR
    mfspr r5, 26                # SRR0
leave:
    stw   r3, 0(r7)
    stw   r4, 4(r7)
    stw   r5, 8(r7)
over:
    b     over
"""
MAV, IF, LD, ST = 0x8_0000, 0x1_0000, 0x8000, 0x4000
ME = 0x1000


def run_to(machine: Machine, symbol: str = "over", seconds: float = 30) -> None:
    """Run until CPU 0 loops at a symbol."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert machine.run(instructions=20_000) is None
        if machine.vcpus[0].regs["pc"] == machine.symbols[symbol]:  # type: ignore[attr-defined]
            return
    pytest.fail(f"CPU 0 did not come to {symbol!r}\n{machine.state_text()}")


def stray(body: str, msr: int = ME) -> str:
    return f"    .set MAPPED, {MAPPED:#x}\n" + STRAY.format(body=body, msr=msr)


BEYOND = {
    "load": ("lwz r8, 8(r6)", MAV | LD, MAPPED + 8),
    "store": ("std r8, 16(r6)", MAV | ST, MAPPED + 16),
    "load across the end": ("lwz r8, -2(r6)", MAV | LD, MAPPED),
    "fetch": ("mtctr r6; bctr", MAV | IF, MAPPED),
}


@pytest.mark.parametrize("what", BEYOND)
def test_an_access_beyond_ram_is_a_machine_check(what):
    body, syndrome, address = BEYOND[what]
    with bare_machine(stray(body)) as machine:
        run_to(machine)
        mcsr, mcar, mcsrr0 = results(machine, 3)
        assert mcsr == syndrome
        assert mcar == address
        assert (mcsrr0 == MAPPED) == (what == "fetch")


@pytest.mark.parametrize("what", BEYOND)
def test_without_me_it_is_a_checkstop_with_a_dump(what):
    with bare_machine(stray(BEYOND[what][0], msr=0)) as machine:
        outcome = machine.run(seconds=30)
        assert outcome is not None and outcome.kind == "guest-error"
        assert "MSR[ME]=0" in outcome.detail
        assert "mcsrr0" in outcome.dump and "r31" not in outcome.detail


def test_running_off_the_end_of_ram_is_an_instruction_tlb_error_after_its_last_instruction():
    body = "li r8, 0; lis r9, 0x6000; stw r9, -4(r6); addi r9, r6, -4; map 1, 0x7000000, 0, 0, 2, 0; mtctr r9; bctr"
    with bare_machine(stray(body)) as machine:
        run_to(machine)
        assert results(machine, 3)[2] == MAPPED


def test_a_jump_into_nowhere_without_vectors_ends_the_machine_with_a_reason():
    with bare_machine("load32 r3, 0x70000000; mtctr r3; bctr") as machine:
        outcome = machine.run(seconds=30)
        assert outcome is not None and outcome.kind == "guest-error"
        assert "vector" in outcome.detail


PATCH = """
    load32 r7, RESULTS
    load32 r8, victim
    li    r10, 0                # mismatches
    li    r9, 0                 # rounds
    load32 r12, {rounds}
    lis   r14, 0x3860           # li r3, n
1:  addi  r9, r9, 1
    rlwinm r11, r9, 0, 17, 31
    or    r15, r14, r11
    stw   r15, 0(r8)
    {sync}
    mtctr r8
    bctrl
    cmpw  r3, r11
    beq   2f
    addi  r10, r10, 1
2:  cmpw  r9, r12
    blt   1b
    stw   r10, 0(r7)
    stw   r9, 4(r7)
over:
    b     over
{place}
victim:
    li    r3, 0
    blr
"""
COHERENT = "dcbst 0, r8; sync; icbi 0, r8; sync; isync"


@pytest.mark.parametrize("place", ["", "    .balign 4096"], ids=["own page", "another page"])
def test_code_patched_with_icbi_runs_as_patched(place):
    with bare_machine(PATCH.format(rounds=4000, sync=COHERENT, place=place)) as machine:
        run_to(machine)
        assert results(machine, 2) == (0, 4000)


def test_code_patched_without_icbi_is_old_or_new_and_never_else():
    with bare_machine(PATCH.format(rounds=4000, sync="nop", place="")) as machine:
        run_to(machine)
        assert results(machine, 2)[1] == 4000


CROSS_PATCH = """
    devices
    load32 r7, RESULTS
    load32 r8, victim
    release 1, other
    li    r9, 0
    li    r10, 0
    load32 r12, 500
1:  addi  r9, r9, 1             # ask for li r3, r9
    sync
    stw   r9, 16(r7)
2:  lwz   r11, 20(r7)           # until the other CPU says it is there
    cmpw  r11, r9
    bne   2b
    isync
    mtctr r8
    bctrl
    rlwinm r11, r9, 0, 17, 31
    cmpw  r3, r11
    beq   3f
    addi  r10, r10, 1
3:  cmpw  r9, r12
    blt   1b
    stw   r10, 0(r7)
    stw   r9, 4(r7)
over:
    b     over
other:
    load32 r7, RESULTS
    load32 r8, victim
    lis   r14, 0x3860
    li    r9, 0
1:  lwz   r11, 16(r7)
    cmpw  r11, r9
    beq   1b
    mr    r9, r11
    rlwinm r11, r9, 0, 17, 31
    or    r15, r14, r11
    stw   r15, 0(r8)
    dcbst 0, r8
    sync
    icbi  0, r8
    sync
    stw   r9, 20(r7)
    b     1b
    .balign 4096
victim:
    li    r3, 0
    blr
"""


def test_code_patched_by_another_cpu_runs_as_patched():
    with bare_machine(CROSS_PATCH, cores=2) as machine:
        run_until(machine, lambda: results(machine, 2)[1] == 500)
        assert results(machine, 1) == (0,)


CORE_RESETS = """
    devices
    load32 r7, RESULTS
    load32 r20, DEVICES + 0x41090   # MPIC PIR
    li    r9, 0
1:  lwz   r10, 16(r7)           # the other CPU's count
    release 1, other
2:  lwz   r11, 16(r7)
    cmpw  r11, r10
    beq   2b
    addi  r9, r9, 1
    stw   r9, 0(r7)
    li    r12, 2
    stw   r12, 0(r20)
    lwz   r13, 0(r20)
    li    r12, 0
    stw   r12, 0(r20)
    load32 r30, SPIN + 32
3:  lwz   r11, 4(r30)           # until it waits in the spin table again
    cmpwi r11, 1
    bne   3b
    b     1b
other:
    load32 r7, RESULTS
1:  lwz   r11, 16(r7)
    addi  r11, r11, 1
    stw   r11, 16(r7)
    b     1b
"""


def test_a_running_core_is_reset_and_released_again_and_again():
    with bare_machine(CORE_RESETS, cores=2) as machine:
        run_until(machine, lambda: results(machine, 1)[0] >= 100)
        begin = time.monotonic()
        machine.stop()
        assert time.monotonic() - begin < 5


RESET = """
    devices
    load32 r7, RESULTS
    lwz   r9, 0(r7)
    addi  r9, r9, 1
    stw   r9, 0(r7)
    load32 r3, DEVICES + 0xE00B0    # GUTS RSTCR
    li    r4, 2
    stw   r4, 0(r3)
over:
    b     over
"""


def test_a_guest_that_resets_for_ever_keeps_resetting_and_can_be_stopped():
    with bare_machine(RESET, cores=4) as machine:
        run_until(machine, lambda: results(machine, 1)[0] >= 50)
        begin = time.monotonic()
        machine.stop()
        assert time.monotonic() - begin < 5


def test_under_no_reboot_the_first_reset_is_the_end():
    with bare_machine(RESET, no_reboot=True) as machine:
        outcome = machine.run(seconds=60)
        assert outcome is not None and outcome.kind == "reset"
        assert results(machine, 1) == (1,)


THREADS = """
    load32 r7, RESULTS
    load32 r3, other
    mttmr 321, r3               # INIA1
    load32 r3, 0x00001000
    mttmr 289, r3               # IMSR1
    li    r5, 2
    li    r9, 0
1:  lwz   r10, 16(r7)
    mtspr 438, r5               # TENS
2:  lwz   r11, 16(r7)
    cmpw  r11, r10
    beq   2b
    mtspr 439, r5               # TENC
3:  mfspr r11, 437              # TENSR
    andi. r11, r11, 2
    bne   3b
    addi  r9, r9, 1
    stw   r9, 0(r7)
    lwz   r10, 16(r7)           # stopped: nothing counts any more
    mftb  r12
4:  mftb  r13
    subf  r13, r12, r13
    cmpwi r13, 2000
    blt   4b
    lwz   r11, 16(r7)
    cmpw  r11, r10
    beq   1b
    stw   r9, 4(r7)
    b     1b
other:
    load32 r7, RESULTS
1:  lwz   r11, 16(r7)
    addi  r11, r11, 1
    stw   r11, 16(r7)
    b     1b
"""


def test_a_thread_switched_on_and_off_for_ever_stops_every_time():
    with bare_machine(THREADS, "e6500", cores=1, threads=2) as machine:
        run_until(machine, lambda: results(machine, 1)[0] >= 200)
        assert results(machine, 2)[1] == 0


REMAPPING = """
    .set SHARED, 0x50000000
    .set ONE, 0x200000
    .set TWO, 0x300000
    load32 r7, RESULTS
    load32 r20, ONE
    load32 r21, TWO
    li    r9, 0
    li    r10, 0
    map 5, SHARED, 0, ONE, 2, 0
    load32 r3, other
    mttmr 321, r3               # INIA1
    load32 r3, 0x00001000
    mttmr 289, r3               # IMSR1
    li    r5, 2
    mtspr 438, r5               # TENS
1:  lwz   r11, 16(r7)           # until the other thread runs
    cmpwi r11, 0
    beq   1b
2:  addi  r9, r9, 1
    map 5, SHARED, 0, TWO, 2, 0
    stw   r9, 0(r20)            # from here on page ONE is nobody's but ours
    li    r12, 500
    mtctr r12
3:  lwz   r13, 0(r20)
    cmpw  r13, r9
    bne   4f
    bdnz  3b
    b     5f
4:  addi  r10, r10, 1
    stw   r10, 4(r7)
5:
    map 5, SHARED, 0, ONE, 2, 0
    stw   r9, 0(r7)
    b     2b
other:
    load32 r7, RESULTS
    load32 r8, SHARED
    li    r3, -1
    stw   r3, 16(r7)
1:
    .rept 90
    stw   r3, 0(r8)
    .endr
    b     1b
"""


def test_a_page_that_was_remapped_is_no_longer_written_by_the_cores_other_thread():
    with bare_machine(REMAPPING, "e6500", threads=2) as machine:
        run_until(machine, lambda: results(machine, 1)[0] >= 20_000)
        assert results(machine, 2)[1] == 0


def test_host_memory_around_ram_is_out_of_reach():
    with bare_machine("b .") as machine:
        start, end = machine.ram.address, machine.ram.address + machine.ram.size
        with open("/proc/self/maps") as maps:
            spans = [(line.split()[0].split("-"), line.split()[1]) for line in maps]
        around = {int(a, 16): (int(b, 16), rights) for (a, b), rights in spans}
        below = next(rights for a, (b, rights) in around.items() if b == start)
        assert below.startswith("---") and around[end][1].startswith("---")
        assert RESULTS < machine.ram.size
