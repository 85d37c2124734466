"""What the controller reads in frames and writes into them: headers, checksums, VLAN tags, frame control blocks."""

from __future__ import annotations

import struct
from typing import NamedTuple

from powervisor.devices.ethernet import ETHERNET_HEADER, checksum_total

FCB = 8
"""Bytes of a frame control block."""
TAG_AT = 12
_VLAN, _IPV4, _IPV6 = 0x8100, 0x0800, 0x86DD
TCP, UDP = 6, 17
FRAGMENT = 0xFF
"""Stands for the protocol of what is only a piece of a packet."""
_V6_HEADER = 40
_V6_FRAGMENT = 44
_CHECKSUM_AT = {TCP: 16, UDP: 6}

# Frame control block of transmission
_TX_VLAN, _TX_IP, _TX_IP6, _TX_TUP, _TX_UDP, _TX_CIP, _TX_CTU, _TX_NPH = (1 << bit for bit in range(7, -1, -1))
# Frame control block of reception
_RX_VLAN, _RX_IP, _RX_IP6, _RX_TUP, _RX_CIP, _RX_CTU, _RX_EIP, _RX_ETU = (1 << bit for bit in range(15, 7, -1))
_RX_BAD_LAYER3 = 0x0008


class Parsed(NamedTuple):
    """What the parser found in a frame that was received."""

    kind: int
    """The innermost Ethernet type."""
    vlan: int | None
    """The control word of the VLAN tag."""
    network: int
    """Where the IP header is; its version is 0 when there is none."""
    version: int
    transport: int
    """Where the next header is."""
    protocol: int
    end: int
    """Where the packet ends."""
    bad: bool = False
    """The IP header is none."""

    @property
    def has_ports(self) -> bool:
        """Whether the next header is TCP's or UDP's, and all there."""
        room = {TCP: 20, UDP: 8}.get(self.protocol)
        return bool(self.version and room and self.transport + room <= self.end)


def parse(frame: bytes, depth: int) -> Parsed:
    """The headers of a frame: Ethernet's, from `depth` 2 on IP's."""
    (kind,) = struct.unpack_from(">H", frame, TAG_AT)
    at, vlan = ETHERNET_HEADER, None
    if kind == _VLAN and len(frame) >= at + 4:
        vlan, kind = struct.unpack_from(">HH", frame, at)
        at += 4
    nothing = Parsed(kind, vlan, at, 0, at, 0, len(frame))
    if depth < 2 or kind not in (_IPV4, _IPV6):
        return nothing
    if kind == _IPV6:
        if len(frame) < at + _V6_HEADER or frame[at] >> 4 != 6:
            return nothing._replace(bad=True)
        protocol = FRAGMENT if frame[at + 6] == _V6_FRAGMENT else frame[at + 6]
        end = at + _V6_HEADER + int.from_bytes(frame[at + 4 : at + 6], "big")
        return Parsed(kind, vlan, at, 6, at + _V6_HEADER, protocol, min(end, len(frame)))
    header = (frame[at] & 0xF) * 4 if len(frame) > at else 0
    length = int.from_bytes(frame[at + 2 : at + 4], "big")
    if len(frame) < at + 20 or frame[at] >> 4 != 4 or not 20 <= header <= length <= len(frame) - at:
        return nothing._replace(bad=True)
    fragment = int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF
    return Parsed(kind, vlan, at, 4, at + header, FRAGMENT if fragment else frame[at + 9], at + length)


def receive_fcb(frame: bytes, parsed: Parsed, depth: int, ip: bool, transport: bool, tag: bool, queue: int) -> bytes:
    """The block before a frame that was received. `ip` and `transport` say which checksums are looked at, `tag`
    whether the VLAN tag was taken out."""
    flags = _RX_BAD_LAYER3 if parsed.bad else 0
    if parsed.version:
        flags |= _RX_IP | (_RX_IP6 if parsed.version == 6 else 0)
        if ip and parsed.version == 4:
            right = checksum_total(frame[parsed.network : parsed.transport]) == 0
            flags |= _RX_CIP | (0 if right else _RX_EIP)
        if depth == 3 and parsed.has_ports:
            flags |= _RX_TUP
            place = parsed.transport + _CHECKSUM_AT[parsed.protocol]
            if transport and (parsed.protocol == TCP or frame[place : place + 2] != b"\0\0"):
                right = (_pseudo(frame, parsed) + checksum_total(frame[parsed.transport : parsed.end])) % 0xFFFF == 0
                flags |= _RX_CTU | (0 if right else _RX_ETU)
    vlan = parsed.vlan if tag and parsed.vlan is not None else 0
    if tag and parsed.vlan is not None:
        flags |= _RX_VLAN
    return struct.pack(">HBBHH", flags, queue, parsed.protocol, 0, vlan)


def _pseudo(frame: bytes | bytearray, parsed: Parsed) -> int:
    """The sum over the pseudo header."""
    addresses = 8 if parsed.version == 4 else 32
    at = parsed.network + (12 if parsed.version == 4 else 8)
    words = frame[at : at + addresses] + struct.pack(">HH", parsed.protocol, parsed.end - parsed.transport)
    return checksum_total(words)


def transmit(frame: bytearray, ip: bool, transport: bool, tag: int | None) -> bytearray:
    """The frame behind the control block at its beginning, as that wants it. `ip` and `transport` say which checksums
    may be made; `tag` is the Ethernet type of VLAN tags, if any are put in."""
    flags, _, transport_at, network, pseudo, vlan = struct.unpack_from(">BBBBHH", frame)
    frame = frame[FCB:]
    transport_at += network
    if flags & _TX_IP and transport_at <= len(frame):
        version = 6 if flags & _TX_IP6 else 4
        if ip and flags & _TX_CIP and version == 4 and transport_at >= network + 20:
            frame[network + 10 : network + 12] = b"\0\0"
            total = checksum_total(frame[network:transport_at])
            frame[network + 10 : network + 12] = (~total & 0xFFFF).to_bytes(2, "big")
        if transport and flags & _TX_TUP and flags & _TX_CTU:
            protocol = UDP if flags & _TX_UDP else TCP
            _checksum(frame, network, version, transport_at, protocol, pseudo if flags & _TX_NPH else None)
    if tag is not None and flags & _TX_VLAN:
        frame[TAG_AT:TAG_AT] = struct.pack(">HH", tag, vlan)
    return frame


def _checksum(frame: bytearray, network: int, version: int, transport: int, protocol: int, pseudo: int | None) -> None:
    """Store the checksum of TCP or UDP; without effect where the frame is too short for it."""
    place = transport + _CHECKSUM_AT[protocol]
    header = 20 if version == 4 else _V6_HEADER
    if place + 2 > len(frame) or network + header > transport:
        return
    length_at = network + (2 if version == 4 else 4)
    end = network + int.from_bytes(frame[length_at : length_at + 2], "big") + (_V6_HEADER if version == 6 else 0)
    end = min(end, len(frame)) if end >= place + 2 else len(frame)
    if pseudo is None:
        pseudo = _pseudo(frame, Parsed(0, None, network, version, transport, protocol, end))
    frame[place : place + 2] = b"\0\0"
    total = (pseudo + checksum_total(frame[transport:end])) % 0xFFFF
    frame[place : place + 2] = (~total & 0xFFFF).to_bytes(2, "big")  # never 0, which UDP takes for none
