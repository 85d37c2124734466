"""EPCR: computation modes, debug, TLB management and MAS updates (what directs interrupts: test_guest_interrupts)."""

from __future__ import annotations

import pytest

from powervisor.isa.registers import DBCR0, DBSR, EPCR, IVOR, MAS1, MAS3, MAS4, MAS8, MSR, SPR, TLBCFG

WIDE = ("e5500", "e6500")
EMPTY = 0x4000_0000


@pytest.mark.parametrize("core", WIDE, scope="module")
@pytest.mark.parametrize(
    ("guest", "mine", "other"), [(False, EPCR.ICM, EPCR.GICM), (True, EPCR.GICM, EPCR.ICM)], ids=["icm", "gicm"]
)
def test_interrupts_compute_in_the_mode_of_the_state_that_takes_them(side, core, guest, mine, other):
    bench = side(core)
    state = MSR.GS if guest else 0
    bench.cpu.spr[SPR.IVPR] = bench.cpu.spr[SPR.GIVPR] = 0x1_7000_0000
    for before in (0, MSR.CM):
        for epcr in (mine, other, mine | other, 0):
            bench.cpu.spr[SPR.EPCR] = epcr
            bench.msr(state | before)
            bench.cpu.pc = 0x1000
            bench.do("sc")
            wide = bool(epcr & mine)
            assert bench.cpu.msr == state | (MSR.CM if wide else 0)
            assert bench.cpu.pc >> 32 == (1 if wide else 0)
            assert bench.cpu.spr[SPR.GSRR1 if guest else SPR.SRR1] == state | before


@pytest.mark.parametrize("core", WIDE, scope="module")
def test_a_guests_interrupts_to_the_hypervisor_compute_in_the_hypervisors_mode(side, core):
    bench = side(core)
    bench.cpu.spr[SPR.EPCR] = EPCR.GICM
    bench.msr(MSR.GS | MSR.CM)
    bench.do("sc 1")
    assert bench.cpu.msr == 0 and bench.cpu.spr[SPR.SRR1] == MSR.GS | MSR.CM


def test_a_32_bit_core_has_no_computation_modes(side):
    bench = side("e500mc")
    bench.write(SPR.EPCR, EPCR.ICM | EPCR.GICM)
    bench.do("sc")
    assert bench.cpu.msr == 0


# ---- debug ---------------------------------------------------------------------------------------------------------

STATES = {"hypervisor": 0, "hypervisor's user": MSR.PR, "guest": MSR.GS, "guest's user": MSR.GS | MSR.PR}
EVENTS = {
    # what happens, the event it is, its enable
    "addi r3,0,1": (DBSR.ICMP, DBCR0.ICMP), "b 0x1000": (DBSR.BRT, DBCR0.BRT), "ori r0,r0,0": (DBSR.IAC1, DBCR0.IAC1),
    "tw 31,r3,r3": (DBSR.TRAP, DBCR0.TRAP),
}  # fmt: skip


