"""Registers of the 82540EM, by Intel's names ("PCI/PCI-X Family of Gigabit Ethernet Controllers", chapter 13)."""

from __future__ import annotations

from powervisor.devices.registers import Field, Reg


class Control(Reg):
    """CTRL."""

    full_duplex, set_link_up, reset, phy_reset = Field(0), Field(6), Field(26), Field(31)
    link_reset, auto_speed, loss_of_signal, speed, force_speed, force_duplex = (
        Field(3), Field(5), Field(7), Field(9, 8), Field(11), Field(12)
    )  # fmt: skip
    pins, vlan_mode, flow_control = Field(25, 18), Field(30), Field(28, 27)


class EepromControl(Reg):
    """EECD: the pins of the EEPROM."""

    clock, select, data_in, data_out = Field(0), Field(1), Field(2), Field(3, access="ro")
    flash, request, grant, present = Field(5, 4), Field(6), Field(7, access="ro"), Field(8, access="ro", reset=1)


class EepromRead(Reg):
    """EERD."""

    start, done, address, data = Field(0, access="wo"), Field(4, access="ro"), Field(15, 8), Field(31, 16, "ro")


class Mdi(Reg):
    """MDIC: a register of the PHY."""

    data, register, phy, operation = Field(15, 0), Field(20, 16), Field(25, 21), Field(27, 26)
    ready, interrupt, error = Field(28, access="ro"), Field(29), Field(30, access="ro")


class Cause(Reg):
    """Bits of ICR, ICS, IMS and IMC."""

    transmitted, queue_empty, link, sequence, low, overrun, received, mdi = (
        Field(0), Field(1), Field(2), Field(3), Field(4), Field(6), Field(7), Field(9)
    )  # fmt: skip
    others = Field(16, 10)


class ReceiveControl(Reg):
    """RCTL."""

    enable, store_bad, unicast, multicast, long_packets, loopback = (
        Field(1), Field(2), Field(3), Field(4), Field(5), Field(7, 6)
    )  # fmt: skip
    threshold, offset, broadcast, size, vlan_filter = Field(9, 8), Field(13, 12), Field(15), Field(17, 16), Field(18)
    canonical, discard_pause, pass_mac, size_extension, strip_crc = (
        Field(20, 19), Field(22), Field(23), Field(25), Field(26)
    )  # fmt: skip


class TransmitControl(Reg):
    """TCTL."""

    enable, pad, others = Field(1), Field(3), Field(25, 4)


class Base(Reg):
    """The low half of a ring's address."""

    address = Field(31, 4)


class Length(Reg):
    """RDLEN, TDLEN: bytes of a ring, in units of 128."""

    count = Field(19, 7)


class Index(Reg):
    """RDH, RDT, TDH, TDT."""

    index = Field(15, 0)


class AddressHigh(Reg):
    """RAH."""

    bytes, select, valid = Field(15, 0), Field(17, 16), Field(31)


CAUSES = 0x1_FFFF
TXDW, TXQE, LSC, RXDMT0, RXO, RXT0, MDAC = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 9
"""Causes of interrupts."""

STATISTICS = 0x4000
GPRC, BPRC, MPRC, GPTC, GORC, GOTC, TOR, TOT, TPR, TPT, MPTC, BPTC, MPC = (
    (offset - STATISTICS) // 4
    for offset in (
        0x4074, 0x4078, 0x407C, 0x4080, 0x4088, 0x4090, 0x40C0, 0x40C8, 0x40D0, 0x40D4, 0x40F0, 0x40F4, 0x4010
    )
)  # fmt: skip
"""Places in the statistics: packets that were received (good, broadcast, multicast) and transmitted; octets."""
