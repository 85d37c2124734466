"""Which frames the eTSEC receives, what it counts, and its management bus."""

import pytest

from tests.support.etsec_driver import (
    BROADCAST,
    CAM1,
    CAR1,
    ECNTRL,
    EXACT,
    EXTENDED,
    FRAMES,
    GADDR,
    GROUP,
    IGADDR,
    MAC,
    MACADDR,
    MIIMADD,
    MIIMCOM,
    MIIMCON,
    MIIMSTAT,
    MSRO,
    OTHER,
    PROMISCUOUS,
    RMON,
    RXF,
    TBIPA,
    address_words,
)


def seen(driver, *addresses):
    return [data[:6] for data in driver.deliver(*(address + OTHER + b"\x08\x06" + bytes(46) for address in addresses))]


EVERYBODY = (MAC, OTHER, GROUP, BROADCAST)


@pytest.mark.parametrize(
    ("rctl", "let_in"),
    [(0, [MAC, BROADCAST]), (0x10, [MAC]), (PROMISCUOUS, list(EVERYBODY)), (EXACT, [MAC, OTHER, GROUP, BROADCAST])],
)
def test_addresses(driver, rctl, let_in):
    driver.start(rctl=rctl)
    for place, address in ((1, OTHER), (15, GROUP)):
        for offset, value in zip((0, 4), address_words(address), strict=True):
            driver.reg(MACADDR + 8 * place + offset, value)
    assert seen(driver, *EVERYBODY) == let_in


def ether_crc(data):
    """The CRC of Ethernet, bit by bit from its definition."""
    crc = 0xFFFF_FFFF
    for byte in data:
        for bit in range(8):
            feedback = crc >> 31 ^ byte >> bit & 1
            crc = (crc << 1 ^ (0x04C1_1DB7 if feedback else 0)) & 0xFFFF_FFFF
    return crc


@pytest.mark.parametrize("address", [GROUP, OTHER, bytes.fromhex("333300000001"), bytes.fromhex("0180c2000000")])
def test_hash_tables(driver, address):
    group = address[0] & 1
    driver.start()
    place = ether_crc(address) >> 24
    driver.reg((GADDR if group else IGADDR) + 4 * (place >> 5), 1 << 31 - place % 32)
    assert seen(driver, address) == [address]
    driver.mac.reset()
    driver.start(rctl=EXTENDED)
    assert seen(driver, address) == []
    place = ether_crc(address) >> 23
    driver.reg((IGADDR if place < 256 else GADDR) + 4 * (place >> 5 & 7), 1 << 31 - place % 32)
    assert seen(driver, address) == ([address] if group else [])


def test_what_came_only_because_of_promiscuous_mode_is_marked(driver):
    driver.start(rctl=PROMISCUOUS)
    for address, status in ((MAC, 0), (OTHER, 0x100), (GROUP, 0x140), (BROADCAST, 0x80)):
        driver.wire.deliver(address + OTHER + b"\x08\x06" + bytes(46))
        assert driver.received()[0][1] == 0x400 | status


def test_statistics(driver):
    driver.start()
    driver.send(FRAMES[0])
    driver.send(BROADCAST + FRAMES[1][6:])
    driver.deliver(FRAMES[0], BROADCAST + FRAMES[2][6:])
    counters = [driver.reg(RMON + 4 * n) for n in range(44)]
    named = {"TR64": 0, "TR255": 2, "RBYT": 7, "RPKT": 8, "RBCA": 11, "TBYT": 24, "TPKT": 25, "TBCA": 27}
    sizes = [len(frame) + 4 for frame in FRAMES]
    assert {name: counters[place] for name, place in named.items()} == {
        "TR64": 2, "TR255": 1, "RBYT": sizes[0] + sizes[2], "RPKT": 2, "RBCA": 1, "TBYT": sizes[0] + sizes[1],
        "TPKT": 2, "TBCA": 1,
    }  # fmt: skip
    driver.reg(ECNTRL, 0x3000)
    assert driver.reg(RMON + 4 * 8) == 2 and driver.reg(RMON + 4 * 8) == 0, "read to zero"
    driver.reg(ECNTRL, 0x5000)
    assert driver.reg(ECNTRL) & 0x4000 == 0 and not any(driver.reg(RMON + 4 * n) for n in range(44))
    driver.reg(ECNTRL, 0)
    driver.send(FRAMES[0])
    assert driver.reg(RMON + 4 * 25) == 0, "off"


def test_a_counter_that_runs_over_is_told(driver):
    driver.start()
    driver.reg(RMON + 4 * 8, (1 << 22) - 1)
    driver.reg(CAM1, 0xFE03_FFFF & ~(1 << 15))
    driver.deliver(FRAMES[0])
    assert driver.reg(RMON + 4 * 8) == 0 and driver.reg(CAR1) == 1 << 15 and driver.events() == RXF | MSRO
    driver.reg(CAR1, 1 << 15)
    assert driver.reg(CAR1) == 0


def test_the_phy_inside(driver):
    def phy(address, register, value=None):
        driver.reg(MIIMADD, address << 8 | register)
        if value is not None:
            driver.reg(MIIMCON, value)
        driver.reg(MIIMCOM, 0)
        driver.reg(MIIMCOM, 1)
        return driver.reg(MIIMSTAT)

    driver.reg(TBIPA, 0x1F)
    assert phy(0x1F, 1) & 0x24 == 0x24 and phy(0, 1) == 0xFFFF
    assert phy(0x1F, 4, 0x4001) == 0x4001 and phy(0x1F, 1, 0) & 0x24 == 0x24
    assert phy(0x1F, 0, 0x8000) == 0x1140 and phy(0x1F, 4) == 0x01A0
    driver.wire.pull(False)
    assert not phy(0x1F, 1) & 4
    driver.reg(TBIPA, 8)
    assert phy(0x1F, 1) == 0xFFFF
