"""Rules that concern several rooms at once: exits that meet, code changed from Python, time that is held."""

from __future__ import annotations

import pytest

from tests.system.bare import RESULTS, bare_machine, results

COUNT = 100_000
"""Instructions: enough that the loop runs as translated code."""


def test_translated_code_changed_from_python_is_not_run_again():
    with bare_machine("1: addi r3, r3, 1; b 1b") as machine:
        machine.run(instructions=COUNT)
        machine.memory[0x1000:0x1004] = (0x3884_0001).to_bytes(4, "big")  # addi r4, r4, 1
        before = machine.vcpus[0].regs["r3"]
        machine.run(instructions=COUNT)
        assert machine.vcpus[0].regs["r3"] == before
        assert machine.vcpus[0].regs["r4"] == COUNT // 2


def test_a_counted_run_of_a_cpu_that_sleeps_can_be_interrupted():
    with bare_machine("1: wait; b 1b") as machine:
        exit_ = machine.vm.run(machine.vcpus[0], 1000)  # comes back now and then instead of sleeping for ever
        assert type(exit_).__name__ == "Kick"


def test_a_watchdog_reset_is_not_lost_to_a_device_access():
    source = """
        devices
        load32 r3, DEVICES + 0x4500
        load32 r4, 0xA0400000 | 0x001C0000  # TCR: WP 2, WRC 2, shortest extended period
        mtspr 340, r4
    1:  mfspr r5, 22
        lbz   r6, 5(r3)
        b     1b
    """
    with bare_machine(source, no_reboot=True) as machine:
        machine.start()
        outcome = machine.wait(20)
        assert outcome is not None and outcome.kind == "reset" and "watchdog" in outcome.detail


def test_an_armed_watchdog_resets_a_guest_that_is_lost():
    source = """
        load32 r4, 0xA0400000 | 0x001C0000
        mtspr 340, r4
        lis    r5, 0x7000
        mtctr  r5
        bctr
    """
    with bare_machine(source, no_reboot=True) as machine:
        machine.start()
        outcome = machine.wait(20)
        assert outcome is not None and outcome.kind == "reset"


def test_the_time_base_stands_still_while_the_machine_is_held():
    with bare_machine("1: mftb r3; b 1b") as machine:
        machine.run(seconds=0.05)
        first = machine.vcpus[0].regs["r3"]
        machine.wait(0.5)
        machine.run(seconds=0.05)
        assert machine.vcpus[0].regs["r3"] - first < 0.3 * 400_000_000


@pytest.mark.parametrize("little", [False, True])
def test_reservations_hold_in_pages_of_either_byte_order(little):
    source = f"""
        map 13, 0x40000000, 0, 0x200000, 10, {int(little)}
        load32 r4, 0x40000000
        li    r7, 0
        li    r5, 100
    1:  lwarx r6, 0, r4
        addi  r6, r6, 1
        stwcx. r6, 0, r4
        bne   2f
        addi  r7, r7, 1
    2:  addi  r5, r5, -1
        cmpwi r5, 0
        bne   1b
        lwz   r8, 0(r4)
        load32 r9, {RESULTS}
        stw   r7, 0(r9)
        stw   r8, 4(r9)
    3:  b     3b
    """
    with bare_machine(source) as machine:
        machine.run(instructions=5000)
        assert results(machine, 2) == (100, 100)
        assert machine.memory[0x20_0000:0x20_0004] == (100).to_bytes(4, "little" if little else "big")


ACCESSES = [("lwarx r6, 0, r4", 0x8_0000), ("stwcx. r6, 0, r4", 0x4_0000), ("dcbz 0, r4", 0x4_0000)]


@pytest.mark.parametrize(("access", "event"), ACCESSES)
def test_data_address_compare_sees_every_kind_of_access(access, event):
    source = f"""
        load32 r4, 0x200000
        mtspr 316, r4              # DAC1
        load32 r5, 0x400C0000      # DBCR0: IDM, DAC1R, DAC1W
        mtspr 308, r5
        li    r6, 0x1000
        {"nop" if "stwcx" not in access else "mfmsr r6"}
        {access}
        mfspr r7, 304              # DBSR
        load32 r9, {RESULTS}
        stw   r7, 0(r9)
    1:  b     1b
    """
    with bare_machine(source) as machine:
        machine.run(instructions=100)
        assert results(machine, 1)[0] & event
