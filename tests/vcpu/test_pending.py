"""Which asynchronous interrupt is taken, and when."""

from __future__ import annotations

import ctypes
import itertools

import pytest

from powervisor.isa.registers import DBCR0, DBSR, EPCR, HID0, IVOR, MCSR, MSR, SPR, TCR, TSR
from powervisor.vcpu.pending import deliverable, highest
from powervisor.vcpu.state import Doorbell, Line, Request

ENABLED = MSR.EE | MSR.CE | MSR.ME | MSR.DE
TIMERS = TCR.WIE | TCR.DIE | TCR.FIE

SOURCES = {
    # interrupt, how it is requested; from the highest priority to the lowest
    "machine check": (IVOR.MACHINE_CHECK, lambda cpu: raise_line(cpu, Line.MACHINE_CHECK)),
    "debug": (IVOR.DEBUG, lambda cpu: set_spr(cpu, SPR.DBSR, DBSR.IAC1)),
    "critical": (IVOR.CRITICAL, lambda cpu: raise_line(cpu, Line.CRITICAL)),
    "watchdog": (IVOR.WATCHDOG, lambda cpu: set_spr(cpu, SPR.TSR, TSR.WIS)),
    "critical doorbell": (IVOR.CRITICAL_DOORBELL, lambda cpu: ring(cpu, Doorbell.CRITICAL)),
    "external": (IVOR.EXTERNAL, lambda cpu: raise_line(cpu, Line.EXTERNAL)),
    "fixed interval": (IVOR.FIT, lambda cpu: set_spr(cpu, SPR.TSR, TSR.FIS)),
    "decrementer": (IVOR.DECREMENTER, lambda cpu: set_spr(cpu, SPR.TSR, TSR.DIS)),
    "doorbell": (IVOR.DOORBELL, lambda cpu: ring(cpu, Doorbell.DBELL)),
}
GATES = {
    "machine check": MSR.ME, "debug": MSR.DE, "critical": MSR.CE, "watchdog": MSR.CE, "critical doorbell": MSR.CE,
    "external": MSR.EE, "fixed interval": MSR.EE, "decrementer": MSR.EE, "doorbell": MSR.EE,
}  # fmt: skip


def raise_line(cpu, line):
    cpu.lines = int(cpu.lines) | line


def ring(cpu, bit):
    cpu.doorbells = int(cpu.doorbells) | bit


def set_spr(cpu, spr, bits):
    cpu.spr[spr] = int(cpu.spr[spr]) | bits


@pytest.fixture
def ready(bench):
    """A vCPU whose enables outside MSR are all set."""
    bench.cpu.spr[SPR.TCR] = TIMERS
    bench.cpu.spr[SPR.DBCR0] = DBCR0.IDM
    bench.cpu.spr[SPR.HID0] = HID0.EMCP
    return bench


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_needs_its_msr_bit(ready, name):
    number, request = SOURCES[name]
    ready.msr(ENABLED & ~GATES[name])
    request(ready.cpu)
    ready.after(0)
    assert ready.taken() is None and not deliverable(ready.cpu)
    ready.msr(GATES[name])
    assert deliverable(ready.cpu)
    ready.after(0)
    assert ready.taken() == number


@pytest.mark.parametrize("name", [n for n in SOURCES if n != "debug"])
def test_a_guest_cannot_hold_off_the_hypervisors_interrupts(ready, name):
    number, request = SOURCES[name]
    ready.msr(MSR.GS)
    request(ready.cpu)
    ready.after(0)
    assert ready.taken() == number
    assert not ready.cpu.msr & MSR.GS


def test_of_two_interrupts_the_one_of_higher_priority_comes_first(ready):
    cpu = ready.cpu
    for (number, first), (_, second) in itertools.combinations(SOURCES.values(), 2):
        cpu.lines = cpu.doorbells = 0
        cpu.spr[SPR.TSR] = cpu.spr[SPR.DBSR] = 0
        ready.msr(ENABLED)
        first(cpu)
        second(cpu)
        assert highest(cpu) == number


