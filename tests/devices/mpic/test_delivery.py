"""The MPIC as its drivers see it: routing, priorities, acknowledge, messages."""

import pytest

from powervisor.devices.mpic_registers import Offset

EXTERNAL, CRITICAL, MACHINE_CHECK = 1, 2, 4
LEVEL, HIGH = 0x0040_0000, 0x0080_0000
MASK, ACTIVITY = 0x8000_0000, 0x4000_0000
SPURIOUS = 0xFFFF
REQUEST_LINES = 2


def test_linux_initialises_and_takes_a_level_interrupt(bench_of):
    """The order of accesses of Linux's mpic_alloc, mpic_init, mpic_unmask_irq and mpic_get_irq."""
    b = bench_of(2)
    own, spurious = 0x2_0000, 2047
    b.write(0x1020, b.read(0x1020) | 0x8000_0000)
    assert b.read(0x1020) & 0x8000_0000 == 0
    b.write(0x1020, b.read(0x1020) | 0x6000_0000)
    assert b.read(0x1000) == 195 << 16 | 1 << 8 | 2
    b.write(own + 0x80, 0xF)
    assert b.read(0x0000) & 0xFFFF == 0x0402
    for timer in range(8):
        at = (timer >> 2) * 0x1000 + (timer & 3) * 0x40
        b.write(0x1130 + at, 1)
        b.write(0x1120 + at, MASK | 9 << 16 | 2035 + timer)
    b.write(0x10A0, MASK)
    assert b.read(0x10A0) == MASK
    for ipi in range(4):
        b.write(0x10A0 + 0x10 * ipi, MASK | 10 << 16 | 2043 + ipi)
    for source in range(256):
        b.write(0x1_0000 + 0x20 * source, MASK | source | 8 << 16)
        b.write(0x1_0010 + 0x20 * source, 1)
    b.write(0x10E0, spurious)
    b.write(0x1020, b.read(0x1020) | 0x2000_0000)
    b.write(own + 0x80, 0)
    assert b.read(0x1020) == 0x6000_0000
    b.write(0x3910, 0xFFFF_FFFF)

    ivpr = 0x1_0000 + 0x20 * 42
    b.write(ivpr, b.read(ivpr) | LEVEL | HIGH)
    b.write(ivpr, b.read(ivpr) & ~MASK)
    assert b.read(ivpr) & MASK == 0
    uart = b.mpic.line(42)
    uart.set(True)
    assert b.lines() == EXTERNAL and b.words[0].requests == REQUEST_LINES
    assert b.lines(1) == 0
    assert b.read(own + 0xA0) == 42
    assert b.lines() == 0
    uart.set(False)
    b.write(own + 0xB0, 0)
    assert b.lines() == 0
    assert b.read(own + 0xA0) == spurious
    assert b.mpic.delivered == {"42": 1} and b.mpic.eois == 1 and b.mpic.spurious == 1


def test_level_interrupt_returns_after_eoi_while_its_line_is_active(pic):
    pic.source(42)
    pic.mpic.line(42).set(True)
    assert pic.iack() == 42
    assert pic.lines() == 0
    pic.eoi()
    assert pic.lines() == EXTERNAL
    assert pic.iack() == 42
    pic.mpic.line(42).set(False)
    pic.eoi()
    assert pic.lines() == 0


def test_level_interrupt_withdrawn_before_acknowledge_is_spurious(pic):
    pic.source(42)
    pic.mpic.line(42).set(True)
    pic.mpic.line(42).set(False)
    assert pic.lines() == 0
    assert pic.iack() == SPURIOUS


def test_edge_is_latched_while_masked_and_taken_once(pic):
    line = pic.mpic.line(3)
    line.set(True)
    line.set(False)
    assert pic.lines() == 0
    pic.source(3)
    assert pic.lines() == EXTERNAL
    assert pic.iack() == 3
    line.set(True)  # the next edge comes while the first is served
    pic.eoi()
    assert pic.lines() == EXTERNAL and pic.iack() == 3
    line.set(False)
    pic.eoi()
    assert pic.lines() == 0


def test_pin_set_to_level_follows_its_line_and_forgets_edges(pic):
    line = pic.mpic.line(3)
    line.set(True)
    line.set(False)
    pic.source(3, sense=LEVEL)
    assert pic.lines() == 0
    line.set(True)
    assert pic.lines() == EXTERNAL
    pic.source(3)  # back to edges: the level that was there is none
    assert pic.lines() == 0


