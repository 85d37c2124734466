"""The PCI host bridge through CPU accesses, with a test function in a slot."""

import pytest

from powervisor.devices.pci.function import Bar, PciFunction
from powervisor.memory.space import BusError
from tests.support.pci import IO, MEMORY, PCI, Guest

ONES = 0xFFFF_FFFF


class Card(PciFunction):
    vendor_id, device_id, class_code = 0x1AF4, 0x1000, 0x020000
    subsystem = (0x1AF4, 1)
    interrupt_pin = 1
    bars = {0: Bar(32, io=True), 1: Bar(4096), 2: Bar(1 << 16, wide=True, prefetchable=True)}

    def _declare(self):
        super()._declare()
        self.msi_at = self.add_capability(5, bytes(8), writable=b"\x01")

    def __init__(self, name):
        super().__init__(name)
        self.log = []

    def bar_read(self, bar, offset, size):
        return 0x8765_4321 >> 8 * (offset % 4) & (1 << 8 * size) - 1

    def bar_write(self, bar, offset, size, value):
        self.log.append((bar, offset, size, value))


def swap32(value):
    return int.from_bytes(value.to_bytes(4, "little"), "big")


@pytest.fixture
def guest(bench):
    return Guest(bench)


@pytest.fixture
def card(bench):
    card = Card("card")
    assert bench.device("pci").bus.attach(card) == 1
    return card


def test_bridge_is_a_host_bridge_linux_takes(guest):
    assert guest.config(0, 0) == 0x0030_1957
    assert guest.config(0, 8) >> 8 == 0x0B2000
    assert guest.config(0, 9, 1) & 1 == 0, "programming interface bit 0 set would mean agent mode"
    assert guest.config(0, 0x0E, 1) == 0
    guest.set_config(0, 0x10, ONES)
    assert guest.config(0, 0x10) == 0xFFF0_0000


def test_absent_devices_read_all_ones(guest, bench):
    assert guest.config(5, 0) == ONES
    assert guest.config(0, 0, function=1) == ONES
    assert guest.config(0, 0, bus=1) == ONES
    bench.write(PCI, 0)  # not enabled
    assert bench.read(PCI + 4) == ONES
    guest.outbound(1, 0xE000_0000, MEMORY, 29)
    assert bench.space.read(MEMORY + 0x1000, 4) == ONES
    bench.space.write(MEMORY + 0x1000, 4, 1)


def test_configuration_lanes_by_size(guest, card):
    assert guest.config(1, 0x00, 2) == 0x1AF4 and guest.config(1, 0x02, 2) == 0x1000
    assert guest.config(1, 0x0B, 1) == 0x02
    guest.set_config(1, 0x3C, 0x2A, 1)
    assert guest.config(1, 0x3C) == 0x0000_012A
    guest.set_config(1, 0x00, ONES)
    assert guest.config(1, 0x00) == 0x1000_1AF4


def test_bars_are_sized_and_decoded_in_both_spaces(guest, card, bench):
    for bar, value in ((0, 0xFFFF_FFE1), (1, 0xFFFF_F000), (2, 0xFFFF_000C), (3, ONES)):
        guest.set_config(1, 0x10 + 4 * bar, ONES)
        assert guest.config(1, 0x10 + 4 * bar) == value
    guest.set_config(1, 0x10, 0x1000)
    guest.set_config(1, 0x14, 0xE010_0000)
    guest.outbound(1, 0xE000_0000, MEMORY, 29)
    guest.outbound(2, 0, IO, 16, io=True)
    assert bench.space.read(MEMORY + 0x10_0000, 4) == ONES, "memory space is not enabled yet"
    guest.set_config(1, 4, 3, 2)
    assert bench.space.read(MEMORY + 0x10_0000, 4) == swap32(0x8765_4321)
    assert bench.space.read(MEMORY + 0x10_0001, 1) == 0x43
    bench.space.write(IO + 0x1008, 2, 0x3412)
    bench.space.write(MEMORY + 0x10_0010, 8, 0x0100_0000_0200_0000)
    assert card.log == [(0, 8, 2, 0x1234), (1, 0x10, 4, 1), (1, 0x14, 4, 2)]


def test_io_space_begins_at_0_where_64_bit_linux_puts_the_first_device(guest, card, bench):
    guest.outbound(2, 0, IO, 16, io=True)
    guest.set_config(1, 0x10, 0)
    bench.space.write(IO, 1, 1)
    guest.set_config(1, 4, 1, 2)
    bench.space.write(IO + 4, 1, 2)
    assert card.log == [(0, 4, 1, 2)]


