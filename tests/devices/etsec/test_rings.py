"""Rings, lengths, interrupts, stops and resets of the eTSEC."""

import struct

import pytest

from tests.support.etsec_driver import (
    BABR,
    BABT,
    BSY,
    BUFFERS,
    CHECKSUMS,
    COUNT,
    DMACTRL,
    EBERR,
    EDIS,
    EMPTY,
    ERROR,
    FILER,
    FRAMES,
    GRSC,
    GTSC,
    IEVENT,
    IMASK,
    INTERRUPT,
    LAST,
    MAC,
    MACCFG1,
    MACCFG2,
    MAXFRM,
    MRBLR,
    OTHER,
    PAD,
    RBPTR,
    READY,
    RINGS,
    RMON,
    RQFAR,
    RQFCR,
    RQUEUE,
    RSTAT,
    RX,
    RXB,
    RXF,
    TBPTR,
    TQUEUE,
    TSTAT,
    TX,
    TX_BUFFERS,
    TXB,
    TXF,
    XFUN,
    with_crc,
)


@pytest.mark.parametrize("driver", [False, True], indirect=True)
def test_frames_go_both_ways_and_around_the_rings(driver):
    before = bytes(10) if driver.wire.headers else b""
    driver.start()
    for frame in FRAMES * 3:
        assert driver.send(frame) == [before + frame]
        assert driver.pins == {TX} and driver.events() & TXF and driver.pins == set()
        assert driver.deliver(before + frame) == [with_crc(frame)]
        assert driver.pins == {RX} and driver.events() == RXF and driver.pins == set()
    assert driver.reg(TBPTR) == RINGS + 8 * (36 % COUNT) and driver.reg(RBPTR) == RINGS + 0x1000 + 8 * (36 % COUNT)


def test_a_frame_may_lie_in_several_buffers(driver):
    driver.start()
    pieces = FRAMES[8][:14], FRAMES[8][14:500], FRAMES[8][500:]
    driver.queue(pieces[0], READY | INTERRUPT)
    driver.queue(pieces[1], READY)
    last = driver.queue(pieces[2], READY | LAST)
    assert driver.go() == [FRAMES[8]]
    assert driver.events() & (TXB | TXF | XFUN) == TXB and driver.get(last)[0] == LAST
    assert driver.get(RINGS)[0] == INTERRUPT


def test_many_frames_are_sent_at_one_ring_of_the_bell(driver):
    driver.start()
    for frame in FRAMES:
        driver.queue(frame, READY | LAST | INTERRUPT)
    assert driver.go() == FRAMES and driver.wire.batches == [len(FRAMES)]
    assert driver.reg(TSTAT) == 1 << 31 | 1 << 15, "halted for want of frames; ring 0 has sent some"
    driver.reg(TSTAT, 1 << 15)
    assert driver.reg(TSTAT) == 1 << 31


