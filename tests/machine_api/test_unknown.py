"""Accesses where no device or register is are told, once each."""

from __future__ import annotations

import logging

from powervisor.machine.unknown import MOST
from tests.support.waiting import run_until
from tests.system.bare import bare_machine, results

GUESSES = """
    devices
    vector 401, checked         # IVOR1
    li    r9, 0x1000            # MSR[ME]
    mtmsr r9
    load32 r3, RESULTS
    load32 r4, DEVICES + 0xE0000  # GUTS
    load32 r5, DEVICES + 0x2F000  # nothing that is modelled
    load32 r6, DEVICES + 0x4500
    li    r7, 0x12
    li    r8, 3
again:
    lwz   r9, 0x300(r4)
    stb   r7, 0x301(r4)
    lwz   r9, 0xA4(r4)          # SVR
    sth   r7, 0(r5)
    stb   r7, 7(r6)             # serial0's scratch
    addi  r8, r8, -1
    cmpwi r8, 0
    bne   again
    map 13, 0xD0000000, 0xE, 0x10000000, 1, 0xA
    lis   r4, 0xD000
    lwz   r9, 8(r4)
    b     .
    .align 4
checked:
    stw   r7, 0(r3)
    b     .
"""
SCAN = """
    devices
    load32 r3, RESULTS
    load32 r4, DEVICES + 0x2F000
    li    r8, 300
    mtctr r8
1:  lwz   r9, 0(r4)
    addi  r4, r4, 4
    bdnz  1b
    li    r7, 1
    stw   r7, 0(r3)
    b     .
"""


def ran(source: str, **options):
    """Run a program until it has left something in RESULTS."""
    with bare_machine(source, **options) as machine:
        run_until(machine, lambda: results(machine, 1)[0])


def test_each_place_without_a_register_is_told_once_with_names():
    lines: list[str] = []
    ran(GUESSES, warn=lines.append)
    told = [line.partition(": ")[2] for line in lines]
    assert all(line.startswith("cpu0 pc=0x1") for line in lines)
    assert told == [
        "read of 4 bytes at guts+0x300 (0xfe00e0300): no such register, reads 0x0",
        "write of 0x12 to guts+0x301 (0xfe00e0301): no such register, ignored",
        "write of 0x0012 to soc+0x2f000 (0xfe002f000): no such register, ignored",
        "read of 4 bytes at 0xe10000008: nothing answers, machine check",
    ]


def test_a_guest_that_scans_is_told_of_up_to_a_bound():
    lines: list[str] = []
    ran(SCAN, warn=lines.append)
    assert len(lines) == MOST + 1 and "no more are told; -trace unknown" in lines[-1]


def test_programs_hear_of_them_by_the_logger_if_they_want(caplog):
    with caplog.at_level(logging.INFO, "powervisor"):
        ran(GUESSES)
    assert [record.levelname for record in caplog.records if "guts+0x300" in record.message] == ["INFO"]
