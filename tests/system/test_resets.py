"""Resets that the guest asks of its core: what they cover, and what the guest finds of their cause afterwards."""

from __future__ import annotations

import pytest

from tests.support.waiting import run_until
from tests.system.bare import bare_machine, results

TCR, DBCR0 = 340, 308
CORE, CHIP, SYSTEM = 1 << 28, 2 << 28, 3 << 28
WATCHDOG = 0x8014_0000  # TCR: the third expiry comes within some 25 ms
AGAIN = """
    load32 r7, RESULTS
    lwz   r9, 0(r7)
    addi  r9, r9, 1
    stw   r9, 0(r7)             # how often CPU 0 has begun
    mfspr r10, 304
    stw   r10, 4(r7)
    mfspr r10, 336
    stw   r10, 8(r7)
    cmpwi r9, 2
    beq   stay
"""
"""Counts, and stays at the second time: words 0 to 2 are the count, DBSR and TSR."""


def again(how: str, **options: object) -> tuple[int, ...]:
    """DBSR and TSR after the reset that some instructions cause."""
    with bare_machine(f"{AGAIN}\n{how}\nstay: b stay", **options) as machine:
        run_until(machine, lambda: results(machine, 1) == (2,))
        return results(machine, 3)[1:]


def debug_reset(field: int) -> str:
    return f"load32 r3, {field:#x}; mtspr {DBCR0}, r3"


def watchdog_reset(control: int) -> str:
    return f"load32 r3, {WATCHDOG | control:#x}; mtspr {TCR}, r3"


def test_after_power_on_no_cause_is_told():
    with bare_machine(f"{AGAIN}\n stay: b stay") as machine:
        run_until(machine, lambda: results(machine, 1) == (1,))
        assert results(machine, 3) == (1, 0, 0)


@pytest.mark.parametrize("field", [CORE, CHIP, SYSTEM])
def test_dbcr0_rst_is_told_by_dbsr_mrr(field):
    assert again(debug_reset(field)) == (field, 0)


@pytest.mark.parametrize(("control", "scope"), [(1 << 28, CORE), (2 << 28, CHIP), (3 << 28, CORE)])
def test_a_watchdog_reset_is_told_by_tsr_wrs(control, scope):
    assert again(watchdog_reset(control)) == (scope, control)


def test_a_board_reset_looks_like_power_on():
    how = "devices; load32 r3, DEVICES + 0xE00B0; li r4, 2; stw r4, 0(r3)"  # GUTS RSTCR
    assert again(how.replace(";", "\n")) == (0, 0)


OTHERS = """
    devices
    load32 r7, RESULTS
    release 1, other
1:  lwz   r10, 16(r7)
    addi  r10, r10, 1
    stw   r10, 16(r7)           # CPU 0 goes on
    load32 r30, SPIN + 32
    lwz   r11, 4(r30)
    cmpwi r11, 1                # CPU 1 waits in the spin table again
    bne   1b
    lwz   r11, 0(r7)
    addi  r11, r11, 1
    stw   r11, 0(r7)
    release 1, other
    b     1b
other:
    load32 r7, RESULTS
    mfspr r10, 304
    stw   r10, 4(r7)
    mfspr r10, 336
    stw   r10, 8(r7)
    HOW
2:  b     2b
"""


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (debug_reset(CORE), (CORE, 0)),
        (watchdog_reset(3 << 28), (CORE, 3 << 28)),
        (watchdog_reset(1 << 28), (CORE, 1 << 28)),
    ],
)
@pytest.mark.parametrize("no_reboot", [False, True])
def test_a_core_resets_alone_and_waits_in_the_spin_table(how, told, no_reboot):
    with bare_machine(OTHERS.replace("HOW", how.replace(";", "\n")), cores=2, no_reboot=no_reboot) as machine:
        run_until(machine, lambda: results(machine, 1)[0] >= 20)
        counted = results(machine, 5)[4]
        assert counted > 20
        assert results(machine, 3)[1:] == told


@pytest.mark.parametrize("how", [debug_reset(CHIP), debug_reset(SYSTEM), watchdog_reset(2 << 28)])
def test_under_no_reboot_a_reset_of_the_chip_is_the_end(how):
    with bare_machine(how.replace(";", "\n") + "\n1: b 1b", no_reboot=True) as machine:
        outcome = machine.run(seconds=30)
        assert outcome is not None and outcome.kind == "reset" and outcome.detail.startswith("cpu0: ")


THREADS = """
    load32 r7, RESULTS
    lwz   r9, 0(r7)
    addi  r9, r9, 1
    stw   r9, 0(r7)
    mfspr r10, 304
    stw   r10, 4(r7)
    mfspr r10, 438              # TENS: which threads are enabled
    stw   r10, 8(r7)
    cmpwi r9, 3
    beq   stay
    load32 r3, other
    mttmr 321, r3               # INIA1
    li    r3, 0
    mttmr 289, r3               # IMSR1
    li    r5, 2
    mtspr 438, r5
stay:
    b     stay
other:
    load32 r3, 0x10000000
    mtspr 308, r3               # DBCR0[RST] of the second thread
1:  b     1b
"""


def test_a_thread_resets_both_threads_of_its_core():
    with bare_machine(THREADS, cpu="e6500", threads=2) as machine:
        run_until(machine, lambda: results(machine, 1) == (3,))
        assert results(machine, 3) == (3, CORE, 1)


def test_the_core_that_asks_for_a_reset_executes_nothing_more():
    source = f"""
        {AGAIN}
        {debug_reset(CHIP).replace(";", chr(10))}
        b     1f
    1:  addi  r9, r9, 1
        stw   r9, 12(r7)
        b     1b
    stay: b stay
    """
    with bare_machine(source) as machine:
        run_until(machine, lambda: results(machine, 1) == (2,))
        assert results(machine, 4)[3] <= 1_000  # not millions while the reset was prepared
