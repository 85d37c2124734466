"""The EEPROM of the 82540EM: 64 words behind a Microwire interface, read bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = 64
_CHECKSUM = 0xBABA
_READ = 0b110
_COMMAND_BITS, _ADDRESS_BITS = 3, 6


def contents(mac: bytes, device: int, vendor: int) -> list[int]:
    """The words: the address first; their sum is 0xBABA."""
    words = [0] * WORDS
    words[:3] = [int.from_bytes(mac[at : at + 2], "little") for at in (0, 2, 4)]
    words[0x0B:0x0F] = [device, vendor, device, vendor]
    words[-1] = _CHECKSUM - sum(words) & 0xFFFF
    return words


class Microwire:
    """The chip's interface. `state` is plain: the clock's level, the bits that came after a first one (with it), and
    the place of the bit that goes out, counted from 1; it is negative until the clock falls for the first time.
    """

    def __init__(self, words: Sequence[int], state: list[int]) -> None:
        self._words, self.state = words, state

    def pins(self, clock: int, select: int, data: int) -> int:
        """New levels; answers the chip's output."""
        before, bits, out = self.state
        if not select:
            bits, out = 0, 0
        elif clock and not before and not out:
            bits = bits << 1 | data
            if bits >> _COMMAND_BITS + _ADDRESS_BITS - 1:
                address = bits & (1 << _ADDRESS_BITS) - 1
                out = -(16 * address + 1) if bits >> _ADDRESS_BITS == _READ else 0
                bits = 0
        elif before and not clock and out:
            out = -out if out < 0 else out % (16 * WORDS) + 1
        self.state = [clock, bits, out]
        return self._words[(out - 1) // 16] >> 15 - (out - 1) % 16 & 1 if out > 0 else 1
