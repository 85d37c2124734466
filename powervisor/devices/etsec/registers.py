"""Registers of the eTSEC, by the names of Freescale's manuals (MPC8308, P2020: "Enhanced Three-Speed Ethernet")."""

from __future__ import annotations

from typing import NamedTuple

from powervisor.devices.registers import Field, Reg

QUEUES = 8
BABR, RXC, BSY, EBERR, MSRO, GTSC, BABT, TXC, TXE, TXB, TXF, LC, CRL, XFUN, RXB, MAG, GRSC, RXF = (
    1 << bit for bit in (31, 30, 29, 28, 26, 25, 24, 23, 22, 21, 20, 18, 17, 16, 15, 11, 8, 7)
)
FGPI, FIR, FIQ, DPE, PERR = (1 << bit for bit in (4, 3, 2, 1, 0))
"""Bits of IEVENT and IMASK."""
TRANSMIT_EVENTS, RECEIVE_EVENTS = TXB | TXF, RXB | RXF


class Event(Reg):
    """IEVENT: what happened; written ones clear."""

    mac, counters, blocks = Field(31, 28, "w1c"), Field(26, 20, "w1c"), Field(18, 15, "w1c")
    magic, stopped, received, filer = (
        Field(11, access="w1c"), Field(8, access="w1c"), Field(7, access="w1c"), Field(4, 0, "w1c")
    )  # fmt: skip


class ErrorDisable(Reg):
    """EDIS: errors that are not reported."""

    bus, transmit, link, filer = Field(29, 28), Field(24, 22), Field(18, 16), Field(3, 0)


class Control(Reg):
    """ECNTRL; how the PHY is wired (here: GMII) cannot be changed."""

    fifo, clear_counters, auto_zero, statistics = Field(15), Field(14), Field(13), Field(12)
    gmii, wiring, r100 = Field(6, access="ro", reset=1), Field(5, 4, "ro"), Field(3)
    reduced, sgmii = Field(2, access="ro"), Field(1, access="ro")


class DmaControl(Reg):
    """DMACTRL."""

    little_endian, snoop, stop_receive, stop_transmit, others = Field(15), Field(7, 6), Field(4), Field(3), Field(2, 0)


class TransmitControl(Reg):
    """TCTRL."""

    ip_checksum, transport_checksum, insert_vlan, others = Field(14), Field(13), Field(12), Field(11)
    pause_received, pause, schedule = Field(4, access="ro"), Field(3), Field(2, 1)


class TransmitStatus(Reg):
    """TSTAT: halted rings, and rings that sent a frame; ring 0 leftmost."""

    halted, sent = Field(31, 24, "w1c"), Field(15, 8, "w1c")


class ReceiveControl(Reg):
    """RCTRL."""

    layer2, timestamp, padding, control_frames, flow_control = (
        Field(31, 25), Field(24), Field(20, 16), Field(15), Field(14)
    )  # fmt: skip
    extract_vlan, filer, single_queue, extended_hash = Field(13), Field(12), Field(11), Field(10)
    ip_checksum, transport_checksum, parse_depth, parse_fifo = Field(9), Field(8), Field(7, 6), Field(5)
    reject_broadcast, promiscuous, short_frames, exact_match = Field(4), Field(3), Field(2), Field(1)


class ReceiveStatus(Reg):
    """RSTAT: halted rings, and rings that got a frame; ring 0 leftmost."""

    halted, received = Field(23, 16, "w1c"), Field(7, 0, "w1c")


class TransmitQueues(Reg):
    """TQUEUE."""

    enabled = Field(15, 8)


class ReceiveQueues(Reg):
    """RQUEUE."""

    extract, enabled = Field(23, 16), Field(7, 0)


class BufferLength(Reg):
    """MRBLR: a multiple of 64."""

    length = Field(15, 6)


class HighBits(Reg):
    """Bits 35..32 of addresses."""

    bits = Field(3, 0)