def test_an_interrupt_of_a_higher_class_interrupts_the_one_before(ready):
    ready.msr(ENABLED)
    ready.cpu.lines = Line.EXTERNAL
    ready.after(0)
    ready.cpu.lines = Line.EXTERNAL | Line.CRITICAL
    ready.after(0)
    assert ready.taken() == IVOR.CRITICAL
    assert int(ready.cpu.spr[SPR.CSRR0]) & 0xFFFF == IVOR.EXTERNAL * 0x100
    ready.do("rfci")
    assert ready.taken() == IVOR.CRITICAL  # the line is still high


def test_a_line_that_stays_high_interrupts_again_when_enabled_again(bench):
    bench.msr(MSR.EE)
    bench.cpu.lines = Line.EXTERNAL
    bench.after(0)
    assert bench.taken() == IVOR.EXTERNAL
    bench.after(0)
    assert bench.cpu.spr[SPR.SRR0] == 0x1000  # EE is off in the handler
    bench.do("rfi")
    assert bench.taken() == IVOR.EXTERNAL


def test_a_line_that_falls_in_time_does_not_interrupt(bench):
    bench.cpu.lines = Line.EXTERNAL
    bench.after(0)
    bench.cpu.lines = 0
    bench.msr(MSR.EE)
    bench.after(0)
    assert bench.taken() is None


def test_a_timer_needs_its_enable_in_tcr(ready):
    ready.msr(ENABLED)
    ready.cpu.spr[SPR.TCR] = 0
    ready.cpu.spr[SPR.TSR] = TSR.WIS | TSR.FIS | TSR.DIS
    ready.after(0)
    assert ready.taken() is None
    ready.write(SPR.TCR, TCR.DIE)
    assert ready.taken() == IVOR.DECREMENTER


def test_a_doorbell_is_used_up_by_its_interrupt(bench):
    bench.msr(MSR.EE | MSR.CE)
    bench.cpu.doorbells = Doorbell.DBELL | Doorbell.CRITICAL
    bench.after(0)
    assert bench.taken() == IVOR.CRITICAL_DOORBELL
    assert bench.cpu.doorbells == Doorbell.DBELL


def test_a_machine_check_says_where_it_came_from(ready):
    ready.msr(MSR.ME)
    ready.cpu.lines = Line.MACHINE_CHECK
    ready.after(0)
    assert ready.read(SPR.MCSR) == MCSR.MCP
    ready.cpu.lines = Line.NMI
    ready.msr(0)  # not maskable
    ready.after(0)
    assert ready.taken() == IVOR.MACHINE_CHECK
    assert ready.cpu.spr[SPR.MCSR] & MCSR.NMI and ready.cpu.lines == 0


def test_the_machine_check_input_can_be_masked_in_hid0(bench):
    bench.msr(MSR.ME)
    bench.cpu.lines = Line.MACHINE_CHECK
    bench.after(0)
    assert bench.taken() is None


def test_an_unconditional_debug_event_is_recorded_and_delayed(bench):
    bench.cpu.spr[SPR.DBCR0] = DBCR0.IDM
    bench.cpu.lines = Line.DEBUG_UNCONDITIONAL
    bench.cpu.spr[SPR.DBSR] = 0
    bench.after(0)
    assert bench.read(SPR.DBSR) == DBSR.UDE | DBSR.IDE
    bench.do("mtmsr r3", r3=MSR.DE)
    assert bench.taken() == IVOR.DEBUG


# ---- guests --------------------------------------------------------------------------------------------------------


def test_external_interrupts_directed_to_the_guest_wait_for_the_guests_ee(bench):
    bench.cpu.spr[SPR.EPCR] = EPCR.EXTGS
    bench.cpu.lines = Line.EXTERNAL
    for msr in (MSR.EE, MSR.GS):
        bench.msr(msr)
        bench.after(0)
        assert bench.taken() is None
    bench.msr(MSR.GS | MSR.EE)
    bench.after(0)
    assert bench.taken() == IVOR.EXTERNAL and bench.guest_vector()
    assert bench.cpu.msr == MSR.GS
    assert bench.cpu.spr[SPR.GSRR0] == 0x1000