@pytest.mark.parametrize("text", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_duvd_keeps_debug_events_out_of_the_hypervisor_state_alone(both, state, text):
    """The hypervisor state is GS=0 and PR=0: its user's programs are debugged like a guest's."""
    event, enable = EVENTS[text]
    msr = STATES[state] | MSR.DE
    both.cpu.spr[SPR.IAC1], both.cpu.spr[SPR.DBCR0] = 0x1000, DBCR0.IDM | enable
    for duvd in (0, EPCR.DUVD):
        both.cpu.spr[SPR.EPCR], both.cpu.spr[SPR.DBSR] = duvd, 0
        both.msr(msr)
        both.cpu.pc = 0x1000
        both.step(text)
        debugged = not duvd or state != "hypervisor"
        assert (both.taken() == IVOR.DEBUG) == debugged
        assert both.cpu.spr[SPR.DBSR] == (event if debugged else 0)
        if debugged:
            assert not both.cpu.msr & MSR.GS and both.cpu.spr[SPR.DSRR1] == msr
            assert both.cpu.spr[SPR.DSRR0] == (0x1004 if event == DBSR.ICMP else 0x1000)


def test_an_event_of_the_guest_waits_while_duvd_keeps_the_hypervisor_undisturbed(both):
    both.cpu.spr[SPR.EPCR], both.cpu.spr[SPR.DBCR0], both.cpu.spr[SPR.DBSR] = EPCR.DUVD, DBCR0.IDM, DBSR.IAC1
    both.msr(MSR.DE)
    both.poll()
    assert both.taken() is None
    both.cpu.spr[SPR.SRR0], both.cpu.spr[SPR.SRR1] = 0x2000, MSR.GS | MSR.DE
    both.do("rfi")
    assert both.taken() == IVOR.DEBUG
    assert [int(both.cpu.spr[n]) for n in (SPR.DSRR0, SPR.DSRR1)] == [0x2000, MSR.GS | MSR.DE]


# ---- TLB -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["tlbwe", "tlbilx 0,0,r4", "tlbilx 1,0,r4", "tlbilx 3,0,r4"])
def test_dgtmi_takes_tlb_management_from_the_guest(both, text):
    both.cpu.spr[SPR.MAS0] = 0x4000  # HES
    allowed = text != "tlbwe" or both.core.name == "e6500"
    if both.core.name == "e6500":
        assert both.cpu.spr[SPR.TLB0CFG] & TLBCFG.HES
        both.cpu.spr[SPR.TLB0CFG] = int(both.cpu.spr[SPR.TLB0CFG]) | TLBCFG.GTWE
    for epcr, msr, taken in (
        (EPCR.DGTMI, MSR.GS, IVOR.HYPERVISOR_PRIVILEGE), (EPCR.DGTMI, 0, None),
        (EPCR.DGTMI, MSR.GS | MSR.PR, IVOR.PROGRAM), (0, MSR.GS | MSR.PR, IVOR.PROGRAM),
        (0, MSR.GS, None if allowed else IVOR.HYPERVISOR_PRIVILEGE),
    ):  # fmt: skip
        both.cpu.spr[SPR.EPCR] = epcr
        both.msr(msr)
        assert both.outcome(text) == taken, (hex(epcr), hex(msr))


@pytest.mark.parametrize("kind", ["data", "fetch"])
@pytest.mark.parametrize(
    ("state", "epcr", "loaded"),
    [(0, 0, True), (0, EPCR.DMIUH, False), (0, EPCR.DMIUH | EPCR.DTLBGS | EPCR.ITLBGS, False), (MSR.GS, 0, True),
     (MSR.GS, EPCR.DMIUH, False), (MSR.GS, EPCR.DMIUH | EPCR.DTLBGS | EPCR.ITLBGS, True)],
)  # fmt: skip
def test_dmiuh_keeps_mas_as_it_is_when_the_hypervisor_takes_a_miss(both, kind, state, epcr, loaded):
    old = {SPR.MAS0: 0, SPR.MAS1: 0x1000, SPR.MAS2: 0x7000, SPR.MAS3: 0x9000, SPR.MAS6: 1, SPR.MAS7: 3}
    for number, value in {**old, SPR.MAS4: MAS4.TSIZED & 0x200, SPR.PID: 3, SPR.EPCR: epcr}.items():
        both.write(number, value)
    both.msr(state)
    if kind == "data":
        both.do("lwz r3,0(r4)", r4=EMPTY)
    else:
        both.fetch(EMPTY)
    assert both.taken() == (IVOR.DATA_TLB if kind == "data" else IVOR.INSTRUCTION_TLB)
    seen = {n: int(both.cpu.spr[n]) for n in old}
    if loaded:
        assert (seen[SPR.MAS1], seen[SPR.MAS2]) == (MAS1.V | 3 << 16 | 0x200, EMPTY)
        assert (seen[SPR.MAS3], seen[SPR.MAS6] >> 16, seen[SPR.MAS7]) == (0, 3, 0)
    else:
        assert seen == old
    assert both.cpu.spr[SPR.MAS5] == both.cpu.spr[SPR.MAS8] == 0  # no miss touches the hypervisor's


def test_a_storage_interrupt_never_loads_mas(both):
    entry = both.cpu.tlb.tlb1[0]
    entry.ea, entry.mask, entry.mas1, entry.mas3, entry.mas8 = EMPTY, 0xFFF, MAS1.V, MAS3.SR, MAS8.TGS
    entry.valid, both.cpu.tlb.tlb1_used = 1, 1
    both.write(SPR.MAS2, 0x7000)
    both.cpu.spr[SPR.EPCR] = EPCR.DSIGS
    both.msr(MSR.GS)
    assert both.outcome("stw r3,0(r4)", r4=EMPTY) == IVOR.DATA_STORAGE
    assert both.cpu.spr[SPR.MAS2] == 0x7000
