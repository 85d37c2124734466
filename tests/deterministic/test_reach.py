"""How far code goes before it looks at its budget: counted from its words, and true of what runs."""

from __future__ import annotations

import ctypes

import pytest

from powervisor.insns import assemble_source
from powervisor.isa import cores
from powervisor.native.ints import u32, u64
from powervisor.translate.reach import LONGEST, reach
from tests.system.bare import bare_machine

FULL = 1000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("b .", 1),
        ("addi r3, r3, 1; blr", 2),
        ("beqlr; bctr", 2),
        ("1: addi r3, r3, 1; bne 1b; b 1b", 3),
        ("beq 1f; blr; 1: addi r3, r3, 1; blr", 4),  # a way around the end
        ("b 1f; blr; nop; 1: nop; blr; nop", 5),
        ("bl 1f; nop; 1: b 2f; nop; 2: blr", 5),
        ("beq 1f; .space 8000; 1: blr", FULL),  # in another page: looked at, but zeros do not end it
        ("nop; " * (LONGEST + 1) + "blr", FULL),
        ("ba 0x100", FULL),
    ],
)
def test_words_tell_how_far_control_can_go(source, expected):
    data = assemble_source(source.replace("; ", "\n"), 0, cores.get("e500mc")).data
    memory = ctypes.create_string_buffer(bytes(data))
    assert int(reach(u64(ctypes.addressof(memory)), u32(FULL))) == expected


LOOPS = """
    li    r3, 0
    li    r5, 7
1:  addi  r3, r3, 1
    andi. r4, r3, 3
    beq   2f
    addi  r3, r3, 1
    bl    3f
    b     1b
2:  addi  r3, r3, 1
    bl    3f
    bl    4f
    b     1b
3:  addi  r3, r3, 1
    bdnz  5f
    mtctr r5
5:  blr
    .space 8000
4:  addi  r3, r3, 1
    blr
"""


@pytest.mark.parametrize("tier1", ["off", "force"])
def test_runs_end_at_the_instruction_whatever_their_length(tier1, monkeypatch):
    monkeypatch.setenv("POWERVISOR_TIER1", tier1)
    with bare_machine(LOOPS) as machine:
        vcpu = machine.vcpus[0]
        machine.run(instructions=5000)
        states = []
        for count in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584):
            before = vcpu.instructions
            machine.run(instructions=count)
            assert vcpu.instructions - before == count
            states.append((vcpu.regs["pc"], vcpu.regs["r3"], vcpu.regs["ctr"]))
    with bare_machine(LOOPS) as machine:
        vcpu = machine.vcpus[0]
        machine.run(instructions=5000)
        for count in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584):
            for _ in range(count if count < 100 else 1):
                machine.run(instructions=1 if count < 100 else count)
            assert (vcpu.regs["pc"], vcpu.regs["r3"], vcpu.regs["ctr"]) == states.pop(0)