class Pointer(Reg):
    """Where a buffer descriptor is."""

    address = Field(31, 3)


class Mac1(Reg):
    """MACCFG1."""

    soft_reset, parts, loopback, flow = Field(31), Field(19, 16), Field(8), Field(5, 4)
    receiving, receive, transmitting, transmit = Field(3, access="ro"), Field(2), Field(1, access="ro"), Field(0)


class Mac2(Reg):
    """MACCFG2."""

    preamble, preambles, interface, huge, length_check = Field(15, 12), Field(7, 6), Field(9, 8), Field(5), Field(4)
    magic, pad, crc, full_duplex = Field(3), Field(2), Field(1), Field(0)


class FrameLength(Reg):
    """MAXFRM, MINFLR."""

    length = Field(15, 0)


class AddressHigh(Reg):
    """The second part of a MAC address: its first two bytes, swapped."""

    bytes = Field(31, 16)


class Carry1(Reg):
    """CAR1: counters that ran over."""

    both, receive = Field(31, 25, "w1c"), Field(17, 0, "w1c")


class Carry2(Reg):
    """CAR2."""

    transmit, dropped = Field(19, 2, "w1c"), Field(0, access="w1c")


class Mask1(Reg):
    """CAM1: carries that are not reported."""

    both, receive = Field(31, 25), Field(17, 0)


class Mask2(Reg):
    """CAM2."""

    transmit, dropped = Field(19, 2), Field(0)


class FilerIndex(Reg):
    """RQFAR."""

    index = Field(7, 0)


class MiiCommand(Reg):
    """MIIMCOM."""

    scan, read = Field(1), Field(0)


class MiiAddress(Reg):
    """MIIMADD."""

    phy, register = Field(12, 8), Field(4, 0)


class MiiControl(Reg):
    """MIIMCON: what is written to the PHY."""

    data = Field(15, 0, "wo")


class MiiStatus(Reg):
    """MIIMSTAT: what was read from it."""

    data = Field(15, 0, "ro")


class PhyAddress(Reg):
    """TBIPA."""

    address = Field(4, 0)


class Counter(NamedTuple):
    """One of the statistics: its place from TR64, its width, and its bit in CAR1 (`carry` < 32) or CAR2 (from 32)."""

    place: int
    bits: int
    carry: int


COUNTERS = 44
TR64, TR127, TR255, TR511, TR1K, TRMAX, TRMGV = (Counter(n, 22, 31 - n) for n in range(7))
RBYT, RPKT, RMCA, RBCA = Counter(7, 32, 16), Counter(8, 22, 15), Counter(10, 22, 13), Counter(11, 22, 12)
RXCF, RXPF, ROVR, RDRP = Counter(12, 16, 11), Counter(13, 16, 10), Counter(20, 16, 3), Counter(23, 16, 0)
TBYT, TPKT, TMCA, TBCA = Counter(24, 32, 45), Counter(25, 22, 44), Counter(26, 22, 43), Counter(27, 22, 42)
TFCS, TOVR = Counter(39, 12, 50), Counter(41, 12, 48)
SIZES = ((64, TR64), (127, TR127), (255, TR255), (511, TR511), (1023, TR1K), (1518, TRMAX), (1522, TRMGV))
"""Which counter takes frames of at most so many bytes, check sequence included."""


class Tally:
    """What is to be added to the statistics."""

    def __init__(self) -> None:
        self.counts: dict[Counter, int] = {}

    def count(self, counter: Counter, by: int = 1) -> None:
        """Add to one of them."""
        self.counts[counter] = self.counts.get(counter, 0) + by

    def frame(self, length: int, frames: Counter, octets: Counter) -> None:
        """A frame passed, of so many bytes with its check sequence."""
        self.count(frames)
        self.count(octets, length)
        for size, counter in SIZES:
            if length <= size:
                self.count(counter)
                break
