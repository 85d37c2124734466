"""MSI and MSI-X as a driver sets them up: capability, table, masks, pending bits; messages arrive in the MPIC."""

import pytest

from powervisor.devices.pci.function import Bar, PciFunction
from powervisor.devices.pci.msi import Msi, Msix
from tests.support.pci import MEMORY, Guest

VECTORS = 4
MSIIR = 0xE004_1740
BAR = 0xE010_0000
ENABLE, MASK_ALL = 0x8000, 0x4000


class Card(PciFunction):
    vendor_id, device_id, class_code = 0x1AF4, 0x1000, 0x020000
    interrupt_pin = 1
    bars = {1: Bar(Msix.bar_size(VECTORS))}

    def _declare(self):
        super()._declare()
        self.msix = Msix(self, VECTORS, 1)
        self.msi = Msi(self, 4)


@pytest.fixture
def card(bench):
    card = Card("card")
    bench.device("pci").bus.attach(card)
    guest = Guest(bench)
    guest.set_config(0, 0x10, 0xE000_0000)
    guest.outbound(1, 0xE000_0000, MEMORY, 29)
    guest.set_config(1, 0x14, BAR)
    guest.set_config(1, 4, 6, 2)
    return card


@pytest.fixture
def guest(bench):
    return Guest(bench)


def table(bench, word, value=None):
    pa = MEMORY + BAR - 0xE000_0000 + word
    if value is None:
        return int.from_bytes(bench.space.read(pa, 4).to_bytes(4, "little"), "big")
    bench.space.write(pa, 4, int.from_bytes(value.to_bytes(4, "little"), "big"))
    return None


def set_up(bench, vector, data, masked=False):
    for word, value in enumerate((MSIIR, 0, data, int(masked))):
        table(bench, 16 * vector + 4 * word, value)


def test_msix_messages_go_where_the_table_says(bench, guest, card):
    at = card.msix.offset
    assert guest.config(1, at, 1) == 0x11 and guest.config(1, at + 2, 2) == VECTORS - 1
    assert guest.config(1, at + 4) == 1 and guest.config(1, at + 8) == 0x801
    assert [table(bench, 16 * vector + 12) for vector in range(VECTORS)] == [1] * VECTORS, "masked at first"
    assert not card.msix.enabled
    guest.set_config(1, at + 2, ENABLE, 2)
    assert card.msix.enabled
    set_up(bench, 0, 0x25)
    set_up(bench, 3, 0x1F)
    card.msix.notify(0)
    card.msix.notify(3)
    card.msix.notify(VECTORS)
    assert bench.irqchip.stores == [(0x1740, 4, 0x2500_0000), (0x1740, 4, 0x1F00_0000)]


def test_masked_messages_wait_for_their_mask(bench, guest, card):
    guest.set_config(1, card.msix.offset + 2, ENABLE, 2)
    set_up(bench, 1, 7, masked=True)
    card.msix.notify(1)
    assert bench.irqchip.stores == [] and table(bench, 0x800) == 2
    table(bench, 0x800, 0)
    assert table(bench, 0x800) == 2, "pending bits are read-only"
    table(bench, 16 + 12, 0)
    assert bench.irqchip.stores == [(0x1740, 4, 0x0700_0000)] and table(bench, 0x800) == 0
    guest.set_config(1, card.msix.offset + 2, ENABLE | MASK_ALL, 2)
    card.msix.notify(1)
    assert len(bench.irqchip.stores) == 1 and table(bench, 0x800) == 2
    guest.set_config(1, card.msix.offset + 2, ENABLE, 2)
    assert len(bench.irqchip.stores) == 2


def test_messages_replace_the_pin(bench, guest, card):
    line = bench.irqchip.lines[2]
    card.set_intx(True)
    assert line.level
    guest.set_config(1, card.msix.offset + 2, ENABLE, 2)
    assert not line.level
    guest.set_config(1, card.msix.offset + 2, 0, 2)
    assert line.level


def test_a_message_to_nowhere_is_lost(bench, guest, card):
    guest.set_config(1, card.msix.offset + 2, ENABLE, 2)
    set_up(bench, 0, 1)
    table(bench, 0, 0x1234_5678)
    card.msix.notify(0)
    guest.set_config(1, 4, 2, 2)  # no bus master
    set_up(bench, 0, 1)
    card.msix.notify(0)
    assert bench.irqchip.stores == []


def test_msi_numbers_its_messages_in_the_data(bench, guest, card):
    at = card.msi.offset
    assert guest.config(1, at, 1) == 5 and guest.config(1, at + 2, 2) == 0x0184
    guest.set_config(1, at + 4, MSIIR)
    guest.set_config(1, at + 12, 0x24, 2)
    guest.set_config(1, at + 2, 0x0011, 2)  # enabled, two of the four
    assert card.msi.enabled
    card.msi.notify(1)
    guest.set_config(1, at + 16, 0xFFFF_FFFF)
    assert guest.config(1, at + 16) == 0xF
    card.msi.notify(0)
    assert guest.config(1, at + 20) == 1
    guest.set_config(1, at + 16, 0)
    assert bench.irqchip.stores == [(0x1740, 4, 0x2500_0000), (0x1740, 4, 0x2400_0000)]
    assert guest.config(1, at + 20) == 0


def test_restored_function_has_its_table(bench, guest, card):
    guest.set_config(1, card.msix.offset + 2, ENABLE, 2)
    set_up(bench, 2, 9)
    saved = card.save()
    card.reset()
    assert not card.msix.enabled
    card.restore(saved)
    card.msix.notify(2)
    assert bench.irqchip.stores == [(0x1740, 4, 0x0900_0000)]


@pytest.mark.parametrize("vectors, size", [(1, 4096), (128, 4096), (129, 8192), (2048, 65536)])
def test_table_and_pending_bits_fit_their_bar(vectors, size):
    assert Msix.bar_size(vectors) == size


def test_impossible_numbers_of_vectors_are_refused(card):
    with pytest.raises(ValueError, match="there can be"):
        Msi(card, 3)
    with pytest.raises(ValueError, match="there can be"):
        Msix(card, 2049, 1)
