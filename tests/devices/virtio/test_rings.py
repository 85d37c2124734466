"""Rings through a device that turns what it reads around, driven over PCI in every way a driver may choose."""

import random

import pytest

from powervisor.devices import models
from powervisor.devices.virtio.device import RequestDevice
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.ring import Chain, Stores
from powervisor.memory.space import Dma
from tests.support.virtio_driver import (
    ACCESS_PLATFORM,
    BUFFERS,
    DRIVER_OK,
    EVENT_INDEX,
    FEATURES_OK,
    INDIRECT,
    NEEDS_RESET,
    NEXT,
    PACKED,
    RINGS,
    TABLE,
    VERSION_1,
    WRITE,
)

RAM_END = 64 << 20


class Turn(RequestDevice):
    """Writes what it reads, backwards."""

    kind = 4

    def handle(self, queue, chain):
        data = b"".join(chain.readable)[::-1]
        at = 0
        for buffer in chain.writable:
            part = data[at : at + len(buffer)]
            buffer[: len(part)] = part
            at += len(part)
        return min(at, len(data))

    def configuration(self, order):
        return b"configuration"


class TurnPci(VirtioPci):
    model, summary, options_type, class_code = "turn", "for tests", VirtioPciOptions, 0x00FF00

    def __init__(self, name, options, services):
        virtio = Turn(name, services, (8, 8), options.features())
        super().__init__(name, options, services, virtio)


@pytest.fixture(autouse=True)
def turn(monkeypatch):
    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "turn": TurnPci})


WAYS = {
    "split": (0, False),
    "split-event": (EVENT_INDEX | INDIRECT, False),
    "packed": (PACKED, False),
    "packed-event": (PACKED | EVENT_INDEX | INDIRECT, False),
    "legacy": (0, True),
    "legacy-event": (EVENT_INDEX | INDIRECT, True),
}


@pytest.fixture(params=WAYS)
def ring(request, plugged):
    """A running queue of 8 entries, in each of the ways."""
    features, legacy = WAYS[request.param]
    return plugged("turn,packed=on", legacy=legacy).start(features)


@pytest.fixture(params=["split-event", "packed-event"])
def indirect(request, plugged):
    """A running queue that has tables of indirect descriptors."""
    return plugged("turn,packed=on").start(WAYS[request.param][0])


def test_chains_are_answered_with_an_interrupt_each(ring):
    for n in range(40):  # five times round the ring
        text = f"request {n} ".encode()
        ring.interrupt_at(0) if ring.features & EVENT_INDEX else None
        assert ring.do(text[:3], text[3:], 5, 20) == (text[::-1].ljust(25, b"\0"), len(text))
    assert ring.driver.messages == [1] * 40


def test_chains_made_available_together_give_one_interrupt(ring):
    places = [ring.add(b"%d!" % n, 2) for n in range(4)]
    ring.driver.notify(0)
    assert [length for _, length in ring.used()] == [2, 2, 2, 2]
    assert [ring.ram[b : b + 2] for _, b in places] == [b"!0", b"!1", b"!2", b"!3"]
    assert ring.driver.messages == [1]


def test_no_interrupt_when_the_driver_wants_none(ring):
    if ring.features & EVENT_INDEX:
        ring.interrupt_at(2)
    else:
        ring.interrupts(False)
    for _ in range(2):
        ring.do(b"ab", 2)
    assert ring.driver.messages == []
    if not ring.features & EVENT_INDEX:
        ring.interrupts(True)
    ring.do(b"ab", 2)
    assert ring.driver.messages == [1]


def test_an_idle_queue_asks_for_notifications(ring):
    for _ in range(11):
        ring.do(b"ab", 2)
        assert ring.wants_notification()


def test_indirect_tables_take_one_place(indirect):
    for n in range(20):
        text = bytes(range(n + 1))
        pieces = [text[i : i + 1] for i in range(len(text))]
        assert indirect.do(*pieces, 30, indirect=True) == (text[::-1].ljust(30, b"\0"), n + 1)


def test_several_queues_have_a_vector_each(plugged):
    first, second = plugged("turn").start(queues=2)
    second.do(b"b", 1)
    first.do(b"a", 1)
    assert first.driver.messages == [2, 1]


@pytest.mark.parametrize("legacy", [False, True])
def test_without_messages_the_pin_and_isr_tell(plugged, bench, legacy):
    driver = plugged("turn,vectors=0", legacy=legacy, messages=False)
    line = bench.irqchip.lines[2]
    driver.start().do(b"x", 1)
    assert line.level
    assert driver.isr() == 1 and driver.isr() == 0
    assert not line.level