def test_64_bit_bar_above_4_gib(guest, card, bench):
    guest.set_config(1, 0x18, 0)
    guest.set_config(1, 0x1C, 0x10)
    guest.set_config(1, 4, 2, 2)
    guest.outbound(1, 0x10_0000_0000, MEMORY, 29)
    bench.space.write(MEMORY + 4, 4, 0)
    assert card.log == [(2, 4, 4, 0)]


def test_default_window_passes_addresses_through(guest, card, bench):
    guest.set_config(1, 0x14, 0x0010_0000)
    guest.set_config(1, 4, 2, 2)
    bench.space.write(MEMORY + 0x10_0000, 4, 0)
    assert card.log == [(1, 0, 4, 0)]


def test_inbound_windows_translate_dma(guest, card, bench):
    guest.inbound(0xDE0, 0x10_0000, 0x8000_0000, 20)
    with pytest.raises(BusError):
        card.dma.write(0x8000_0010, b"too early")
    guest.set_config(1, 4, 6, 2)
    writes = []
    bench.space.on_write(lambda pa, n: writes.append((pa, n)))
    card.dma.write(0x8000_0FFE, b"data")
    assert bench.space.ram[0x10_0FFE:0x10_1002] == b"data" and writes == [(0x10_0FFE, 4)]
    assert card.dma.read(0x8000_0FFE, 4) == b"data"
    for outside in (0x7FFF_FFFC, 0x8010_0000, 0):
        with pytest.raises(BusError):
            card.dma.read(outside, 4)


def test_messages_reach_the_mpic_through_the_bridges_bar(guest, card, bench):
    guest.set_config(0, 0x10, 0xE000_0000)
    guest.set_config(1, 4, 6, 2)
    assert card.send_message(0xE004_1740, 0x0000_0025)
    assert bench.irqchip.stores == [(0x1740, 4, 0x2500_0000)]
    assert not card.send_message(0x1234_0000, 1), "refused outside all windows"


def test_intx_is_swizzled_by_slot(guest, bench):
    bus = bench.device("pci").bus
    cards = [Card(f"card{i}") for i in range(4)]
    slots = [bus.attach(card) for card in cards]
    assert slots == [1, 2, 3, 4]
    for card, source in zip(cards, (2, 3, 4, 1), strict=True):
        line = bench.irqchip.lines[source]
        card.set_intx(True)
        assert line.level and card.field(6, 2) & 8
        card.set_intx(False)
        assert not line.level


def test_functions_that_share_a_line_are_ored(guest, bench):
    bus, line = bench.device("pci").bus, bench.irqchip.lines[2]
    one, two = Card("one"), Card("two")
    bus.attach(one, 1)
    bus.attach(two, 5)
    one.set_intx(True)
    two.set_intx(True)
    one.set_intx(False)
    assert line.level
    guest.set_config(5, 4, 0x400, 2)  # interrupt disable
    assert not line.level
    guest.set_config(5, 4, 0, 2)
    two.set_intx(False)
    assert not line.level


def test_capabilities_are_linked_and_masked(guest, card):
    assert guest.config(1, 6, 2) & 0x10
    at = guest.config(1, 0x34, 1)
    assert at == card.msi_at and guest.config(1, at, 1) == 5 and guest.config(1, at + 1, 1) == 0
    guest.set_config(1, at + 2, 0xFFFF, 2)
    assert guest.config(1, at + 2, 2) == 1


def test_multifunction_devices_say_so(guest, bench):
    bus = bench.device("pci").bus
    bus.attach(Card("a"), 3, 0)
    assert guest.config(3, 0x0E, 1) == 0
    bus.attach(Card("b"), 3, 1)
    assert guest.config(3, 0x0E, 1) == 0x80
    with pytest.raises(ValueError, match="taken"):
        bus.attach(Card("c"), 3, 1)


def test_restored_function_answers_where_it_did(guest, card, bench):
    guest.set_config(1, 0x14, 0x0010_0000)
    guest.set_config(1, 4, 2, 2)
    saved = card.save()
    card.reset()
    bench.space.write(MEMORY + 0x10_0000, 4, 0)
    assert card.log == []
    card.restore(saved)
    bench.space.write(MEMORY + 0x10_0000, 4, 0)
    assert len(card.log) == 1
