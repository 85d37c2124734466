"""From descriptors to frames: the controller's transmitter."""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from powervisor.devices.ethernet import BROADCAST, ETHERNET_HEADER, SHORTEST
from powervisor.devices.etsec import frames
from powervisor.devices.etsec import registers as r
from powervisor.devices.etsec.rings import INTERRUPT, LAST, READY, Descriptor, Ring
from powervisor.memory.space import BusError, Dma
from powervisor.net.netdev import MAX_FRAME

if TYPE_CHECKING:
    from powervisor.devices.etsec.mac import Etsec

_PAD, _CRC, _HUGE, _OFFLOAD, _UNDERRUN, _TRUNCATED = 0x4000, 0x0400, 0x0080, 0x0002, 0x0002, 0x0001
_KEPT = ~0x82FF
"""Status that stays when a descriptor is given back; what else there is, tells of collisions and errors."""
_BATCH_DESCRIPTORS = 64
"""After so many, frames are sent and the driver hears of them."""
_CHECK = 4


@dataclass
class Batch:
    """Frames of one ring, and what becomes of their descriptors once they are sent."""

    frames: list[memoryview] = field(default_factory=list)
    done: list[tuple[Descriptor, int]] = field(default_factory=list)
    """Descriptors with their new status."""
    next: int = 0
    """Where the ring goes on."""
    events: int = 0
    halted: bool = False
    finished: bool = False
    """A frame was sent whose descriptor asks for an interrupt."""
    trouble: str = ""
    """What a driver did wrong."""
    tally: r.Tally = field(default_factory=r.Tally)


class Transmitter:
    """Reads the rings of `mac`, under the device's lock."""

    def __init__(self, mac: Etsec) -> None:
        self._mac = mac

    def collect(self, dma: Dma, queue: int) -> Batch:
        """The frames that are ready in a ring, some at most. Nothing is changed yet."""
        mac = self._mac
        base = mac.tbaseh.bits << 32 | mac.tbase[queue].value
        ring = Ring(dma, base, mac.tbdbph.bits, bool(mac.dmactrl.little_endian))
        batch = Batch(next=mac.tbaseh.bits << 32 | mac.tbptr[queue].value)
        seen: set[int] = set()
        try:
            while len(batch.done) < _BATCH_DESCRIPTORS and not batch.halted and batch.next not in seen:
                self._frame(ring, dma, batch, seen)
        except BusError as error:
            batch.events |= r.EBERR | r.TXE
            batch.halted = True
            batch.trouble = f"transmit ring {queue}: {error}"
        return batch

    def give_back(self, dma: Dma, queue: int, batch: Batch) -> None:
        """The frames are sent: so the driver may have its buffers."""
        mac = self._mac
        ring = Ring(dma, 0, 0, bool(mac.dmactrl.little_endian))
        for descriptor, status in batch.done:
            try:
                ring.store(descriptor, status, descriptor.length)
            except BusError as error:
                batch.trouble = f"transmit ring {queue}: {error}"
                batch.events |= r.EBERR | r.TXE
                batch.halted = True
        mac.tbptr[queue].value = batch.next & 0xFFFF_FFF8
        mac.add(batch.tally)

    def _frame(self, ring: Ring, dma: Dma, batch: Batch, seen: set[int]) -> None:
        """Take the next frame of a ring; none there halts it."""
        chain: list[Descriptor] = []
        data = bytearray()
        at = batch.next
        while True:
            descriptor = ring.load(at)
            if not descriptor.status & READY or at in seen:
                batch.halted = True
                if chain:  # the driver gave only the beginning
                    batch.events |= r.XFUN | r.TXE
                    self._done(batch, chain, _UNDERRUN)
                    batch.next = at
                return
            if not descriptor.length or len(data) + descriptor.length > MAX_FRAME:
                batch.events |= r.TXE
                batch.halted = True
                return
            seen.add(at)
            chain.append(descriptor)
            for piece in dma.views(descriptor.buffer, descriptor.length, False):
                data += piece
            at = ring.after(descriptor)
            if descriptor.status & LAST:
                break
        batch.next = at
        self._done(batch, chain, self._finish(batch, chain[0].status, data))

    def _done(self, batch: Batch, chain: list[Descriptor], error: int) -> None:
        for descriptor in chain:
            last = descriptor is chain[-1]
            batch.done.append((descriptor, descriptor.status & _KEPT | (error if last else 0)))
            if descriptor.status & INTERRUPT and not error & _UNDERRUN:
                batch.events |= r.TXF if last else r.TXB
                batch.finished |= last

    def _finish(self, batch: Batch, status: int, data: bytearray) -> int:
        """Make a frame out of what the driver has written; the error bits of its last descriptor."""
        mac = self._mac
        control, mac2 = mac.tctrl, mac.maccfg2
        if status & _OFFLOAD and len(data) >= frames.FCB:
            tag = mac.dfvlan.value >> 16 if control.insert_vlan else None
            data = frames.transmit(data, bool(control.ip_checksum), bool(control.transport_checksum), tag)
        error = 0
        pad = mac2.pad or status & _PAD
        if not (pad or mac2.crc or status & _CRC):  # the driver has made the check sequence
            data, check = data[:-_CHECK], data[-_CHECK:]
            if crc32(data) != int.from_bytes(check, "little"):
                batch.tally.count(r.TFCS)
                return 0
        elif pad:
            data = data.ljust(SHORTEST, b"\0")
        if len(data) + _CHECK > mac.maxfrm.length and not (mac2.huge or status & _HUGE):
            data = data[: max(mac.maxfrm.length - _CHECK, 0)]
            batch.events |= r.BABT
            batch.tally.count(r.TOVR)
            error = _TRUNCATED
        if len(data) >= ETHERNET_HEADER:
            batch.frames.append(memoryview(data))
            batch.tally.frame(len(data) + _CHECK, r.TPKT, r.TBYT)
            if data[0] & 1:
                batch.tally.count(r.TBCA if data[:6] == BROADCAST else r.TMCA)
        return error
