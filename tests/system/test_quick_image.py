"""A start with an empty cache: the quick image, whose rare handlers are compiled when a guest meets them."""

import pytest

from powervisor.isa import cores
from powervisor.native.codespace import CodeSpace
from powervisor.translate import engine
from powervisor.translate.layout import Layout
from powervisor.translate.stencil_process import StencilProcess, modes
from tests.system.bare import bare_machine, results

FLOATS = """
    mfmsr r5
    ori   r5, r5, 0x2000            # MSR[FP]
    mtmsr r5
    isync
    load32 r6, RESULTS
    load32 r7, 0x40080000           # 3.0
    stw   r7, 0(r6)
    li    r8, 0
    stw   r8, 4(r6)
    lfd   f1, 0(r6)
    fadd  f2, f1, f1
    fmul  f3, f2, f1
    fsub  f3, f3, f2
    stfd  f3, 8(r6)
    li    r9, 1
    stw   r9, 16(r6)
1:  b     1b
"""


class NoBuilding:
    """In place of the process that builds the real image, which would take the quick one's place."""

    def __init__(self, store, space):
        pass

    def abandon(self):
        pass


def test_rare_instructions_are_compiled_when_they_are_met(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    monkeypatch.setattr(engine, "Building", NoBuilding)
    with bare_machine(FLOATS) as machine:
        machine.run(instructions=60)
        assert results(machine, 5)[2:] == (0x4028_0000, 0, 1), "3 + 3 = 6, 6 * 3 - 6 = 12"
        assert machine.vcpus[0].exit_counts()["handler"] >= 3
        assert machine.vcpus[0].instructions == 60
        machine.run(instructions=100_000)
        assert machine.vcpus[0].instructions == 100_060


@pytest.mark.parametrize("core", ["e500mc", "e6500"])
def test_handlers_that_come_later_can_be_compiled_in_any_order(core):
    space = CodeSpace(64 << 20)
    try:
        layout = Layout(cores.get(core), space, quick=True)
        layout.build({}, [StencilProcess(core, cm, True) for cm in modes(cores.get(core), True)])
        assert layout.later is not None
        for insn in layout.later.waiting[::-7]:
            layout.later.compile(insn.match)
            assert insn not in layout.later.waiting
    finally:
        space.close()
