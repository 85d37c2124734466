"""What must reach or change a loop that runs inside a region: each test also runs without regions."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from powervisor import Machine
from powervisor.translate.engine import Engine
from tests.system.bare import bare_machine, results

COUNT = 100_000
"""Instructions: enough that loops run as translated code."""

CLEAR = """
        li    r3, 0
        li    r4, 0
        li    r5, 0
        li    r29, 0
"""
FINISH = """
    finish:                     # r3, r4, r5 are the results
        load32 r9, RESULTS
        stw   r3, 4(r9)
        stw   r4, 8(r9)
        stw   r5, 12(r9)
        li    r8, 1
        stw   r8, 0(r9)
    1:  b     1b

        # TLB1 entry n for a process: effective ea to physical pa, 4 KiB
        .macro page n, ea, pa, tid
        load32 r31, 0x10000000 | \\n << 16
        mtspr 624, r31
        load32 r31, 0xC0000100 | \\tid << 16
        mtspr 625, r31
        load32 r31, \\ea
        mtspr 626, r31
        load32 r31, (\\pa) | 0x3F
        mtspr 627, r31
        li    r31, 0
        mtspr 944, r31
        isync
        tlbwe
        isync
        .endm
"""


@pytest.fixture(autouse=True, params=["off", "force", "hot"])
def tier1(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without regions; with regions of all that is met; and with those of loops that a time slice ended in, which know
    the code around them."""
    monkeypatch.setenv("POWERVISOR_TIER1", "force" if request.param == "hot" else request.param)
    if request.param == "hot":
        attach = Engine._attach

        def attach_patiently(engine: Engine, image: Any) -> None:
            attach(engine, image)
            engine.vm.hot_at_once = 0

        monkeypatch.setattr(Engine, "_attach", attach_patiently)
    return str(request.param)


def finished(machine: Machine, count: int = COUNT) -> tuple[int, ...]:
    """Run a program to its end; its three results."""
    machine.run(instructions=count)
    done, *values = results(machine, 4)
    assert done == 1
    return tuple(values)


def regions_of(machine: Machine) -> int:
    regions = machine.vm.engine.regions
    return len(regions.installed) if regions is not None else 0


def test_a_loop_that_rewrites_itself_runs_what_it_wrote(tier1: str) -> None:
    source = """
        load32 r10, patched
        load32 r11, 0x38840001      # addi r4, r4, 1
        li    r6, 2
    outer:
        li    r7, 3000
        mtctr r7
    patched:
        addi  r3, r3, 1
        bdnz  patched
        stw   r11, 0(r10)
        dcbst 0, r10
        sync
        icbi  0, r10
        isync
        addi  r6, r6, -1
        cmpwi r6, 0
        bne   outer
        b     finish
    """
    with bare_machine(CLEAR + source + FINISH) as machine:
        assert finished(machine) == (3000, 3000, 0)
        assert (regions_of(machine) > 0) == (tier1 != "off")


def test_a_loop_that_something_else_rewrites_is_left() -> None:
    with bare_machine("1: addi r3, r3, 1; over: b 1b" + FINISH) as machine:
        machine.run(instructions=COUNT)
        machine.run(seconds=0.1)
        over, finish = (machine.symbols[name] for name in ("over", "finish"))  # type: ignore[attr-defined]
        machine.memory[over : over + 4] = struct.pack(">I", 0x4800_0000 | finish - over)
        machine.run(instructions=5000)
        assert results(machine, 1) == (1,)


@pytest.mark.parametrize("cpu", ["e500mc", "e5500"])
def test_code_in_a_next_page_that_has_none_translated_is_noticed_when_it_changes(cpu: str) -> None:
    source = (
        """
        b     start
    """
        + FINISH
        + """
        .org 0x4FF4
    first:
        addi  r3, r3, 1
        nop
        nop
    patched:
        addi  r4, r4, 1             # the next page
        addi  r6, r6, -1
        cmpwi r6, 0
        bne   first
        blr
    once:
        blr

        .macro change
        dcbst 0, r10
        sync
        icbi  0, r10
        isync
        .endm
        .macro walk
        li    r6, 1000
        load32 r12, first
        mtctr r12
        bctrl
        .endm

    start:
        .org 0x6000
        load32 r10, once
        mtctr r10
        bctrl                       # the next page is mapped,
        load32 r10, patched
        change                      # and no code of it is known
        walk
        load32 r11, 0x38A50001      # addi r5, r5, 1
        stw   r11, 0(r10)
        change
        walk
        b     finish
    """
    )
    with bare_machine(CLEAR + source, cpu) as machine:
        assert finished(machine) == (2000, 1000, 1000)


