"""What drivers should not do to an eTSEC."""

import random
import threading

import pytest

from tests.support.etsec_driver import (
    BASE,
    BUFFERS,
    COUNT,
    DMACTRL,
    EBERR,
    ECNTRL,
    EDIS,
    EMPTY,
    FRAMES,
    IEVENT,
    IMASK,
    INTERRUPT,
    LAST,
    MACCFG1,
    MACCFG2,
    MAXFRM,
    MRBLR,
    OFFLOAD,
    RBASE,
    RBPTR,
    RCTRL,
    READY,
    RINGS,
    RMON,
    ROOM,
    RQFAR,
    RQFCR,
    RQFPR,
    RQUEUE,
    RSTAT,
    TBASE,
    TBPTR,
    TQUEUE,
    TSTAT,
    TX_BUFFERS,
    TXB,
    TXE,
    WRAP,
    XFUN,
    with_crc,
)


def test_a_ring_of_one_descriptor_that_never_ends_a_frame(driver):
    driver.start()
    driver.put(RINGS, READY | WRAP | INTERRUPT, 60, TX_BUFFERS)
    assert driver.go() == []
    assert driver.events() & (XFUN | TXE) == XFUN | TXE and driver.reg(TSTAT) >> 31
    assert driver.get(RINGS)[0] & (READY | OFFLOAD) == OFFLOAD


def test_frames_too_short_to_be_sent_are_worked_off_some_at_a_time(driver, monkeypatch):
    driver.start(mac2=0x7203)
    for n in range(300):
        driver.put(RINGS + 8 * n, READY | LAST, 1, TX_BUFFERS)
    batches = []
    give_back = driver.mac._transmitter.give_back
    monkeypatch.setattr(driver.mac._transmitter, "give_back", lambda *args: (batches.append(1), give_back(*args)))
    assert driver.go() == [] and driver.reg(TBPTR) == RINGS + 8 * 300
    assert len(batches) > 3, "else whoever waits for the device's lock would wait long"


def test_a_frame_without_its_end(driver):
    driver.start()
    driver.queue(FRAMES[0], READY | INTERRUPT)
    assert driver.go() == [] and driver.events() & (XFUN | TXE | TXB) == XFUN | TXE
    assert driver.reg(TBPTR) == RINGS + 8
    assert driver.send(FRAMES[1]) == [FRAMES[1]]


@pytest.mark.parametrize("lengths", [[0], [100, 0], [0xFFFF, 0xFFFF]])
def test_lengths_that_no_frame_has(driver, lengths):
    driver.start()
    for n, length in enumerate(lengths):
        driver.put(RINGS + 8 * n, READY | (LAST if n == len(lengths) - 1 else 0), length, TX_BUFFERS)
    assert driver.go() == []
    assert driver.events() == TXE and driver.reg(TSTAT) >> 31 and driver.get(RINGS)[0] & READY


@pytest.mark.parametrize("base", [0x0400_0000, 0x03FF_FFF8, 0xFFFF_FFF8, 0xE004_0000])
def test_rings_and_buffers_that_are_not_in_memory(driver, base, warnings):
    """The last is the controller's own, or the interrupt controller's, with high bits."""
    for high in (0, 0xF):
        driver.mac.reset()
        warnings.clear()
        driver.start()
        driver.reg(0x200, high)
        driver.reg(0x400, high)
        driver.reg(TBASE, base)
        driver.reg(RBASE, base)
        driver.put(RINGS, READY | WRAP, 60, TX_BUFFERS)
        if base == 0x03FF_FFF8:
            driver.put(base, READY | LAST | EMPTY, 60, 0x03FF_FFF0)
        assert driver.go() == [] and driver.reg(TSTAT) >> 31
        assert driver.wire.deliver(FRAMES[0]) == 0 and driver.reg(RSTAT) == 1 << 23
        assert driver.events() & EBERR and len(warnings) == 1 and "IEVENT[EBERR]" in warnings[0]
        assert driver.wire.deliver(FRAMES[0]) == 0 and driver.events() == 0 and len(warnings) == 1
        driver.reg(0x200, 0)
        driver.reg(0x400, 0)
        assert driver.start().send(FRAMES[1]) == [FRAMES[1]]
        assert driver.deliver(FRAMES[1]) == [with_crc(FRAMES[1])]