def test_bus_addresses_go_through_the_bridge(plugged, bench):
    driver = plugged("turn,iommu_platform=on")
    driver.guest.inbound(0xDE0, 0, 0x8000_0000, 26)
    assert driver.negotiate(VERSION_1 | ACCESS_PLATFORM) & FEATURES_OK
    ring = driver.start(ACCESS_PLATFORM)
    assert driver.status() & DRIVER_OK
    driver.notify(0)
    assert driver.status() & NEEDS_RESET, "nothing is at bus address 0x100000"
    driver.guest.inbound(0xDE0, 0, 0, 26)
    ring = driver.start(ACCESS_PLATFORM)
    assert ring.do(b"abc", 3) == (b"cba", 3)


def test_without_bus_mastering_nothing_is_done(plugged):
    ring = plugged("turn").start()
    ring.driver.guest.set_config(1, 4, 3, 2)
    ring.add(b"ab", 2)
    ring.driver.notify(0)
    assert ring.used() == []
    ring.driver.guest.set_config(1, 4, 7, 2)
    ring.driver.notify(0)
    assert len(ring.used()) == 1


def test_stores_of_a_device_are_announced(plugged, bench):
    ring = plugged("turn").start()
    seen = []
    bench.space.on_write(lambda pa, n: seen.append((pa, n)))
    _, first, second = ring.add(b"abcdef", 4, 4)
    ring.driver.notify(0)
    assert len(seen) == 1 and seen[0][0] <= first < second + 2 <= sum(seen[0])


def test_stores_far_from_each_other_are_announced_apart(bench):
    stores, seen = Stores(Dma(bench.space)), []
    bench.space.on_write(lambda pa, n: seen.append((pa, n)))
    for address, length in ((0x5800, 0x900), (0x7010, 1), (0x4FFF, 1), (0x9000, 0x2000), (0x100, 4)):
        chain = Chain()
        chain.add(Dma(bench.space), address, 0x2000, True)
        stores.note(chain, length)
    stores.tell()
    stores.tell()
    assert seen == [(0x4000, 0x4000), (0x9000, 0x2000), (0, 0x1000)]


# -- drivers that break the rules: entries of a request as (address, length, flags)

BAD = {
    "a buffer beyond RAM": [(RAM_END - 4, 8, 0)],
    "a buffer nowhere": [(1 << 63, 8, WRITE)],
    "a huge buffer": [(BUFFERS, 0xFFFF_FFFF, WRITE)],
    "to read after to write": [(BUFFERS, 8, WRITE), (BUFFERS, 8, 0)],
    "an indirect table that is none": [(BUFFERS, 8, TABLE)],
    "an empty indirect table": [(BUFFERS, 0, TABLE)],
    "an indirect table nowhere": [(RAM_END, 32, TABLE)],
    "an indirect table and more": [(BUFFERS, 32, TABLE), (BUFFERS, 8, WRITE)],
}


def check_needs_reset(ring, warnings, works_again=True):
    driver = ring.driver
    assert driver.status() & NEEDS_RESET
    assert len(warnings) == 1 and warnings[0].startswith("turn@1: queue 0: ") and "reset the device" in warnings[0]
    assert warnings[0].count("\n") == 0
    assert 0 in driver.messages, "the configuration's vector"
    count = len(driver.messages)
    ring.add(b"later", 5)
    driver.notify(0)
    assert len(warnings) == 1 and len(driver.messages) == count, "a broken device is silent"
    driver.status(0)
    assert driver.status() == 0
    again = driver.start(ring.features & ~VERSION_1)
    assert again.do(b"abc", 3) == (b"cba", 3)


@pytest.mark.parametrize("bad", BAD)
def test_bad_chains_stop_the_device_until_its_reset(indirect, warnings, bad):
    indirect.do(b"ok", 2)
    indirect.offer(BAD[bad])
    indirect.driver.notify(0)
    check_needs_reset(indirect, warnings)


def test_good_chains_before_a_bad_one_are_answered(indirect):
    indirect.add(b"ok", 2)
    indirect.offer(BAD["a huge buffer"])
    indirect.driver.notify(0)
    assert [length for _, length in indirect.used()] == [2]


def test_indirect_tables_in_each_other_are_refused(plugged, warnings):
    ring = plugged("turn").start(INDIRECT)
    ring.offer([ring.table_of([(BUFFERS, 32, TABLE)])])
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


def test_indirect_tables_that_were_not_negotiated_are_refused(plugged, warnings):
    ring = plugged("turn").start(0)
    ring.add(b"abc", 3, indirect=True)
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


def test_descriptors_in_a_circle(plugged, warnings):
    ring = plugged("turn").start()
    ring.pack(ring.table, "QIHH", BUFFERS, 1, NEXT, 1)
    ring.pack(ring.table + 16, "QIHH", BUFFERS, 1, NEXT, 0)
    ring.publish(0)
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


def test_a_packed_chain_without_end(plugged, warnings):
    ring = plugged("turn,packed=on").start(PACKED)
    ring.offer([(BUFFERS, 1, NEXT)] * 8)
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


@pytest.mark.parametrize("head", [8, 0xFFFF])
def test_heads_beyond_the_table(plugged, warnings, head):
    ring = plugged("turn").start()
    ring.publish(head)
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