LONG = 4_000_000
TWO_PAGES = """
        .set  WALK, 20000           # more than a time slice
        .org 0x4FF4
    first:
        addi  r3, r3, 1
        nop
        nop
        addi  r4, r4, 1             # the next page
        addi  r6, r6, -1
        cmpwi r6, 0
        bne   first
        blr
        .org 0x5FF4
    second:
        nop
        nop
        nop
        addi  r5, r5, 1             # another page in the place of the next one
        addi  r6, r6, -1
        cmpwi r6, 0
        bne   second
        blr
        .macro walk
        load32 r6, WALK
        load32 r7, 0x50000FF4
        mtctr r7
        bctrl
        .endm
"""


def test_code_runs_on_into_the_page_that_is_mapped_there_now() -> None:
    source = CLEAR + """
        b     start
    """ + FINISH + TWO_PAGES + """
    start:
        page  8, 0x50000000, 0x4000, 0
        page  9, 0x50001000, 0x5000, 0
        walk
        walk
        page  9, 0x50001000, 0x6000, 0
        walk
        page  9, 0x50001000, 0x5000, 0
        walk
        b     finish
    """  # fmt: skip
    with bare_machine(source) as machine:
        assert finished(machine, LONG) == (80_000, 60_000, 20_000)


def test_code_runs_on_into_the_page_of_its_process() -> None:
    source = CLEAR + """
        b     start
    """ + FINISH + TWO_PAGES + """
    start:
        page  8, 0x50000000, 0x4000, 0
        page  9, 0x50001000, 0x5000, 1
        page  10, 0x50001000, 0x6000, 2
        li    r20, 3
    again:
        li    r21, 1
        mtspr 48, r21
        isync
        walk
        li    r21, 2
        mtspr 48, r21
        isync
        walk
        addi  r20, r20, -1
        cmpwi r20, 0
        bne   again
        b     finish
    """  # fmt: skip
    with bare_machine(source) as machine:
        assert finished(machine, LONG) == (120_000, 60_000, 60_000)


def test_accesses_after_a_change_of_pid_are_the_new_process_s() -> None:
    source = CLEAR + """
        b     start
    """ + FINISH + """
    start:
        page  9, 0x50001000, 0x5000, 1
        page  10, 0x50001000, 0x6000, 2
        load32 r10, 0x5000
        li    r11, 5
        stw   r11, 0(r10)
        load32 r10, 0x6000
        li    r11, 6
        stw   r11, 0(r10)
        load32 r10, 0x50001000
        li    r20, 1000
    again:
        li    r21, 1
        mtspr 48, r21
        isync
        lwz   r11, 0(r10)
        add   r3, r3, r11
        li    r21, 2
        mtspr 48, r21
        isync
        lwz   r11, 0(r10)
        add   r4, r4, r11
        addi  r20, r20, -1
        cmpwi r20, 0
        bne   again
        b     finish
    """  # fmt: skip
    with bare_machine(source) as machine:
        assert finished(machine) == (5000, 6000, 0)


def test_an_access_that_begins_in_the_page_before_the_one_just_met() -> None:
    source = CLEAR + """
        b     start
    """ + FINISH + """
    start:
        page  8, 0x60000000, 0x9000, 0
        page  9, 0x60001000, 0x7000, 0
        load32 r10, 0x60001000
        load32 r11, 0x11112222
        stw   r11, 0(r10)
        stw   r11, -4(r10)
        load32 r6, 20000
    1:  li    r11, 0
        lwzx  r3, r10, r11
        li    r11, -2
        lwzx  r4, r10, r11
        addi  r6, r6, -1
        li    r11, 0x10
        stwx  r6, r10, r11
        li    r11, -2
        stwx  r6, r10, r11
        cmpwi r6, 0
        bne   1b
        lhz   r5, -2(r10)
        b     finish
    """  # fmt: skip
    with bare_machine(source) as machine:
        assert finished(machine, LONG) == (0x0001_2222, 1, 0)
        assert struct.unpack(">H", machine.memory[0x9FFE:0xA000]) == (0,)
        assert struct.unpack(">H", machine.memory[0x7000:0x7002]) == (0,)


@pytest.mark.parametrize("count", [1501, 2222, 3333, 5000, 12345])
def test_counted_runs_are_exact_where_regions_leave_their_page(count: int) -> None:
    pages = "".join(
        f"""
        .org {0x4000 + 0x1000 * n}
    page{n}:
        {"; ".join(["addi r3, r3, 1"] * 60)}
        b     page{n + 1}
        """
        for n in range(3)
    )
    source = f"""
        {CLEAR}
        b     page0
        {pages}
        .org 0x7000
    page3:
        {"; ".join(["addi r4, r4, 1"] * 60)}
        b     page0
    """
    with bare_machine(source) as machine:
        vcpu = machine.vcpus[0]
        machine.run(instructions=COUNT)
        before = vcpu.instructions
        assert before == COUNT
        machine.run(instructions=count)
        assert vcpu.instructions - before == count
        full, rest = divmod(COUNT + count - 5, 4 * 61)
        parts = [60 * full + max(0, min(60, rest - 61 * n)) for n in range(4)]
        assert (vcpu.regs["r3"], vcpu.regs["r4"]) == (sum(parts[:3]), parts[3])


