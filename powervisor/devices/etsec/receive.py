"""From frames to descriptors: the controller's receiver."""

from __future__ import annotations

from binascii import crc32
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from powervisor.devices.ethernet import BROADCAST, ETHERNET_HEADER, SHORTEST
from powervisor.devices.etsec import frames
from powervisor.devices.etsec import registers as r
from powervisor.devices.etsec.filer import Filer, Verdict, properties
from powervisor.devices.etsec.rings import EMPTY, INTERRUPT, LAST, Descriptor, Ring
from powervisor.devices.registers import Word
from powervisor.memory.space import BusError, Dma

if TYPE_CHECKING:
    from powervisor.devices.etsec.mac import Etsec

_FIRST, _MISS, _BROADCAST, _MULTICAST, _LARGE, _TRUNCATED = 0x0400, 0x0100, 0x0080, 0x0040, 0x0020, 0x0001
_STATISTICS = 0x0DFF
"""Status bits that the controller writes, but for EMPTY."""
_CHECK = 4
_LONGEST = 0xFFFF
"""What a descriptor's length can tell."""
_PAUSE = b"\x88\x08"
_EXTRACT_VLAN, _FILER, _SINGLE_QUEUE, _EXTENDED_HASH, _REJECT_BROADCAST, _PROMISCUOUS = (
    field.mask
    for field in (
        r.ReceiveControl.extract_vlan, r.ReceiveControl.filer, r.ReceiveControl.single_queue,
        r.ReceiveControl.extended_hash, r.ReceiveControl.reject_broadcast, r.ReceiveControl.promiscuous,
    )
)  # fmt: skip
_FIRST_QUEUE = Verdict(0, False, False)


@dataclass
class Taken:
    """What happened to frames that came in."""

    frames: int = 0
    events: int = 0
    received: int = 0
    """Bits of RSTAT: the rings that got frames."""
    starved: int | None = None
    """A ring that has no buffers for the next frame."""
    failed: int | None = None
    """A ring that is not in memory."""
    trouble: str = ""
    again: bool = False
    """Told of this, the driver had given buffers meanwhile to the ring that had none."""


class Receiver:
    """Fills the rings of `mac`, under the device's lock."""

    def __init__(self, mac: Etsec) -> None:
        self._mac = mac
        self.filer: Filer | None = None
        """None after its table was changed."""

    def take(self, dma: Dma, arrived: Sequence[memoryview]) -> Taken:
        """Store frames until a ring has no more buffers."""
        filer = self.filer  # a vCPU's thread may change the table meanwhile
        if filer is None:
            filer = self.filer = Filer(self._mac.filer_control, self._mac.filer_properties)
        batch = _Batch(self._mac, filer, dma)
        for frame in arrived:
            if not batch.take(bytes(frame)):
                break
            batch.taken.frames += 1
        batch.finish()
        return batch.taken