def test_a_frame_may_need_several_buffers(driver):
    driver.start()
    driver.reg(MRBLR, 256)
    driver.wire.deliver(FRAMES[11])
    at = RINGS + 0x1000
    parts = -(-(len(FRAMES[11]) + 4) // 256)
    lengths = [driver.get(at + 8 * n)[1] for n in range(parts)]
    assert lengths == [256] * (parts - 1) + [len(FRAMES[11]) + 4], "the last one tells the whole length"
    assert driver.events() == RXB | RXF
    assert driver.received() == [(with_crc(FRAMES[11]), 0)]
    assert driver.deliver(MAC + OTHER + bytes(9000)) == [], "more than the ring takes"
    assert driver.deliver(FRAMES[11]) == [with_crc(FRAMES[11])]


def test_without_buffers_frames_wait_and_the_ring_halts(driver):
    driver.start()
    many = FRAMES * 2
    assert driver.wire.deliver(*many) == COUNT
    assert driver.reg(RSTAT) == 1 << 23 | 1 << 7 and driver.pins == {RX, ERROR}
    assert driver.events() == RXF | BSY
    assert driver.wire.deliver(many[COUNT]) == 0 and driver.events() == 0
    assert [data for data, _ in driver.received()] == [with_crc(frame) for frame in many[:COUNT]]
    resumed = driver.wire.resumed
    driver.reg(RSTAT, 1 << 23)
    assert driver.reg(RSTAT) == 1 << 7 and driver.wire.resumed > resumed
    assert driver.deliver(*many[COUNT:]) == [with_crc(frame) for frame in many[COUNT:]]


def test_buffers_that_come_while_the_receiver_looks_are_found(driver, monkeypatch):
    driver.start(count=4)
    assert driver.wire.deliver(*FRAMES[:4]) == 4
    take = driver.mac._receiver.take
    meanwhile = []

    def slow(*args):
        taken = take(*args)
        if not meanwhile:
            meanwhile.append(driver.received())
            driver.mac._refilled[0] = True  # as RSTAT's hook does, on a vCPU's thread
        return taken

    monkeypatch.setattr(driver.mac._receiver, "take", slow)
    assert driver.deliver(FRAMES[4]) == [with_crc(FRAMES[4])]
    assert not driver.events() & BSY and not driver.reg(RSTAT) & 1 << 23


def test_drivers_that_poll_need_not_wait_for_the_worker(plugged):
    driver = plugged().start()
    driver.reg(IMASK, 0)
    for frame in FRAMES * 3:
        assert driver.send(frame) == [frame]


def test_a_busy_netdev_is_waited_for(driver):
    driver.start()
    driver.wire.full = True
    at = driver.queue(FRAMES[0], READY | LAST | INTERRUPT)
    assert driver.go() == [] and driver.get(at)[0] & READY
    driver.wire.full = False
    driver.mac.sendable()
    assert driver.wire.take() == [FRAMES[0]] and not driver.get(at)[0] & READY


@pytest.mark.parametrize("ring", [1, 7])
def test_other_rings(driver, ring):
    driver.start(rctl=FILER | CHECKSUMS, ring=ring)
    driver.reg(RQFAR, 0)
    driver.reg(RQFCR, ring << 10 | 1 << 5)
    assert driver.send(FRAMES[0]) == [FRAMES[0]] and driver.reg(TSTAT) & 0xFF00 == 0x8000 >> ring
    assert driver.deliver(FRAMES[0]) == [struct.pack(">HBBHH", 0, ring, 0, 0, 0) + with_crc(FRAMES[0])]
    assert driver.reg(RSTAT) == 0x80 >> ring
    driver.reg(TQUEUE, 0)
    driver.queue(FRAMES[1], READY | LAST)
    assert driver.go() == []
    driver.reg(RQUEUE, 0)
    assert driver.deliver(FRAMES[0]) == [] and driver.events() & 4, "IEVENT[FIQ]"


def test_little_endian_descriptors_above_4_gib_are_addressed_and_refused(driver, warnings):
    driver.start()
    driver.reg(DMACTRL, 0x80C3)
    driver.ram[TX_BUFFERS : TX_BUFFERS + len(FRAMES[0])] = FRAMES[0]
    driver.ram[RINGS : RINGS + 8] = struct.pack("<HHI", READY | LAST, len(FRAMES[0]), TX_BUFFERS)
    assert driver.go() == [FRAMES[0]]
    assert driver.ram[RINGS : RINGS + 4] == struct.pack("<HH", LAST, len(FRAMES[0]))
    driver.reg(0x200, 1)
    driver.go()
    assert driver.events() & EBERR
    assert len(warnings) == 1 and "transmit ring 0: no device or RAM at 0x100100008" in warnings[0]


def test_loopback(driver):
    driver.start()
    driver.reg(MACCFG1, 0x105)
    assert driver.send(FRAMES[0]) == []
    assert [data for data, _ in driver.received()] == [with_crc(FRAMES[0])]
    assert driver.deliver(FRAMES[1]) == []


def test_short_frames_are_padded_where_the_driver_asks(driver):
    short = FRAMES[0][:20]
    driver.start(mac2=0x7205)
    assert driver.send(short) == [short.ljust(60, b"\0")]
    driver.start(mac2=0x7201)
    assert driver.send(short, PAD) == [short.ljust(60, b"\0")]
    assert driver.send(short, 0x400) == [short], "a check sequence, no padding"


def test_a_driver_may_make_check_sequences_itself(driver):
    driver.start(mac2=0x7201)
    assert driver.send(with_crc(FRAMES[3])) == [FRAMES[3]]
    assert driver.send(FRAMES[3] + b"none") == [], "the other side would not take it"
    assert driver.reg(RMON + 4 * 39) == 1


def test_frames_that_are_too_long(driver):
    driver.start()
    driver.reg(MAXFRM, 512)
    assert driver.send(FRAMES[11]) == [FRAMES[11][:508]]
    assert driver.events() & BABT and driver.get(RINGS)[0] & 1
    assert driver.wire.deliver(FRAMES[11]) == 1
    assert driver.received() == [(FRAMES[11][:512], 0x421)] and driver.events() == BABR | RXF
    driver.reg(MACCFG2, 0x7225)
    assert driver.send(FRAMES[11]) == [FRAMES[11]] and driver.wire.deliver(FRAMES[11]) == 1
    assert driver.received() == [(with_crc(FRAMES[11]), 0x420)]


def test_a_graceful_stop(driver):
    driver.start()
    driver.reg(DMACTRL, 0xC3 | 0x18)
    assert driver.pins == {ERROR} and driver.events() == GRSC | GTSC
    driver.queue(FRAMES[0], READY | LAST)
    assert driver.go() == [] and driver.deliver(FRAMES[0]) == []
    driver.reg(DMACTRL, 0xC3)
    assert driver.wire.take() == [FRAMES[0]]
    assert driver.deliver(FRAMES[0]) == [with_crc(FRAMES[0])]


@pytest.mark.parametrize("value", [0, 4, 1 << 31 | 5])
def test_switched_off_nothing_is_sent(driver, value):
    driver.start()
    driver.reg(MACCFG1, value)
    driver.queue(FRAMES[0], READY | LAST)
    assert driver.go() == []
    driver.reg(MACCFG1, 5)
    assert driver.wire.take() == [FRAMES[0]] and driver.reg(MACCFG1) == 0xF


def test_a_reset_of_the_board_forgets_everything(driver):
    driver.start()
    driver.reg(RQFCR, 5)
    driver.mac.reset()
    assert driver.reg(MACCFG1) == 0 and driver.reg(RQFCR) == 0 and driver.reg(IMASK) == 0
    assert driver.deliver(*FRAMES) == []
    assert driver.start().deliver(FRAMES[0]) == [with_crc(FRAMES[0])]


def test_interrupts_can_be_masked_and_set_nothing_while_errors_are_disabled(driver):
    driver.start()
    driver.reg(IMASK, 0)
    driver.send(FRAMES[0])
    assert driver.pins == set() and driver.reg(IEVENT) & TXF
    driver.reg(IMASK, TXF)
    assert driver.pins == {TX}
    driver.reg(IEVENT, TXF)
    assert driver.pins == set()
    driver.reg(EDIS, BSY)
    driver.wire.deliver(*FRAMES * 2)
    assert driver.events() == RXF


def test_frames_without_the_interrupt_bit_interrupt_nobody(driver):
    driver.start()
    driver.queue(FRAMES[0], READY | LAST)
    assert driver.go() == [FRAMES[0]]
    driver.put(RINGS + 0x1000, EMPTY, 0, BUFFERS)
    driver.wire.deliver(FRAMES[0])
    assert driver.pins == set() and driver.events() == 0
