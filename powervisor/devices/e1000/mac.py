"""The 82540EM without its bus: registers, rings of descriptors, receive filter, interrupt causes.

Frames are sent on the worker's thread, received on the netdev's. Registers belong to the machine's lock, rings and
guest memory to the device's own, which is taken after it.
"""

from __future__ import annotations

import struct
import threading
from binascii import crc32
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from powervisor.devices.device import Device, state
from powervisor.devices.e1000 import phy
from powervisor.devices.e1000 import registers as r
from powervisor.devices.e1000.eeprom import Microwire
from powervisor.devices.e1000.offload import NO_CONTEXT, Context, finish, insert, segments
from powervisor.devices.ethernet import BROADCAST, ETHERNET_HEADER, SHORTEST
from powervisor.devices.registers import Register, RegisterArray, RoWord, Word
from powervisor.devices.services import Services
from powervisor.memory.space import BusError, Dma
from powervisor.net.netdev import HEADER, MAX_FRAME, Frame, Port

_DESCRIPTOR = struct.Struct("<QII")
_SIZE = _DESCRIPTOR.size
_DONE, _END, _NO_CHECKSUMS, _TAGGED = 1, 2, 4, 8
"""Status of a receive descriptor; DONE of a transmit descriptor too."""
_CMD_END, _CMD_CHECKSUM, _CMD_SEGMENT, _CMD_REPORT, _CMD_EXTENDED, _CMD_TAG = 1, 4, 4, 8, 0x20, 0x40
_STATUS_LINK, _STATUS_FIXED = 2, 0x81
_LONGEST, _LONGEST_JUMBO = 1522, 16384
_BATCH_FRAMES = 64
_TAG_AT = 12
_GROUP_SHIFTS = 4, 3, 2, 0
"""Which bits of a group's address choose in the table, by RCTL.MO."""