def test_only_higher_priority_preempts_and_eoi_ends_the_highest(pic):
    for source, priority in ((20, 5), (21, 5), (22, 9), (23, 14)):
        pic.source(source, priority)
    pic.mpic.line(20).set(True)
    assert pic.iack() == 20
    pic.mpic.line(21).set(True)
    assert pic.lines() == 0
    pic.mpic.line(22).set(True)
    assert pic.lines() == EXTERNAL and pic.iack() == 22
    pic.mpic.line(23).set(True)
    assert pic.iack() == 23
    for source in (22, 23):
        pic.mpic.line(source).set(False)
    pic.eoi()  # 23
    pic.eoi()  # 22
    assert pic.lines() == 0 and pic.iack() == SPURIOUS
    pic.mpic.line(20).set(False)
    pic.eoi()
    assert pic.iack() == 21


def test_eoi_without_interrupt_in_service_is_ignored(pic):
    for _ in range(15):
        pic.eoi()
    pic.source(20)
    pic.mpic.line(20).set(True)
    assert pic.iack() == 20


def test_priority_changed_in_service_ends_with_the_one_acknowledged(pic):
    pic.source(20, 5)
    pic.mpic.line(20).set(True)
    assert pic.iack() == 20
    pic.source(20, 12)
    assert pic.lines() == EXTERNAL and pic.iack() == 20
    pic.mpic.line(20).set(False)
    pic.eoi()
    pic.eoi()
    pic.source(21, 1)
    pic.mpic.line(21).set(True)
    assert pic.iack() == 21


def test_lowest_source_wins_among_equal_priorities(pic):
    for source in (70, 65, 200):
        pic.source(source)
        pic.mpic.line(source).set(True)
    assert pic.iack() == 65


@pytest.mark.parametrize(("ctpr", "priority", "delivered"), [(0, 0, 0), (0, 1, 1), (7, 7, 0), (7, 8, 1), (15, 15, 0)])
def test_task_priority_holds_back_what_is_not_above_it(pic, ctpr, priority, delivered):
    pic.write(Offset.CTPR, ctpr)
    pic.source(50, priority)
    pic.mpic.line(50).set(True)
    assert pic.lines() == delivered
    assert pic.iack() == (50 if delivered else SPURIOUS)


def test_lowering_and_raising_the_task_priority_moves_the_output(pic):
    pic.source(50, 4)
    pic.write(Offset.CTPR, 4)
    pic.mpic.line(50).set(True)
    assert pic.lines() == 0
    pic.write(Offset.CTPR, 3)
    assert pic.lines() == EXTERNAL
    pic.write(Offset.CTPR, 15)
    assert pic.lines() == 0
    assert pic.read(Offset.CTPR) == 15


def test_source_with_several_destinations_goes_to_the_lowest(bench_of):
    b = bench_of(4).ready()
    b.source(60, cpus=0b1100)
    b.mpic.line(60).set(True)
    assert [b.lines(cpu) for cpu in range(4)] == [0, 0, 1, 0]
    b.write(Offset.SOURCE + 60 * 0x20 + Offset.IDR, 0b1010)
    assert [b.lines(cpu) for cpu in range(4)] == [0, 1, 0, 0]
    b.write(Offset.SOURCE + 60 * 0x20 + Offset.IDR, 0)
    assert [b.lines(cpu) for cpu in range(4)] == [0, 0, 0, 0]


def test_ipi_reaches_each_cpu_of_its_mask_once(bench_of):
    b = bench_of(4).ready()
    b.ipi(1)
    b.write(Offset.IPIDR + 0x10, 0b1110, cpu=2)
    assert [b.lines(cpu) for cpu in range(4)] == [0, 1, 1, 1]
    assert b.iack(3) == b.iack(1) == 0x101
    b.write(Offset.CPU + Offset.IPIDR + 0x10, 0b0010)  # sent again while served
    assert [b.lines(cpu) for cpu in range(4)] == [0, 0, 1, 0]
    b.eoi(1)
    b.eoi(3)
    assert [b.lines(cpu) for cpu in range(4)] == [0, 1, 1, 0]
    assert b.iack(1) == b.iack(2) == 0x101
    assert b.iack(3) == SPURIOUS
    assert b.mpic.ipis == 2 and b.mpic.delivered == {"ipi1": 4}


def test_ipi_to_absent_cpus_is_dropped(pic):
    pic.ipi(0)
    pic.write(Offset.IPIDR, 0xFFFF_FFFC)
    assert pic.read(Offset.IPIVPR) & ACTIVITY == 0
    pic.write(Offset.IPIDR, 0xFFFF_FFFF)
    assert pic.lines(0) == pic.lines(1) == EXTERNAL


