"""Faults that are injected, as the guest meets them."""

from __future__ import annotations

import pytest

from powervisor import Machine
from powervisor.errors import UserError
from powervisor.testing.faults import Faults
from tests.system.bare import RESULTS, bare_machine

LOOP = """
    vector 401, handler           # IVOR1
    li    r31, 0x1000             # MSR[ME]
    mtmsr r31
    devices
    load32 r4, DEVICES + 0xE00A4  # GUTS SVR
    load32 r7, DEVICES + 0x4500
    load32 r6, RESULTS
    li    r3, 0
again:
    addi  r3, r3, 1
    stb   r3, 7(r7)
    lbz   r8, 7(r7)
    stw   r8, 8(r6)
    lwz   r5, 0(r4)
    stw   r5, 0(r6)
    b     again
    .balign 16
handler:
    b     .
"""
INTERRUPTS = """
    vector 404, handler           # IVOR4
    uart_interrupts
    li    r9, 0
    load32 r31, 0x8000
    mtmsr r31
again:
    li    r31, 0
    stb   r31, 1(r6)
    li    r31, 2
    stb   r31, 1(r6)              # IER: transmitter empty, which it is
    lbz   r8, 2(r6)               # IIR: ends it
asked:
    b     again
    .balign 16
handler:
    addi  r9, r9, 1
    lwz   r7, 0xA0(r4)            # IACK
    lbz   r8, 2(r6)
    li    r31, 0
    stw   r31, 0xB0(r4)           # EOI
    rfi
"""


def address(machine: Machine, name: str) -> int:
    """Of a label in the program."""
    return int(machine.symbols[name])  # type: ignore[attr-defined]


def test_a_bit_of_memory_is_flipped_and_code_with_it():
    with bare_machine(LOOP) as machine:
        faults = Faults(machine)
        machine.run(instructions=500)
        assert faults.flip(address(machine, "again") + 3, bit=1) == 3, "addi r3,r3,3"
        machine.run(until=address(machine, "again"))
        before = machine.cpus[0].regs["r3"]
        machine.run(until=address(machine, "again"))
        assert machine.cpus[0].regs["r3"] == before + 3
        machine.memory.write32(RESULTS + 0x100, 1)
        assert faults.flip(RESULTS + 0x100, bit=31, size=4) == 0x8000_0001
        with pytest.raises(UserError, match="1 byte have bits 0 to 7"):
            faults.flip(RESULTS, bit=8)


def test_a_bit_of_a_register_is_flipped():
    with bare_machine(LOOP) as machine:
        machine.cpus[0].regs["r9"] = 1
        assert Faults(machine).flip_register("r9", bit=63) == 1 << 63 | 1
        assert Faults(machine).flip_register("msr", bit=9) == machine.cpus[0].msr
        assert machine.cpus[0].msr.DE == 1
        with pytest.raises(UserError, match="r9: it has bits 0 to 63"):
            Faults(machine).flip_register("r9", bit=64)


def test_registers_of_devices_are_stuck_flipped_or_dead():
    with bare_machine(LOOP) as machine:
        faults = Faults(machine)
        with faults.mmio("guts", "svr", stuck=0x1234):
            machine.run(instructions=200)
            assert machine.memory.read32(RESULTS) == 0x1234
        with faults.mmio("guts", "svr", flip=0xFF):
            machine.run(instructions=200)
            assert machine.memory.read32(RESULTS) == machine.cpus[0].spr.svr ^ 0xFF
        faults.mmio("serial0", "scratch", drop=True, reads=False)
        machine.run(instructions=200)
        held = machine.memory.read32(RESULTS + 8)
        machine.run(instructions=200)
        assert machine.memory.read32(RESULTS + 8) == held
        faults.clear()
        assert len(machine.hooks) == 0
        machine.run(instructions=200)
        assert machine.memory.read32(RESULTS + 8) != held


def test_a_device_that_fails_late_and_for_a_while():
    with bare_machine(LOOP) as machine:
        Faults(machine).mmio("guts", "svr", stuck=7, after=2, count=3)
        seen = []
        for _ in range(8):
            machine.run(until=address(machine, "again"))
            seen.append(machine.memory.read32(RESULTS) == 7)
        assert seen == [False, False, False, True, True, True, False, False]


def test_an_error_of_a_device_is_a_machine_check():
    with bare_machine(LOOP) as machine:
        Faults(machine).mmio("guts", error=True)
        machine.run(20, until=address(machine, "handler"))
        assert machine.cpus[0].spr.mcsr.LD == 1


def test_a_fault_goes_wrong_in_one_way():
    with bare_machine(LOOP) as machine:
        for ways in ({}, {"error": True, "drop": True}, {"stuck": 0, "flip": 1}):
            with pytest.raises(UserError, match="give one of error=True, drop=True, stuck=VALUE and flip=BITS"):
                Faults(machine).mmio("guts", **ways)  # type: ignore[arg-type]


def test_interrupts_of_a_source_are_lost_and_come_again():
    with bare_machine(INTERRUPTS) as machine:
        faults = Faults(machine)

        def taken(rounds: int) -> int:
            before = machine.cpus[0].regs["r9"]
            for _ in range(rounds):
                machine.run(until=address(machine, "asked"), seconds=20)
            return machine.cpus[0].regs["r9"] - before

        assert taken(5) >= 4
        with faults.drop_interrupts(42) as lost:
            assert taken(1) <= 1, "one may have been on its way"
            assert taken(4) == 0
            assert lost.count >= 4
        assert taken(5) >= 4
        lost = faults.drop_interrupts(42, count=2)
        taken(6)
        assert lost.count == 2 and machine.cpus[0].regs["r9"] >= 10
        faults.clear()


def test_an_interrupt_that_is_still_asked_for_arrives_when_the_fault_ends():
    with bare_machine(INTERRUPTS.replace("lbz   r8, 2(r6)               # IIR: ends it", "b .")) as machine:
        lost = Faults(machine).drop_interrupts(42)
        machine.run(20, until=lambda machine: lost.count == 1)
        machine.run(0.02)
        assert machine.cpus[0].regs["r9"] == 0
        lost.undo()
        machine.run(20, until=lambda machine: machine.cpus[0].regs["r9"] == 1)