def test_rings_over_the_controllers_own_registers(driver):
    driver.start()
    driver.reg(0x200, 0xF)
    driver.reg(TBASE, BASE & 0xFFFF_FFFF)
    driver.go()
    assert driver.events() & EBERR


def test_rings_are_moved_while_they_are_used(plugged, warnings):
    driver = plugged().start()
    stop = threading.Event()
    arriving = threading.Thread(target=lambda: [driver.wire.deliver(*FRAMES) for _ in iter(stop.is_set, True)])
    arriving.start()
    rng = random.Random(1)
    for n in range(300):
        at = RINGS + rng.randrange(0, 0x400, 8)
        driver.put(at, READY | LAST | INTERRUPT, 60, TX_BUFFERS)
        receive = RINGS + 0x1000 + 8 * rng.randrange(COUNT)
        for offset, value in ((TBASE, at), (RBASE, receive), (TSTAT, 1 << 31), (RSTAT, 1 << 23)):
            with driver.mac._services.lock:
                driver.reg(offset, value)
        if n % 10 == 0:
            for ring in range(COUNT):
                last = WRAP if ring == COUNT - 1 else 0
                driver.put(RINGS + 0x1000 + 8 * ring, last | EMPTY | INTERRUPT, 0, BUFFERS + 0x1000 * ring)
    stop.set()
    arriving.join()
    driver.mac.close()
    assert not warnings and driver.wire.sent and driver.reg(RMON + 4 * 8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("driver", [False, True], indirect=True)
def test_hostile_drivers_never_raise(driver, seed, warnings):
    rng = random.Random(seed)
    driver.start()
    places = (
        IEVENT, IMASK, EDIS, ECNTRL, DMACTRL, TSTAT, TQUEUE, TBASE, TBPTR, 0x180, 0x200, RCTRL, RSTAT, RQUEUE, RQFAR,
        RQFCR, RQFPR, MRBLR, RBASE, RBPTR, 0x380, 0x400, MACCFG1, MACCFG2, MAXFRM, 0x100,
    )  # fmt: skip
    for _ in range(1500):
        what = rng.randrange(4)
        if what == 0:
            value = rng.choice((0, 1, 5, 0xFFFF_FFFF, rng.getrandbits(32), rng.getrandbits(5), RINGS, ROOM))
            driver.reg(rng.choice(places) if rng.random() < 0.9 else rng.randrange(0, 0x1000, 4), value)
        elif what == 1:
            at = RINGS + rng.choice((0, 0x1000)) + 8 * rng.randrange(COUNT)
            buffer = rng.choice((BUFFERS, rng.getrandbits(26), rng.getrandbits(32), RINGS))
            length = rng.choice((0, 1, 60, 1500, 0xFFFF, rng.getrandbits(16)))
            driver.put(at, rng.choice((READY, READY | LAST, rng.getrandbits(16))), length, buffer)
        elif what == 2:
            driver.reg(rng.choice((TSTAT, RSTAT)), 0xFFFF_FFFF)
        else:
            driver.wire.deliver(*(rng.randbytes(rng.choice((0, 13, 60, 1500, 20000))) for _ in range(3)))
        driver.reg(rng.randrange(0, 0x1000, 4))
        if rng.random() < 0.05:
            driver.start()
    assert len(warnings) <= 1
    driver.mac.reset()
    driver.wire.take()
    driver.start()
    before = bytes(10) if driver.wire.headers else b""
    assert driver.send(FRAMES[3]) == [before + FRAMES[3]]
    assert driver.deliver(before + FRAMES[3]) == [with_crc(FRAMES[3])]
