"""Checksums and VLAN tags in the eTSEC's frame control blocks."""

import struct

import pytest

from tests.support.etsec_driver import (
    CHECKSUMS,
    DATA,
    DFVLAN,
    FRAMES,
    LAST,
    OFFLOAD,
    PACKETS,
    RCTRL,
    READY,
    TCP_HEADER,
    UDP_HEADER,
    VLAN,
    ipv4,
    pseudo,
    summed,
    with_crc,
)

TCTRL_SUMS = 0x6000


@pytest.mark.parametrize("name", PACKETS)
@pytest.mark.parametrize("with_pseudo", [False, True])
def test_checksums_that_are_left_to_the_controller(driver, name, with_pseudo):
    frame, right = PACKETS[name], summed(PACKETS[name])
    v6, udp = name.endswith("6"), name.startswith("udp")
    driver.start(tctrl=TCTRL_SUMS)
    flags = 0x52 | (0x20 if v6 else 0) | (8 if udp else 0) | (1 if with_pseudo else 0)
    fcb = struct.pack(">BBBBHH", flags, 0, 40 if v6 else 20, 14, pseudo(frame) if with_pseudo else 0xDEAD, 0)
    driver.queue(fcb + frame[:60], READY | OFFLOAD)
    driver.queue(frame[60:], READY | LAST)
    assert driver.go() == [right]
    driver.start(tctrl=0)
    assert driver.send(fcb + frame, OFFLOAD) == [frame], "not without TCTRL"


def test_the_checksum_of_an_ip_header(driver):
    driver.start(tctrl=TCTRL_SUMS)
    frame = PACKETS["tcp"]
    broken = frame[:24] + b"\xab\xcd" + frame[26:]
    assert driver.send(struct.pack(">BBBBHH", 0x44, 0, 20, 14, 0, 0) + broken, OFFLOAD) == [frame]


def test_vlan_tags_are_put_in_and_taken_out(driver):
    driver.start(tctrl=0x1000, rctl=CHECKSUMS | VLAN)
    tagged = FRAMES[0][:12] + b"\x81\x00\x20\x07" + FRAMES[0][12:]
    fcb = struct.pack(">BBBBHH", 0x80, 0, 0, 0, 0, 0x2007)
    assert driver.send(fcb + FRAMES[0], OFFLOAD) == [tagged]
    driver.reg(DFVLAN, 0x88A8_0000)
    assert driver.send(fcb + FRAMES[0], OFFLOAD) == [FRAMES[0][:12] + b"\x88\xa8\x20\x07" + FRAMES[0][12:]]
    (data,) = driver.deliver(tagged)
    assert data[:8] == struct.pack(">HBBHH", 0x8000, 0, 0, 0, 0x2007) and data[8:-4] == FRAMES[0]
    driver.reg(RCTRL, CHECKSUMS)
    assert driver.deliver(tagged) == [bytes(8) + with_crc(tagged)]


@pytest.mark.parametrize(
    ("name", "flags"), [("tcp", 0x5C00), ("udp", 0x5C00), ("tcp6", 0x7400), ("udp6", 0x7400)]
)  # fmt: skip
def test_checksums_are_looked_at_on_reception(driver, name, flags):
    driver.start(rctl=CHECKSUMS)
    frame = summed(PACKETS[name])
    protocol = 6 if "tcp" in name else 17
    tagged = frame[:12] + b"\x81\x00\x00\x05" + frame[12:]
    broken = frame[:-1] + bytes((frame[-1] ^ 1,))
    for sent, told in ((frame, flags), (tagged, flags), (broken, flags | 0x100), (frame + b"trail", flags)):
        (data,) = driver.deliver(sent)
        assert struct.unpack(">HBB", data[:4]) == (told, 0, protocol), f"{sent == frame}"
        assert data[8:] == with_crc(sent)


def test_what_is_no_whole_packet(driver):
    driver.start(rctl=CHECKSUMS)

    def flags(frame):
        (data,) = driver.deliver(frame)
        return struct.unpack(">HBB", data[:4])

    good = summed(PACKETS["tcp"])
    assert flags(good[:24] + b"\0\0" + good[26:])[0] & 0x0A00 == 0x0A00, "IP header checksum"
    assert flags(ipv4(TCP_HEADER, 6, fragment=0x2000)) == (0x4800, 0, 0xFF)
    assert flags(ipv4(b"x" * 30, 1)) == (0x4800, 0, 1)
    assert flags(ipv4(TCP_HEADER[:10], 6)) == (0x4800, 0, 6)
    no_sum = ipv4(UDP_HEADER[:6] + b"\0\0" + DATA, 17)
    assert flags(no_sum)[0] == 0x5800, "UDP without a checksum"
    for bad in (good[:14] + b"\x55" + good[15:], good[:14] + b"\x41" + good[15:], good[:16] + b"\xff\xff" + good[18:]):
        assert flags(bad)[0] == 8
    assert flags(good[:30])[0] & 0x4000 == 0
    driver.reg(RCTRL, 0x340)
    assert flags(good)[0] == 0, "layer 2 only"
    driver.reg(RCTRL, 0x380)
    assert flags(good)[0] == 0x4800
    driver.reg(RCTRL, 0xC0)
    assert flags(good)[0] == 0x5000, "no checksums"


def test_padding_before_a_frame(driver):
    driver.start(rctl=CHECKSUMS | 10 << 16)
    assert driver.deliver(FRAMES[0]) == [bytes(18) + with_crc(FRAMES[0])]
    driver.reg(RCTRL, 2 << 16)
    assert driver.deliver(FRAMES[0]) == [bytes(2) + with_crc(FRAMES[0])]