@pytest.mark.parametrize(("ilr", "output"), [(1, CRITICAL), (2, MACHINE_CHECK)])
def test_critical_and_machine_check_sources_bypass_priority_and_acknowledge(pic, ilr, output):
    pic.write(Offset.CTPR, 15, cpu=1)
    pic.source(80, priority=0, cpus=2, ilr=ilr)
    pic.source(81, priority=0, cpus=2, ilr=ilr)
    pic.mpic.line(80).set(True)
    pic.mpic.line(81).set(True)
    assert (pic.lines(0), pic.lines(1)) == (0, output)
    assert pic.iack(1) == SPURIOUS
    pic.mpic.line(80).set(False)
    assert pic.lines(1) == output
    pic.write(Offset.SOURCE + 81 * 0x20, MASK | 81)
    assert pic.lines(1) == 0
    pic.source(81, priority=3, cpus=2)
    pic.write(Offset.CTPR, 0, cpu=1)
    assert pic.lines(1) == EXTERNAL


def test_source_routed_to_a_pin_nobody_watches_interrupts_nobody(pic):
    pic.source(80, ilr=0xF0)
    pic.mpic.line(80).set(True)
    assert pic.lines() == 0
    assert pic.read(Offset.SOURCE + 80 * 0x20 + Offset.ILR) == 0xF0


def test_messages_collect_until_their_register_is_read(pic):
    for source in range(224, 232):
        pic.source(source)
    pic.write(Offset.MSI + Offset.MSIIR, 2 << 29 | 5 << 24)
    pic.mpic.msi(2 << 5 | 31)
    pic.mpic.msi(7 << 5)
    assert pic.read(Offset.MSI + Offset.MSISR) == 1 << 2 | 1 << 7
    assert pic.iack() == 226
    assert pic.read(Offset.MSI + 0x20) == 1 << 5 | 1 << 31
    pic.mpic.msi(2 << 5 | 1)  # comes after the register was read, before the end of interrupt
    pic.eoi()
    assert pic.iack() == 226
    assert pic.read(Offset.MSI + 0x20) == 2
    pic.eoi()
    assert pic.iack() == 231
    assert pic.read(Offset.MSI + 0x70) == 1
    pic.eoi()
    assert pic.read(Offset.MSI + Offset.MSISR) == 0 and pic.lines() == 0


def test_message_banks_have_own_registers_and_pages(pic):
    pic.source(247)
    pic.write(Offset.MSIIR_PAGE + 2 * Offset.MSIIR_PAGE_STRIDE, 0xE3 << 24)
    assert pic.iack() == 247
    assert pic.read(Offset.MSI + 2 * Offset.MSI_STRIDE + 0x70) == 8
    assert pic.read(Offset.MSI + 2 * Offset.MSI_STRIDE + 0x70) == 0


def test_message_registers_interrupt_when_enabled(pic):
    pic.source(0xB5)
    block = Offset.GROUP + Offset.GROUP_STRIDE
    pic.write(block + Offset.MSGR + 0x10, 0x1234)
    assert pic.lines() == 0
    pic.write(block + Offset.MER, 0xF)
    assert pic.lines() == EXTERNAL and pic.iack() == 0xB5
    assert pic.read(block + Offset.MSR) == 2
    assert pic.read(block + Offset.MSGR + 0x10) == 0x1234
    assert pic.read(block + Offset.MSR) == 0
    pic.eoi()
    assert pic.lines() == 0
    pic.write(block + Offset.MSGR + 0x10, 1)
    pic.write(block + Offset.MSR, 2)
    assert pic.lines() == 0


def test_error_interrupts_share_source_16(pic):
    pic.source(16)
    pic.mpic.error_line(0).set(True)
    pic.mpic.error_line(31).set(True)
    assert pic.read(Offset.EISR) == 0x8000_0001
    assert pic.lines() == 0
    pic.write(Offset.EIMR, 0x7FFF_FFFF)
    assert pic.iack() == 16
    pic.write(Offset.EIMR, 0xFFFF_FFFE)
    pic.eoi()
    assert pic.lines() == EXTERNAL
    pic.mpic.error_line(31).set(False)
    assert pic.lines() == 0


def test_pass_through_mode_leads_pin_0_to_cpu_0_alone(pic):
    pic.source(0, sense=LEVEL, cpus=2)
    pic.source(42)
    pic.mpic.line(42).set(True)
    pic.write(Offset.GCR, 0)
    assert pic.lines(0) == 0
    pic.mpic.line(0).set(True)
    assert (pic.lines(0), pic.lines(1)) == (EXTERNAL, 0)
    assert pic.iack() == SPURIOUS
    pic.write(Offset.GCR, 0x2000_0000)
    assert (pic.iack(0), pic.iack(1)) == (42, 0)


def test_external_proxy_acknowledges_for_the_core(pic):
    pic.write(Offset.GCR, 0x6000_0000)
    assert pic.read(Offset.GCR) == 0x6000_0000
    pic.source(42, cpus=2)
    pic.mpic.line(42).set(True)
    assert pic.mpic.acknowledge(1) == 42
    assert pic.lines(1) == 0
    assert pic.mpic.acknowledge(1) == SPURIOUS
