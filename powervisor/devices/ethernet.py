"""What all Ethernet devices share: addresses, and how a user writes one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from powervisor.properties import Kind, prop

BROADCAST = b"\xff" * 6
ETHERNET_HEADER = 14
SHORTEST = 60
"""Bytes of the shortest frame, without its check sequence."""
_MAC = re.compile(r"([0-9a-fA-F]{2})([:-][0-9a-fA-F]{2}){5}")


def _mac(text: str) -> bytes:
    if not _MAC.fullmatch(text):
        raise ValueError("no address; write for example 52:54:00:12:34:56")
    address = bytes.fromhex(re.sub("[:-]", "", text))
    if address[0] & 1:
        raise ValueError("a group's address; write one with an even first byte")
    return address


MAC = Kind("address", _mac)


@dataclass(frozen=True)
class NicOptions:
    """Properties of every network device."""

    netdev: str = prop("", "the -netdev's id", required=True)
    mac: bytes | None = prop(None, "its address; default 52:54:00:12:34:56, counting up", MAC)


def checksum_total(data: bytes | bytearray | memoryview) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), but for its two zeros."""
    value = int.from_bytes(data, "big")
    return (value << 8 if len(data) % 2 else value) % 0xFFFF  # 65536 is 1 here, so that a remainder adds the words