class _Batch:
    """Frames that come in together: what the registers say is read once for all of them."""

    def __init__(self, mac: Etsec, filer: Filer, dma: Dma) -> None:
        self.taken = Taken()
        self._mac, self._filer, self._dma = mac, filer, dma
        rctrl = mac.rctrl
        self._control = rctrl.value
        self._depth, self._padding = rctrl.parse_depth, bytes(rctrl.padding)
        self._sums = bool(rctrl.ip_checksum), bool(rctrl.transport_checksum)
        self._addresses = set(mac.addresses if rctrl.exact_match else mac.addresses[:1])
        self._longest, self._huge = mac.maxfrm.length, mac.maccfg2.huge
        self._room = mac.mrblr.length << 6
        self._enabled = mac.rqueue.enabled
        self._halted = mac.rstat.halted
        self._rings: dict[int, Ring] = {}
        self._next: dict[int, int] = {}
        self._tally = r.Tally()

    def finish(self) -> None:
        """Store what is kept in registers."""
        for ring, at in self._next.items():
            self._mac.rbptr[ring].value = at & 0xFFFF_FFF8
        self._mac.add(self._tally)

    def take(self, frame: bytes) -> bool:
        """Store a frame, or leave it out; False when it has to wait."""
        if len(frame) < ETHERNET_HEADER:
            return True
        status = 0
        if not self._for_us(frame[:6]):
            if not self._control & _PROMISCUOUS:
                return True
            status = _MISS
        parsed = frames.parse(frame, self._depth)
        verdict = self._verdict(frame, parsed)
        if verdict is None:
            return True
        ring = self._ring(verdict)
        if self._halted << ring & 0x80:
            return False
        if frame[0] & 1:
            status |= _BROADCAST if frame[:6] == BROADCAST else _MULTICAST
        whole = frame.ljust(SHORTEST, b"\0")
        length = len(whole) + _CHECK
        whole += crc32(whole).to_bytes(_CHECK, "little")
        tagged = bool(self._depth and self._control & _EXTRACT_VLAN and parsed.vlan is not None)
        if tagged:
            whole = whole[: frames.TAG_AT] + whole[frames.TAG_AT + 4 :]
        large = length > self._longest
        if large:
            status |= _LARGE
            if not self._huge:
                status |= _TRUNCATED
                whole = whole[: self._longest]
        before = self._padding
        if self._depth:
            before = frames.receive_fcb(frame, parsed, self._depth, *self._sums, tagged, verdict.queue) + before
        stored = self._fill(ring, before + whole, status)
        if not stored:
            return stored is None
        self.taken.events |= (r.FGPI if verdict.interrupt else 0) | (r.BABR if large else 0)
        tally = self._tally
        if large:
            tally.count(r.ROVR)
        if frame[12:14] == _PAUSE:
            tally.count(r.RXCF)
        tally.frame(length, r.RPKT, r.RBYT)
        if frame[0] & 1:
            tally.count(r.RBCA if status & _BROADCAST else r.RMCA)
        return True

    def _for_us(self, address: bytes) -> bool:
        if address == BROADCAST:
            return not self._control & _REJECT_BROADCAST
        if address in self._addresses:
            return True
        mac, group = self._mac, address[0] & 1
        if self._control & _EXTENDED_HASH:
            return bool(group) and _hashed(address, 9, [*mac.igaddr, *mac.gaddr])
        return _hashed(address, 8, mac.gaddr if group else mac.igaddr)

    def _verdict(self, frame: bytes, parsed: frames.Parsed) -> Verdict | None:
        """What the filer decides of a frame; None when it is rejected."""
        mac, verdict = self._mac, _FIRST_QUEUE
        if self._control & _FILER:
            found = self._filer.always or self._filer.file(properties(frame, parsed))
            if found is None or found.reject:
                self.taken.events |= 0 if found else r.FIR | r.FIQ
                mac.rrej.value = mac.rrej.value + 1 & 0xFFFF_FFFF
                return None
            verdict = found
        if not self._enabled << self._ring(verdict) & 0x80:
            self.taken.events |= r.FIQ
            self._tally.count(r.RDRP)
            return None
        return verdict

    def _ring(self, verdict: Verdict) -> int:
        return 0 if self._control & _SINGLE_QUEUE else verdict.queue % r.QUEUES

    def _fill(self, number: int, data: bytes, status: int) -> bool | None:
        """Store a frame in a ring; False when it has to wait, None when it never will be."""
        room, taken = self._room, self.taken
        if not room or len(data) > _LONGEST:
            self._tally.count(r.RDRP)
            return None
        if number not in self._rings:
            self._open(number)
        ring, at = self._rings[number], self._next[number]
        chain: list[Descriptor] = []
        seen: set[int] = set()
        try:
            for _ in range(0, len(data), room):
                if at in seen:  # the ring is too small for this
                    self._tally.count(r.RDRP)
                    return None
                descriptor = ring.load(at)
                if not descriptor.status & EMPTY:
                    taken.starved = number
                    return False
                seen.add(at)
                chain.append(descriptor)
                at = ring.after(descriptor)
            for n, descriptor in enumerate(chain):
                ring.fill(descriptor, data[room * n : room * (n + 1)])
            for n, descriptor in enumerate(chain):
                last = n == len(chain) - 1
                new = descriptor.status & ~(EMPTY | _STATISTICS) | (_FIRST if n == 0 else 0)
                ring.store(descriptor, new | (LAST | status if last else 0), len(data) if last else room)
                if descriptor.status & INTERRUPT:
                    taken.events |= r.RXF if last else r.RXB
                    taken.received |= 0x80 >> number if last else 0
        except BusError as error:
            taken.events |= r.EBERR
            taken.failed = number
            taken.trouble = f"receive ring {number}: {error}"
            return False
        self._next[number] = at
        return True

    def _open(self, number: int) -> None:
        mac = self._mac
        high = mac.rbaseh.bits << 32
        little_endian = bool(mac.dmactrl.little_endian)
        self._rings[number] = Ring(self._dma, high | mac.rbase[number].value, mac.rbdbph.bits, little_endian)
        self._next[number] = high | mac.rbptr[number].value


def _hashed(address: bytes, bits: int, table: Sequence[Word]) -> bool:
    """Whether an address's bit is set: the leftmost bits of its CRC choose."""
    crc = int(f"{crc32(address) ^ 0xFFFF_FFFF:032b}"[::-1], 2) >> 32 - bits
    return bool(table[crc >> 5].value << (crc & 31) & 1 << 31)