def test_next_beyond_the_table(plugged, warnings):
    ring = plugged("turn").start()
    ring.pack(ring.table, "QIHH", BUFFERS, 1, NEXT, 8)
    ring.publish(0)
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


def test_an_index_that_leaps(plugged, warnings):
    ring = plugged("turn").start()
    ring.avail = 1000
    ring.publish(0)
    ring.driver.notify(0)
    check_needs_reset(ring, warnings)


@pytest.mark.parametrize("area, address", [(0x20, RAM_END), (0x20, 8), (0x28, RAM_END - 2), (0x28, 1), (0x30, 1 << 62)])
@pytest.mark.parametrize("features", [0, PACKED])
def test_rings_that_are_nowhere(plugged, warnings, area, address, features):
    driver = plugged("turn,packed=on")
    driver.start(features)  # the places are taken from here
    driver.negotiate(features | VERSION_1)
    driver.common(0x16, 2, 0)
    for at, value in ((0x20, RINGS), (0x28, RINGS + 0x1000), (0x30, RINGS + 0x2000)):
        value = address if at == area else value
        driver.common(at, 4, value & 0xFFFF_FFFF)
        driver.common(at + 4, 4, value >> 32)
    driver.common(0x1C, 2, 1)
    driver.status(0xF)
    assert driver.status() & NEEDS_RESET and len(warnings) == 1


def test_a_guest_that_breaks_its_rings_for_ever_is_not_told_for_ever(plugged, warnings):
    driver = plugged("turn")
    for _ in range(50):
        driver.start().publish(99)
        driver.notify(0)
    assert len(warnings) == 10 and "further ones are not told" in warnings[-1]


def test_legacy_page_0_takes_the_queue_away(plugged):
    ring = plugged("turn", legacy=True).start()
    ring.do(b"ab", 2)
    ring.driver.io(8, 4, 0)
    assert ring.driver.io(8, 4) == 0
    ring.add(b"ab", 2)
    ring.driver.notify(0)
    assert ring.used() == []


def test_saved_rings_go_on_where_they_were(ring):
    card = ring.driver.bench.built.devices["pci"].bus.functions[1, 0]
    for _ in range(5):
        ring.do(b"ab", 2)
    ring.add(b"cd", 2)
    saved = [device.save() for device in (card, card.virtio)]
    for device in (card, card.virtio):
        device.reset()
    assert ring.driver.status() in (0, 0xFF)
    for device, state in zip((card, card.virtio), saved, strict=True):
        device.restore(state)
    ring.driver.notify(0)
    assert [length for _, length in ring.used()] == [2]
    assert ring.do(b"ef", 2) == (b"fe", 2)


@pytest.mark.parametrize("seed", range(4))
def test_rings_written_at_random_never_raise(plugged, warnings, seed):
    rng = random.Random(seed)
    driver = plugged("turn,packed=on", legacy=seed == 3)
    for _ in range(60):
        features = rng.choice((0, INDIRECT, EVENT_INDEX, PACKED, PACKED | INDIRECT)) if seed < 3 else 0
        ring = driver.start(features)
        span = ring.device_area + 100 - ring.table
        for _ in range(rng.randrange(1, 6)):
            noise = bytearray(rng.randbytes(span))
            for at in range(0, 16 * ring.size, 16):  # else all addresses are far outside RAM
                if rng.random() < 0.8:
                    noise[at : at + 8] = rng.randrange(RAM_END).to_bytes(8, "big" if seed == 3 else "little")
                    noise[at + 8 : at + 12] = rng.randrange(4096).to_bytes(4, "big" if seed == 3 else "little")
            ring.ram[ring.table : ring.table + span] = noise
            if rng.random() < 0.7:  # an available index that is believed
                ring.pack(ring.driver_area + 2, "H", rng.randrange(8))
            driver.notify(rng.randrange(4))


@pytest.mark.parametrize("text", ["turn,packed=on", "virtio-rng-pci"])
@pytest.mark.parametrize("seed", range(3))
def test_registers_written_at_random_never_raise(plugged, bench, text, seed):
    rng = random.Random(seed)
    driver = plugged(text)
    card = bench.built.devices["pci"].bus.functions[driver.slot, 0]
    for _ in range(10_000):
        bar, size = rng.choice((0, 1, 4, None)), rng.choice((1, 2, 4))
        value = rng.choice((0, 1, 0xF, 0xFFFF_FFFF, rng.getrandbits(32), 1 << rng.randrange(32))) & (1 << 8 * size) - 1
        length = 256 if bar is None else card.bars[bar].size
        offset = rng.choice((rng.randrange(length), rng.randrange(0x40) % length, 0x3000 % length))
        offset -= offset % size
        if rng.random() < 0.3:
            read = card.config_read(offset, size) if bar is None else card.bar_read(bar, offset, size)
            assert 0 <= read < 1 << 8 * size
        elif bar is None:
            card.config_write(offset, size, value)
        else:
            card.bar_write(bar, offset, size, value)