class E1000(Device):
    """`interrupt` takes the level of the pin, under the machine's lock."""

    size = 0x2_0000

    ctrl = Register(0x0000, r.Control)
    status = Register(0x0008, RoWord)
    eecd = Register(0x0010, r.EepromControl)
    eerd = Register(0x0014, r.EepromRead)
    ctrl_ext = Register(0x0018, Word)
    mdic = Register(0x0020, r.Mdi)
    flow = RegisterArray(0x0028, Word, 3, 4)
    vet = Register(0x0038, Word, 0x8100)
    icr = Register(0x00C0, r.Cause)
    itr = Register(0x00C4, Word)
    ics = Register(0x00C8, r.Cause)
    ims = Register(0x00D0, r.Cause)
    imc = Register(0x00D8, r.Cause)
    rctl = Register(0x0100, r.ReceiveControl)
    fcttv = Register(0x0170, Word)
    tctl = Register(0x0400, r.TransmitControl)
    tipg = Register(0x0410, Word)
    ait = Register(0x0458, Word)
    ledctl = Register(0x0E00, Word)
    pba = Register(0x1000, Word, 0x0010_0030)
    fcrt = RegisterArray(0x2160, Word, 2, 8)
    rdbal = Register(0x2800, r.Base)
    rdbah = Register(0x2804, Word)
    rdlen = Register(0x2808, r.Length)
    rdh = Register(0x2810, r.Index)
    rdt = Register(0x2818, r.Index)
    rdtr = Register(0x2820, Word)
    rxdctl = Register(0x2828, Word)
    radv = Register(0x282C, Word)
    tdbal = Register(0x3800, r.Base)
    tdbah = Register(0x3804, Word)
    tdlen = Register(0x3808, r.Length)
    tdh = Register(0x3810, r.Index)
    tdt = Register(0x3818, r.Index)
    tidv = Register(0x3820, Word)
    txdctl = Register(0x3828, Word)
    tadv = Register(0x382C, Word)
    statistic = RegisterArray(r.STATISTICS, Word, 64, 4)
    rxcsum = Register(0x5000, Word)
    mta = RegisterArray(0x5200, Word, 128, 4)
    ral = RegisterArray(0x5400, Word, 16, 8)
    rah = RegisterArray(0x5404, r.AddressHigh, 16, 8)
    vfta = RegisterArray(0x5600, Word, 128, 4)
    wakeup = RegisterArray(0x5800, Word, 9, 8)
    swsm = Register(0x5B50, Word)
    """Later chips' semaphores, which U-Boot takes on all of them."""
    sw_fw_sync = Register(0x5B5C, Word)

    phy_registers: list[int] = state(phy.initial)
    eeprom_state: list[int] = state(lambda: [0, 0, 0])
    context: list[int] = state(lambda: list(NO_CONTEXT))
    """The last context descriptor, for data descriptors that come after it."""
    owed: int = state(int)
    """Causes that the worker has found and not told of yet."""
    had_link: bool = state(lambda: True, keep=True)
    """Whether there was a link when it was saved."""

    def __init__(
        self, name: str, services: Services, words: Sequence[int], memory: Callable[[], Dma | None],
        interrupt: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self._services, self._words, self._memory, self._interrupt = services, words, memory, interrupt
        self.netdev: Port | None = None
        self.dropped = 0
        self._busy = threading.RLock()
        self._bell = services.worker()(name, self._work)
        super().__init__(name)

    def _settle(self) -> None:
        if not any(high.valid for high in self.rah):
            self._load_address()
        self._addresses = {
            low.value.to_bytes(4, "little") + high.bytes.to_bytes(2, "little")
            for low, high in zip(self.ral, self.rah, strict=True)
            if high.valid
        }
        self._update()

    def _load_address(self) -> None:
        """The first address comes from the EEPROM."""
        self.ral[0].value = self._words[0] | self._words[1] << 16
        self.rah[0].value = self._words[2] | 1 << 31

    def reset(self) -> None:
        """Forget the driver. Waits until nothing is on its way in guest memory."""
        with self._busy:
            super().reset()
        if self.netdev:
            self.netdev.resume()

    def still(self) -> AbstractContextManager[object]:
        """The device's lock: the worker and the netdev have done with guest memory, and wait."""
        return self._busy

    def save(self) -> dict[str, Any]:
        """All state."""
        self.had_link = self.link
        return super().save()

    def resumed(self) -> None:
        """Tell the driver of another link than it had."""
        if self.link is not self.had_link:
            self.link_changed()

    def restore(self, saved: dict[str, Any]) -> None:
        """Take a saved state, and go on where that left off."""
        with self._busy:
            super().restore(saved)
        self._bell.ring()
        if self.netdev:
            self.netdev.resume()

    def close(self) -> None:
        """End the worker."""
        self._bell.close()

    def statistics(self) -> dict[str, int]:
        """With the frames that fitted nowhere."""
        return super().statistics() | ({"dropped": self.dropped} if self.dropped else {})

    # -- control, interrupts

    @ctrl.written
    def _control(self, old: int, new: int) -> None:
        if self.ctrl.reset:
            self.reset()
        elif self.ctrl.phy_reset:
            self.ctrl.phy_reset = 0
            self.phy_registers = phy.initial()
            self.cause(r.LSC)

    @property
    def link(self) -> bool:
        """Whether there is a link."""
        return bool(self.netdev and self.netdev.link_up)

    @status.read
    def _status(self) -> int:
        return _STATUS_FIXED | (_STATUS_LINK if self.link else 0)

    def _update(self) -> None:
        self._interrupt(bool(self.icr.value & self.ims.value))

    def cause(self, bits: int) -> None:
        """Something happened; under the machine's lock."""
        self.icr.value |= bits
        self._update()

    @icr.read
    def _take_causes(self) -> int:
        value, self.icr.value = self.icr.value, 0
        self._update()
        return value

    @icr.write
    def _clear_causes(self, value: int) -> None:
        self.icr.value &= ~value
        self._update()

    @ics.write
    def _set_causes(self, value: int) -> None:
        self.cause(value & r.CAUSES)

    @ims.write
    def _unmask(self, value: int) -> None:
        self.ims.value |= value & r.CAUSES
        self._update()

    @imc.read
    def _mask(self) -> int:
        return self.ims.value

    @imc.write
    def _mask_more(self, value: int) -> None:
        self.ims.value &= ~value
        self._update()

    # -- EEPROM, PHY, addresses, statistics

    @eecd.written
    def _eeprom_pins(self, old: int, new: int) -> None:
        chip = Microwire(self._words, self.eeprom_state)
        self.eecd.data_out = chip.pins(self.eecd.clock, self.eecd.select, self.eecd.data_in)
        self.eeprom_state = chip.state
        self.eecd.grant = self.eecd.request

    @eerd.written
    def _eeprom_read(self, old: int, new: int) -> None:
        if new & 1:
            self.eerd.data = self._words[self.eerd.address % len(self._words)]
        self.eerd.done = new & 1
        self.eerd.start = 0

    @mdic.written
    def _mdi(self, old: int, new: int) -> None:
        mdic = self.mdic
        mdic.ready, mdic.error = 1, int(mdic.phy != phy.ADDRESS or mdic.operation not in (1, 2))
        if not mdic.error and mdic.operation == 2:
            mdic.data = phy.read(self.phy_registers, mdic.register, self.link)
        elif not mdic.error and phy.write(self.phy_registers, mdic.register, mdic.data):
            self.cause(r.LSC)
        if mdic.interrupt:
            self.cause(r.MDAC)

    @ral.written
    def _address_low(self, index: int, old: int, new: int) -> None:
        self._settle()

    @rah.written
    def _address_high(self, index: int, old: int, new: int) -> None:
        self._settle()

    @statistic.read
    def _statistic(self, index: int) -> int:
        value, self.statistic[index].value = self.statistic[index].value, 0
        return value

    def _count(self, *places: int, by: int = 1) -> None:
        for place in places:
            self.statistic[place].value = self.statistic[place].value + by & 0xFFFF_FFFF

    def _count_octets(self, length: int, *places: int) -> None:
        for place in places:
            value = (self.statistic[place].value | self.statistic[place + 1].value << 32) + length
            self.statistic[place].value = value & 0xFFFF_FFFF
            self.statistic[place + 1].value = value >> 32 & 0xFFFF_FFFF

    def link_changed(self) -> None:
        """The netdev's link is another."""
        with self._services.lock:
            self.cause(r.LSC)

    # -- sending

    @tdt.written
    def _more_to_send(self, old: int, new: int) -> None:
        self._bell.ring()

    @tctl.written
    def _transmitter(self, old: int, new: int) -> None:
        self._bell.ring()

    def sendable(self) -> None:
        """The netdev takes frames again."""
        self._bell.ring()

    def _work(self) -> None:
        more = True
        while more:
            with self._busy:
                more = self._send()
            self._tell()

    def _tell(self) -> None:
        """Tell the driver of the causes that are owed, unless it has reset the device meanwhile."""
        if self.owed:
            with self._services.lock, self._busy:
                owed, self.owed = self.owed, 0
                self.cause(owed)

    def _send(self) -> bool:
        """Send whole frames of the ring, a batch at most; whether there are more."""
        dma, count, netdev = self._memory(), self.tdlen.count * 8, self.netdev
        if dma is None or netdev is None or not self.tctl.enable or not count or netdev.busy:
            return False
        base = self.tdbah.value << 32 | self.tdbal.value
        head, tail = self.tdh.index, self.tdt.index
        frames: list[Frame] = []
        reports: list[int] = []
        begin, more = head, False
        pieces: list[memoryview] = []
        while head != tail and head < count and tail < count:
            if len(frames) >= _BATCH_FRAMES:
                more = True
                break
            try:
                address, lower, upper = _DESCRIPTOR.unpack(dma.read_ram(base + _SIZE * head, _SIZE))
            except BusError:
                break
            command = lower >> 24
            if command & _CMD_REPORT:
                reports.append(head)
            head = head + 1 if head + 1 < count else 0
            extended = command & _CMD_EXTENDED
            if extended and lower >> 20 & 0xF == 0:
                self.context = list(Context.parse(address & 0xFFFF_FFFF, address >> 32, lower, upper))
                begin = head
                continue
            length = lower & (0xF_FFFF if extended else 0xFFFF)
            try:
                pieces += dma.views(address, length, False)
            except BusError:
                self.dropped += 1
            if command & _CMD_END:
                frames += self._finished(pieces, lower, upper)
                pieces, begin = [], head
        reports = [place for place in reports if (place - self.tdh.index) % count < (begin - self.tdh.index) % count]
        if frames:
            before = (bytes(HEADER),) if netdev.headers else ()
            netdev.send([(*before, *frame) for frame in frames])
        for place in reports:
            self._report(dma, base + _SIZE * place)
        if begin != self.tdh.index:
            self.owed |= r.TXQE | (r.TXDW if reports else 0)
            self.tdh.index = begin
        return more

    def _report(self, dma: Dma, descriptor: int) -> None:
        try:
            status = dma.read_ram(descriptor + 12, 1)[0]
            dma.write_ram(descriptor + 12, bytes((status | _DONE,)))
        except BusError:
            self.dropped += 1

    def _finished(self, pieces: list[memoryview], lower: int, upper: int) -> list[Frame]:
        """The frames that a run of descriptors, whose last is given, comes to."""
        size = sum(map(len, pieces))
        if not 0 < size <= MAX_FRAME:
            return []
        command = lower >> 24
        tag = upper >> 16 if command & _CMD_TAG and self.ctrl.vlan_mode else None
        found: list[Frame]
        if not command & _CMD_EXTENDED:
            found = [pieces]
            if command & _CMD_CHECKSUM:
                frame = bytearray().join(pieces)
                insert(frame, upper >> 8 & 0xFF, lower >> 16 & 0xFF, 0)
                found = [(bytes(frame),)]
        else:
            context, ip, transport = Context(*self.context), bool(upper & 0x100), bool(upper & 0x200)
            if command & _CMD_SEGMENT:
                cut = segments(b"".join(pieces), context, ip, transport)
                found = [(bytes(frame),) for frame in cut]
            elif ip or transport:
                frame = bytearray().join(pieces)
                finish(frame, context, ip, transport)
                found = [(bytes(frame),)]
            else:
                found = [pieces]
        if tag is not None:
            found = [self._tagged(frame, tag) for frame in found]
        for one in found:
            length = sum(map(len, one)) + 4
            self._count(r.GPTC, r.TPT)
            self._count_octets(length, r.GOTC, r.TOT)
        return found

    def _tagged(self, frame: Frame, tag: int) -> Frame:
        whole = b"".join(frame)
        middle = (self.vet.value & 0xFFFF).to_bytes(2, "big") + tag.to_bytes(2, "big")
        return (whole[:_TAG_AT], middle, whole[_TAG_AT:])

    # -- receiving

    @rdt.written
    def _more_to_fill(self, old: int, new: int) -> None:
        if self.netdev:
            self.netdev.resume()

    @rctl.written
    def _receiver(self, old: int, new: int) -> None:
        if self.netdev:
            self.netdev.resume()

    def receive(self, frames: Sequence[memoryview]) -> int:
        """Store frames in the driver's buffers; what finds none waits until there are some."""
        skip = HEADER if self.netdev and self.netdev.headers else 0
        taken = 0
        with self._busy:
            dma = self._memory()
            if dma is None or not self.rctl.enable:
                return len(frames)
            for frame in frames:
                data = frame[skip:]
                if self._wanted(data):
                    stored = self._store(dma, data)
                    if stored is None:
                        self.owed |= r.RXO
                        break
                    self.owed |= stored
                taken += 1
        self._tell()
        return taken

    def _wanted(self, data: memoryview) -> bool:
        """Whether the driver's filter lets a frame in; what is too short to be one stays out."""
        rctl = self.rctl
        longest = _LONGEST_JUMBO if rctl.long_packets else _LONGEST
        if not ETHERNET_HEADER <= len(data) <= longest - 4:
            return False
        if rctl.vlan_filter and int.from_bytes(data[_TAG_AT : _TAG_AT + 2], "big") == self.vet.value & 0xFFFF:
            vlan = int.from_bytes(data[_TAG_AT + 2 : _TAG_AT + 4], "big") & 0xFFF
            if not self.vfta[vlan >> 5].value >> vlan % 32 & 1:
                return False
        address = bytes(data[:6])
        if address == BROADCAST and rctl.broadcast:
            return True
        if address in self._addresses:
            return True
        if not address[0] & 1:
            return bool(rctl.unicast)
        chosen = int.from_bytes(address[4:], "little") >> _GROUP_SHIFTS[rctl.offset] & 0xFFF
        return bool(rctl.multicast or self.mta[chosen >> 5].value >> chosen % 32 & 1)

    def _buffer_size(self) -> int:
        sizes = (0, 16384, 8192, 4096) if self.rctl.size_extension else (2048, 1024, 512, 256)
        return sizes[self.rctl.size]

    def _store(self, dma: Dma, data: memoryview) -> int | None:
        """Store a frame; the causes of interrupts, or None when there are too few buffers."""
        count, room = self.rdlen.count * 8, self._buffer_size()
        head, tail = self.rdh.index, self.rdt.index
        if not count or not room or head >= count:
            return 0
        tag, whole = 0, bytes(data)
        tagged = self.ctrl.vlan_mode and int.from_bytes(data[_TAG_AT : _TAG_AT + 2], "big") == self.vet.value & 0xFFFF
        if tagged and len(data) > ETHERNET_HEADER + 4:
            tag = int.from_bytes(data[_TAG_AT + 2 : _TAG_AT + 4], "big")
            whole = whole[:_TAG_AT] + whole[_TAG_AT + 4 :]
        whole = whole.ljust(SHORTEST, b"\0")
        if not self.rctl.strip_crc:
            whole += crc32(whole).to_bytes(4, "little")
        needed = -(-len(whole) // room)
        if needed >= count:
            self.dropped += 1
            return 0
        if needed > (tail - head) % count:
            return None
        base = self.rdbah.value << 32 | self.rdbal.value
        for at in range(0, len(whole), room):
            piece = whole[at : at + room]
            last = at + room >= len(whole)
            status = _DONE | _NO_CHECKSUMS | (_END if last else 0) | (_TAGGED if tagged else 0)
            try:
                (address,) = struct.unpack("<Q", dma.read_ram(base + _SIZE * head, 8))
                dma.write_ram(address, piece)
                dma.write_ram(base + _SIZE * head + 8, struct.pack("<HHBBH", len(piece), 0, status, 0, tag))
            except BusError:
                self.dropped += 1
            head = head + 1 if head + 1 < count else 0
        self.rdh.index = head
        self._count(r.GPRC, r.TPR)
        if data[0] & 1:
            self._count(r.BPRC if bytes(data[:6]) == BROADCAST else r.MPRC)
        self._count_octets(len(data) + 4, r.GORC, r.TOR)
        low = (tail - head) % count <= count >> self.rctl.threshold + 1
        return r.RXT0 | (r.RXDMT0 if low else 0)