def test_a_comparator_that_is_set_stops_a_loop_that_ran_before() -> None:
    source = CLEAR + """
        b     start
    """ + FINISH + """
    start:
        vector 415, stopped         # debug interrupt
        bl    work
        load32 r7, inside
        mtspr 312, r7               # IAC1
        load32 r7, 0x40800000       # DBCR0: IDM, IAC1
        mtspr 308, r7
        li    r7, 0x1200            # ME, DE
        mtmsr r7
        isync
        bl    work
        b     .
    work:
        li    r6, 1000
        mtctr r6
    1:  addi  r3, r3, 1
    inside:
        addi  r4, r4, 1
        bdnz  1b
        blr
        .org 0x2000
    stopped:
        mfspr r5, 574               # DSRR0
        b     finish
    """  # fmt: skip
    with bare_machine(source) as machine:
        assert finished(machine) == (1001, 1000, machine.symbols["inside"])  # type: ignore[attr-defined]


def test_single_steps_of_a_loop_that_ran_before_are_counted() -> None:
    source = CLEAR + """
        b     start
    """ + FINISH + """
    start:
        vector 415, stepped
        bl    work
        load32 r7, 0x48000000       # DBCR0: IDM, ICMP
        mtspr 308, r7
        li    r7, 0x1200
        mtmsr r7
        isync
        bl    work
        li    r7, 0x1000
        mtmsr r7
        b     finish
    work:
        li    r6, 1000
        mtctr r6
    1:  addi  r3, r3, 1
        bdnz  1b
        blr
        .org 0x2000
    stepped:
        addi  r5, r5, 1
        lis   r31, 0xFFFF
        mtspr 304, r31              # DBSR
        rfdi
    """  # fmt: skip
    with bare_machine(source) as machine:
        walked, _, steps = finished(machine)
        assert walked == 2000
        assert 2003 <= steps <= 2008  # two for each iteration, and those around the loop


@pytest.mark.parametrize("cpu", ["e500mc", "e5500"])
def test_a_fast_timer_interrupts_a_loop_and_changes_nothing_in_it(cpu: str) -> None:
    steps = 3_000_000
    source = CLEAR + """
        b     start
    """ + FINISH + f"""
    start:
        vector 410, tick            # decrementer
        load32 r7, 40000            # 10 kHz
        mtspr 54, r7
        mtspr 22, r7
        load32 r7, 0x04400000       # TCR: DIE, ARE
        mtspr 340, r7
        load32 r7, 0x9000           # EE, ME
        mtmsr r7
        load32 r6, {steps}
        load32 r10, 1664525
        load32 r11, 1013904223
    1:  mullw r3, r3, r10
        add   r3, r3, r11
        cmpwi cr5, r3, 0
        blt   cr5, 2f
        addi  r4, r4, 1
    2:  addi  r6, r6, -1
        cmpwi r6, 0
        bne   1b
        mr    r5, r29
        b     finish
        .org 0x2000
    tick:
        addi  r29, r29, 1
        lis   r31, 0x0800
        mtspr 336, r31              # TSR: DIS
        rfi
    """  # fmt: skip
    value = positive = 0
    for _ in range(steps):
        value = (value * 1664525 + 1013904223) & 0xFFFF_FFFF
        positive += value < 0x8000_0000
    with bare_machine(source, cpu) as machine:
        machine.start()
        until = time.monotonic() + 30
        while results(machine, 1) == (0,) and time.monotonic() < until:
            machine.wait(0.02)
        _, got, counted, ticks = results(machine, 4)
        assert (got, counted) == (value, positive)
        assert ticks > 10


def test_a_vcpu_inside_a_loop_comes_out_when_it_is_asked_to() -> None:
    with bare_machine("1: addi r3, r3, 1; b 1b") as machine:
        machine.start()
        until = time.monotonic() + 20
        while machine.vcpus[0].instructions < COUNT and time.monotonic() < until:
            machine.wait(0.05)
        began = time.monotonic()
        for _ in range(20):
            with machine.vm.quiet():
                pass
        assert time.monotonic() - began < 5
        assert machine.vcpus[0].instructions >= COUNT
