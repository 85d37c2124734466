"""Message-signalled interrupts of a PCI function: MSI and MSI-X.

A message is a 32-bit store to the address that the guest chose, through the function's DMA: on this family's boards
it lands in the MPIC's MSIIR. Both classes keep their state in the function: in its configuration space, and for
MSI-X in `msix_memory`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from powervisor.devices.pci.function import PciFunction

MSI, MSIX = 0x05, 0x11

_MSI_ENABLE, _MSI_64_BIT, _MSI_MASKING = 0x0001, 0x0080, 0x0100
_MSIX_ENABLE, _MSIX_MASK_ALL = 0x8000, 0x4000
_ENTRY = 16
_ENTRY_WORDS = struct.Struct("<QII")
_ENTRY_MASKED = 1
MAX_MSI, MAX_MSIX = 32, 2048


class Msi:
    """The MSI capability of `function` for `vectors` (a power of two) messages, 64-bit with mask bits."""

    def __init__(self, function: PciFunction, vectors: int = 1) -> None:
        if vectors not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"{function.name}: {vectors} MSI vectors, there can be 1, 2, 4 .. {MAX_MSI}")
        self.function = function
        log2 = vectors.bit_length() - 1
        control = _MSI_64_BIT | _MSI_MASKING | log2 << 1
        body = control.to_bytes(2, "little") + bytes(20)
        address, data, mask = 0xFFFF_FFFF_FFFF_FFFC, 0xFFFF, (1 << vectors) - 1
        writable = b"\x71\0" + address.to_bytes(8, "little") + data.to_bytes(4, "little") + mask.to_bytes(4, "little")
        self.offset = function.add_capability(MSI, body, writable)

    @property
    def enabled(self) -> bool:
        """Whether the guest has the function send messages instead of using INTx."""
        return bool(self.function.field(self.offset + 2, 2) & _MSI_ENABLE)

    @property
    def _allocated(self) -> int:
        control = self.function.field(self.offset + 2, 2)
        return 1 << min(control >> 4 & 7, control >> 1 & 7)

    def notify(self, vector: int) -> None:
        """Send message `vector`, or note it as pending while it is masked."""
        vector %= self._allocated
        if self.function.field(self.offset + 16, 4) >> vector & 1:
            self._pend(self.function.field(self.offset + 20, 4) | 1 << vector)
            return
        address, data = self.function.field(self.offset + 4, 8), self.function.field(self.offset + 12, 2)
        self.function.send_message(address, data & -self._allocated | vector)

    def update(self) -> None:
        """The guest changed the capability: send what was pending and no longer is masked."""
        pending = self.function.field(self.offset + 20, 4)
        if ready := pending & ~self.function.field(self.offset + 16, 4) if self.enabled else 0:
            self._pend(pending & ~ready)
            for vector in range(MAX_MSI):
                if ready >> vector & 1:
                    self.notify(vector)

    def _pend(self, pending: int) -> None:
        self.function.config[self.offset + 20 : self.offset + 24] = pending.to_bytes(4, "little")


class Msix:
    """The MSI-X capability of `function`: `vectors` messages; table and pending bits are alone in BAR `bar`."""

    def __init__(self, function: PciFunction, vectors: int, bar: int) -> None:
        if not 1 <= vectors <= MAX_MSIX:
            raise ValueError(f"{function.name}: {vectors} MSI-X vectors, there can be 1 to {MAX_MSIX}")
        self.function, self.vectors, self.bar = function, vectors, bar
        self.pending_at = _pending_at(vectors)
        body = (vectors - 1).to_bytes(2, "little") + bar.to_bytes(4, "little")
        body += (self.pending_at | bar).to_bytes(4, "little")
        self.offset = function.add_capability(MSIX, body, b"\0\xc0")

    @staticmethod
    def bar_size(vectors: int) -> int:
        """Bytes of the BAR for so many vectors."""
        size = _pending_at(vectors) + (vectors + 63) // 64 * 8
        return int(max(4096, 1 << (size - 1).bit_length()))

    def initial(self) -> bytearray:
        """`msix_memory` after reset: every entry is masked, nothing pending."""
        table = (bytes(12) + _ENTRY_MASKED.to_bytes(4, "little")) * self.vectors
        return bytearray(table.ljust(self.function.bars[self.bar].size, b"\0"))

    @property
    def _control(self) -> int:
        return self.function.field(self.offset + 2, 2)

    @property
    def enabled(self) -> bool:
        """Whether the guest has the function send messages instead of using INTx."""
        return bool(self._control & _MSIX_ENABLE)

    def _word(self, at: int, size: int = 4) -> int:
        return int.from_bytes(self.function.msix_memory[at : at + size], "little")

    def _masked(self, vector: int) -> bool:
        return bool(self._control & _MSIX_MASK_ALL or self._word(_ENTRY * vector + 12) & _ENTRY_MASKED)

    def notify(self, vector: int) -> None:
        """Send message `vector`, or note it as pending while it is masked; without entry there is none."""
        if vector >= self.vectors:
            return
        function = self.function
        address, data, control = _ENTRY_WORDS.unpack_from(function.msix_memory, _ENTRY * vector)
        if control & _ENTRY_MASKED or self._control & _MSIX_MASK_ALL:
            function.msix_memory[self.pending_at + vector // 8] |= 1 << vector % 8
        else:
            function.send_message(address, data)

    def read(self, offset: int, size: int) -> int:
        """The guest reads the BAR."""
        return self._word(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest writes the BAR; pending bits are read-only."""
        if offset + size <= _ENTRY * self.vectors:
            self.function.msix_memory[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            self.update()

    def update(self) -> None:
        """The guest changed something: send what was pending and no longer is masked."""
        if not self.enabled or self._control & _MSIX_MASK_ALL:
            return
        pending = int.from_bytes(self.function.msix_memory[self.pending_at :], "little")
        while pending:
            vector = (pending & -pending).bit_length() - 1
            pending &= pending - 1
            if not self._masked(vector):
                self.function.msix_memory[self.pending_at + vector // 8] &= ~(1 << vector % 8)
                self.notify(vector)


def _pending_at(vectors: int) -> int:
    """Where the pending bits begin: behind the table, in the BAR's upper half."""
    return int(max(2048, 1 << (_ENTRY * vectors - 1).bit_length()))
