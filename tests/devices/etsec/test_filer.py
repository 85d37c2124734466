"""The eTSEC's receive queue filer."""

import struct

from powervisor.devices.etsec.filer import properties
from powervisor.devices.etsec.frames import parse
from tests.support.etsec_driver import BROADCAST, CHECKSUMS, FILER, FRAMES, PACKETS, RQFAR, RQFCR, RQFPR, RQUEUE, summed

PARSE, AND, CLUSTER, REJECT, AT_LEAST, NEVER = 1, 0x80, 0x200, 0x100, 0x20, 0x60


def rules(driver, *table):
    """The table's beginning; the rest never holds."""
    for n in range(256):
        control, value = table[n] if n < len(table) else (NEVER, 0)
        driver.reg(RQFAR, n)
        driver.reg(RQFCR, control)
        driver.reg(RQFPR, value)


def verdict(driver, frame):
    found = driver.deliver(frame)
    return found[0][2] if found else None


def test_the_filers_rules(driver):
    driver.start(rctl=CHECKSUMS | FILER)
    driver.reg(RQUEUE, 0x00FF_00FF)
    tcp, udp = summed(PACKETS["tcp"]), summed(PACKETS["udp"])
    rules(driver)
    assert verdict(driver, tcp) is None and driver.events() == 0xC, "no rule: FIR, FIQ"
    rules(driver, (AT_LEAST, 0))
    assert verdict(driver, tcp) == 0
    rules(driver, (REJECT | 0xF, 7), (8 << 10 | AT_LEAST, 0))
    assert [verdict(driver, frame) for frame in (tcp, udp)] == [8, None], "source port; 8 is ring 0"
    assert driver.reg(0x740) == 2
    rules(driver, (AND | AT_LEAST, 0x20), (REJECT | PARSE, 0x20), (AT_LEAST, 0))
    assert [verdict(driver, frame) for frame in (tcp, udp)] == [None, 0], "a mask, and what the parser found"
    guard = (AND, 0x10), (AND | CLUSTER | PARSE, 0x10)
    rules(driver, *guard, (AND, 0xFFFF_FFFF), (REJECT | 0xE, 8), (CLUSTER | NEVER, 0), (16 << 10 | AT_LEAST, 0))
    assert [verdict(driver, frame) for frame in (tcp, udp)] == [16, None], "a cluster for UDP"


def test_properties_of_frames(driver):
    tcp, tcp6 = PACKETS["tcp"], PACKETS["tcp6"]
    tagged = tcp[:12] + b"\x81\x00\xb0\x07" + tcp[12:]
    found = {n: properties(tagged, parse(tagged, 3))(n) for n in range(1, 16)}
    assert found == {
        1: 0x6220, 2: 0, 3: 0x525400, 4: 0x123456, 5: 0x525400, 6: 0xABCDEF, 7: 0x0800, 8: 7, 9: 5, 10: 0, 11: 6,
        12: 0x0A00_0001, 13: 0x0A00_0002, 14: 2, 15: 1,
    }  # fmt: skip
    six = properties(tcp6, parse(tcp6, 3))
    assert (six(1), six(11), six(13), six(12)) == (0x120, 6, *struct.unpack(">I12xI", tcp6[22:42]))
    arp = BROADCAST + FRAMES[0][6:]
    assert [properties(arp, parse(arp, 3))(n) for n in (1, 7, 10, 12, 14)] == [0x8000, 0x0806, 0, 0, 0]


def test_gianfars_own_table_makes_no_difference(driver):
    """Which is seen without looking at frames."""
    classes = [(0x200, 0x100), (0x210, 0x110), (0x220, 0x120)]
    table = [(NEVER, 0xFFFF_FFFF)] * (255 - 4 * len(classes))
    for first, _ in classes:
        table += [(AND, first), (AND | CLUSTER | PARSE, first), (NEVER, 0xFFFF_FFFF), (CLUSTER, 0xFFFF_FFFF)]
    driver.start(rctl=CHECKSUMS | FILER)
    rules(driver, *table, (AT_LEAST, 0xFFFF_FFFF))
    assert verdict(driver, summed(PACKETS["tcp"])) == 0
    assert driver.mac._receiver.filer.always is not None
    rules(driver, (REJECT | 0xF, 1), *table[1:], (AT_LEAST, 0xFFFF_FFFF))
    assert verdict(driver, summed(PACKETS["tcp"])) is None and driver.mac._receiver.filer.always is None