@pytest.mark.parametrize(
    ("bit", "gate", "number", "save"),
    [(Doorbell.GUEST, MSR.EE, IVOR.GUEST_DOORBELL, SPR.GSRR0),
     (Doorbell.GUEST_CRITICAL, MSR.CE, IVOR.GUEST_CRITICAL_DOORBELL, SPR.CSRR0),
     (Doorbell.GUEST_MACHINE_CHECK, MSR.ME, IVOR.GUEST_CRITICAL_DOORBELL, SPR.CSRR0)],
)  # fmt: skip
def test_guest_doorbells_wait_until_the_guest_would_take_an_interrupt(bench, bit, gate, number, save):
    bench.cpu.doorbells = bit
    for msr in (gate, MSR.GS):
        bench.msr(msr)
        bench.after(0)
        assert bench.taken() is None
    bench.msr(MSR.GS | gate)
    bench.after(0)
    assert bench.taken() == number
    assert bench.cpu.doorbells == 0
    assert bench.cpu.spr[save] == 0x1000
    assert not bench.cpu.msr & MSR.GS  # taken by the hypervisor


# ---- external proxy ------------------------------------------------------------------------------------------------


class Controller:
    """An interrupt controller of two host functions."""

    def __init__(self, vm, proxy: bool, vector: int) -> None:
        self.acknowledged: list[int] = []
        ack = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
        ask = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)

        def acknowledge(state: int, cpu: int) -> int:
            self.acknowledged.append(cpu)
            return vector

        self.keep = ack(acknowledge), ask(lambda state: int(proxy))
        vm.irqchip_ack, vm.irqchip_proxy = (ctypes.cast(f, ctypes.c_void_p).value for f in self.keep)


def test_in_proxy_mode_taking_the_interrupt_acknowledges_it(bench):
    controller = Controller(bench.vm, True, 0x42)
    bench.msr(MSR.EE)
    bench.cpu.lines = Line.EXTERNAL
    bench.after(0)
    assert bench.taken() == IVOR.EXTERNAL
    assert bench.read(SPR.EPR) == 0x42 and controller.acknowledged == [0]


def test_a_guest_directed_vector_goes_to_gepr(bench):
    controller = Controller(bench.vm, True, 0x42)
    bench.cpu.spr[SPR.EPCR] = EPCR.EXTGS
    bench.msr(MSR.GS | MSR.EE)
    bench.cpu.lines = Line.EXTERNAL
    bench.after(0)
    assert (bench.cpu.spr[SPR.GEPR], bench.cpu.spr[SPR.EPR]) == (0x42, 0) and controller.acknowledged == [0]
    assert bench.read(SPR.EPR) == 0x42  # the guest's own
    assert controller.acknowledged == [0]


def test_out_of_proxy_mode_software_acknowledges(bench):
    controller = Controller(bench.vm, False, 0x42)
    bench.msr(MSR.EE)
    bench.cpu.lines = Line.EXTERNAL
    bench.after(0)
    assert bench.taken() == IVOR.EXTERNAL
    assert controller.acknowledged == [] and bench.read(SPR.EPR) == 0


def test_the_engine_is_asked_to_look_when_taking_one_interrupt_makes_another(bench):
    bench.cpu.spr[SPR.DBCR0] = DBCR0.IDM | DBCR0.IRPT
    bench.cpu.requests = 0
    bench.msr(MSR.DE)
    bench.do("sc")
    assert bench.cpu.requests & Request.LINES
    bench.after(0)
    assert bench.taken() == IVOR.DEBUG
    assert int(bench.cpu.spr[SPR.DSRR0]) & 0xFFFF == IVOR.SYSTEM_CALL * 0x100
