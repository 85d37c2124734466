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


class Receiver:
    """Fills the rings of `mac`, under the device's lock."""

    def __init__(self, mac: Etsec) -> None:
        self._mac = mac
        self.filer: Filer | None = None
        """None after its table was changed."""

    def take(self, dma: Dma, arrived: Sequence[memoryview]) -> Taken:
        """Store frames until a ring has no more buffers."""
        taken = Taken()
        for frame in arrived:
            data = bytes(frame)
            missed = self._missed(data)
            if missed is not None and not self._store(dma, data, missed, taken):
                break
            taken.frames += 1
        return taken

    # -- which frames

    def _missed(self, frame: bytes) -> bool | None:
        """Whether a frame is for somebody else, and received all the same; None for one that is not received."""
        mac = self._mac
        if len(frame) < ETHERNET_HEADER:
            return None
        if self._for_us(frame[:6]):
            return False
        return True if mac.rctrl.promiscuous else None

    def _for_us(self, address: bytes) -> bool:
        mac = self._mac
        rctrl = mac.rctrl
        if address == BROADCAST:
            return not rctrl.reject_broadcast
        if address == mac.addresses[0] or (rctrl.exact_match and address in mac.addresses):
            return True
        group = address[0] & 1
        if rctrl.extended_hash:
            return bool(group) and self._hashed(address, 9)
        return self._hashed(address, 8, mac.gaddr if group else mac.igaddr)

    def _hashed(self, address: bytes, bits: int, table: list[Word] | None = None) -> bool:
        """Whether an address's bit is set; of the big table, which is both, without `table`."""
        crc = int(f"{crc32(address) ^ 0xFFFF_FFFF:032b}"[::-1], 2) >> 32 - bits
        register = (table or [*self._mac.igaddr, *self._mac.gaddr])[crc >> 5]
        return bool(register.value << (crc & 31) & 1 << 31)

    def _verdict(self, frame: bytes, parsed: frames.Parsed, taken: Taken) -> Verdict | None:
        """What the filer decides of a frame; None when it is rejected."""
        mac, verdict = self._mac, _FIRST_QUEUE
        if mac.rctrl.filer:
            filer = self.filer  # a vCPU's thread may change the table meanwhile
            if filer is None:
                filer = self.filer = Filer(mac.filer_control, mac.filer_properties)
            found = filer.always or filer.file(properties(frame, parsed))
            if found is None or found.reject:
                taken.events |= 0 if found else r.FIR | r.FIQ
                mac.rrej.value = mac.rrej.value + 1 & 0xFFFF_FFFF
                return None
            verdict = found
        if not mac.rqueue.enabled << self._ring(verdict) & 0x80:
            taken.events |= r.FIQ
            mac.count(r.RDRP)
            return None
        return verdict

    def _ring(self, verdict: Verdict) -> int:
        return 0 if self._mac.rctrl.single_queue else verdict.queue % r.QUEUES

    # -- where they go

    def _store(self, dma: Dma, frame: bytes, missed: bool, taken: Taken) -> bool:
        """Store a frame; False when it has to wait."""
        mac = self._mac
        rctrl, status = mac.rctrl, _MISS if missed else 0
        length = max(len(frame), SHORTEST) + _CHECK
        depth = rctrl.parse_depth
        parsed = frames.parse(frame, depth)
        verdict = self._verdict(frame, parsed, taken)
        if verdict is None:
            return True
        ring = self._ring(verdict)
        if mac.rstat.halted << ring & 0x80:
            return False
        if frame[:6] == BROADCAST:
            status |= _BROADCAST
        elif frame[0] & 1:
            status |= _MULTICAST
        whole = frame.ljust(SHORTEST, b"\0")
        whole += crc32(whole).to_bytes(_CHECK, "little")
        tagged = bool(depth and rctrl.extract_vlan and parsed.vlan is not None)
        if tagged:
            whole = whole[: frames.TAG_AT] + whole[frames.TAG_AT + 4 :]
        large = length > mac.maxfrm.length
        if large:
            status |= _LARGE
            if not mac.maccfg2.huge:
                status |= _TRUNCATED
                whole = whole[: mac.maxfrm.length]
        before = bytes(rctrl.padding)
        if depth:
            ip, transport = bool(rctrl.ip_checksum), bool(rctrl.transport_checksum)
            before = frames.receive_fcb(frame, parsed, depth, ip, transport, tagged, verdict.queue) + before
        stored = self._fill(dma, ring, before + whole, status, taken)
        if not stored:
            return stored is None
        taken.events |= (r.FGPI if verdict.interrupt else 0) | (r.BABR if large else 0)
        if large:
            mac.count(r.ROVR)
        if frame[12:14] == _PAUSE:
            mac.count(r.RXCF)
        mac.count_frame(frame.ljust(SHORTEST, b"\0"), r.RPKT, r.RBYT, r.RMCA, r.RBCA)
        return True

    def _fill(self, dma: Dma, queue: int, data: bytes, status: int, taken: Taken) -> bool | None:
        """Store a frame; False when it has to wait, None when it never will be."""
        mac = self._mac
        room = mac.mrblr.length << 6
        if not room or len(data) > _LONGEST:
            mac.count(r.RDRP)
            return None
        base = mac.rbaseh.bits << 32 | mac.rbase[queue].value
        ring = Ring(dma, base, mac.rbdbph.bits, bool(mac.dmactrl.little_endian))
        at = mac.rbaseh.bits << 32 | mac.rbptr[queue].value
        chain: list[Descriptor] = []
        seen: set[int] = set()
        try:
            for _ in range(0, len(data), room):
                descriptor = ring.load(at)
                if at in seen:  # the ring is too small for this
                    mac.count(r.RDRP)
                    return None
                seen.add(at)
                if not descriptor.status & EMPTY:
                    taken.starved = queue
                    return False
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
                    taken.received |= 0x80 >> queue if last else 0
        except BusError as error:
            taken.events |= r.EBERR
            taken.failed = queue
            taken.trouble = f"receive ring {queue}: {error}"
            return False
        mac.rbptr[queue].value = at & 0xFFFF_FFF8
        return True
