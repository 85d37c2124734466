"""The controller: its registers, interrupts, statistics, and the threads that frames come and go on.

Frames are sent on the worker's thread if the driver takes interrupts, and received on the netdev's. Registers belong
to the machine's lock, rings and guest memory to the device's own, which is taken after it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from powervisor.devices.device import Device, state
from powervisor.devices.etsec import phy
from powervisor.devices.etsec import registers as r
from powervisor.devices.etsec.filer import ENTRIES
from powervisor.devices.etsec.receive import Receiver, Taken
from powervisor.devices.etsec.transmit import Transmitter
from powervisor.devices.irq import IrqOutput
from powervisor.devices.registers import Register, RegisterArray, RoWord, Word
from powervisor.devices.services import Services
from powervisor.net.netdev import HEADER, Frame, Port

_RING0_TRANSMIT, _RING0_RECEIVE = 1 << 31, 1 << 23
"""Halt bits of ring 0 in TSTAT and RSTAT."""
_RING0_SENT = 1 << 15


class Etsec(Device):
    """`services` lend memory, locks and a thread."""

    size = 0x1000

    tsec_id = Register(0x000, RoWord, 0x0124_0000)
    tsec_id2 = Register(0x004, RoWord, 0x0030_00F0)
    ievent = Register(0x010, r.Event)
    imask = Register(0x014, Word)
    edis = Register(0x018, r.ErrorDisable)
    emapg = Register(0x01C, Word)
    ecntrl = Register(0x020, r.Control)
    minflr = Register(0x024, r.FrameLength, 64)
    ptv = Register(0x028, Word)
    dmactrl = Register(0x02C, r.DmaControl)
    tbipa = Register(0x030, r.PhyAddress)
    fifo_rx = RegisterArray(0x050, Word, 4, 4, 0x40)
    fifo_tx_thr = Register(0x08C, Word, 0x80)
    fifo_tx_starve = RegisterArray(0x098, Word, 2, 4, 0x40)
    tctrl = Register(0x100, r.TransmitControl)
    tstat = Register(0x104, r.TransmitStatus)
    dfvlan = Register(0x108, Word, 0x8100_0000)
    txic = Register(0x110, Word)
    tqueue = Register(0x114, r.TransmitQueues, 0x8000)
    weights = RegisterArray(0x140, Word, 2, 4)
    tbdbph = Register(0x180, r.HighBits)
    tbptr = RegisterArray(0x184, r.Pointer, r.QUEUES, 8)
    tbaseh = Register(0x200, r.HighBits)
    tbase = RegisterArray(0x204, r.Pointer, r.QUEUES, 8)
    rctrl = Register(0x300, r.ReceiveControl)
    rstat = Register(0x304, r.ReceiveStatus)
    rxic = Register(0x310, Word)
    rqueue = Register(0x314, r.ReceiveQueues, 0x0080_0080)
    rir = RegisterArray(0x318, Word, 4, 4)
    rbifx = Register(0x330, Word)
    rqfar = Register(0x334, r.FilerIndex)
    rqfcr = Register(0x338, Word)
    rqfpr = Register(0x33C, Word)
    mrblr = Register(0x340, r.BufferLength)
    rbdbph = Register(0x380, r.HighBits)
    rbptr = RegisterArray(0x384, r.Pointer, r.QUEUES, 8)
    rbaseh = Register(0x400, r.HighBits)
    rbase = RegisterArray(0x404, r.Pointer, r.QUEUES, 8)
    maccfg1 = Register(0x500, r.Mac1)
    maccfg2 = Register(0x504, r.Mac2, 0x7000)
    ipgifg = Register(0x508, Word, 0x4060_5060)
    hafdup = Register(0x50C, Word, 0x00A1_F037)
    maxfrm = Register(0x510, r.FrameLength, 0x600)
    miimcfg = Register(0x520, Word, 7)
    miimcom = Register(0x524, r.MiiCommand)
    miimadd = Register(0x528, r.MiiAddress)
    miimcon = Register(0x52C, r.MiiControl)
    miimstat = Register(0x530, r.MiiStatus)
    miimind = Register(0x534, RoWord)
    ifstat = Register(0x53C, RoWord)
    macaddr1 = RegisterArray(0x540, Word, 16, 8)
    macaddr2 = RegisterArray(0x544, r.AddressHigh, 16, 8)
    statistic = RegisterArray(0x680, Word, r.COUNTERS, 4)
    car1 = Register(0x730, r.Carry1)
    car2 = Register(0x734, r.Carry2)
    cam1 = Register(0x738, r.Mask1, 0xFE03_FFFF)
    cam2 = Register(0x73C, r.Mask2, 0x000F_FFFD)
    rrej = Register(0x740, Word)
    igaddr = RegisterArray(0x800, Word, 8, 4)
    gaddr = RegisterArray(0x880, Word, 8, 4)
    fifocfg = Register(0xA00, Word)
    attr = Register(0xBF8, Word)
    attreli = Register(0xBFC, Word)
    rqprm = RegisterArray(0xC00, Word, r.QUEUES, 4)
    rfbptr = RegisterArray(0xC44, r.Pointer, r.QUEUES, 8)
    isrg = RegisterArray(0xEB0, Word, 4, 4)
    rxic_ring = RegisterArray(0xED0, Word, r.QUEUES, 4)
    txic_ring = RegisterArray(0xF10, Word, r.QUEUES, 4)

    phy_registers: list[int] = state(phy.initial)
    filer_control: list[int] = state(lambda: [0] * ENTRIES)
    filer_properties: list[int] = state(lambda: [0] * ENTRIES)
    owed: int = state(int)
    """Events, found under the device's lock and not told yet."""

    def __init__(self, name: str, services: Services) -> None:
        self.transmit_irq, self.receive_irq, self.error_irq = IrqOutput(), IrqOutput(), IrqOutput()
        self.netdev: Port | None = None
        self._services = services
        self._busy = threading.RLock()
        self._bell = services.worker()(name, self._work)
        self._wanted = [False] * r.QUEUES
        """Transmit rings that the driver wants looked at since the worker began to."""
        self._refilled = [False] * r.QUEUES
        """Receive rings that the driver has given buffers to since the receiver began to look for some."""
        self._untold: list[Callable[[], None]] = []
        """What was done in guest memory and the driver has to be told of, under the machine's lock."""
        self._resets = 0  # what a thread found before one is not told after it
        self._complained = False
        self._transmitter, self._receiver = Transmitter(self), Receiver(self)
        super().__init__(name)

    def irqs(self) -> dict[str, IrqOutput]:
        """The three pins."""
        return {"transmit": self.transmit_irq, "receive": self.receive_irq, "error": self.error_irq}

    def _settle(self) -> None:
        self._receiver.filer = None
        self._load_addresses()
        self._update()

    def reset(self) -> None:
        """Forget the driver. Waits until nothing is on its way in guest memory."""
        with self._busy:
            super().reset()
            self._complained = False
            self._begin_anew()
        if self.netdev:
            self.netdev.resume()

    def _begin_anew(self) -> None:
        """What was done before is nobody's concern any more."""
        self._resets += 1
        self._untold.clear()

    @contextmanager
    def still(self) -> Iterator[None]:
        """The worker and the netdev have done with guest memory, and wait; the driver was told."""
        with self._busy:
            self._tell()
            yield

    def restore(self, saved: dict[str, Any]) -> None:
        """Take a saved state, and go on where that left off."""
        with self._busy:
            super().restore(saved)
            self._begin_anew()
        self._begin()

    def close(self) -> None:
        """End the worker."""
        self._bell.close()

    # -- events

    def _update(self) -> None:
        active = self.ievent.value & self.imask.value
        self.transmit_irq.set(bool(active & r.TRANSMIT_EVENTS))
        self.receive_irq.set(bool(active & r.RECEIVE_EVENTS))
        self.error_irq.set(bool(active & ~(r.TRANSMIT_EVENTS | r.RECEIVE_EVENTS)))

    def event(self, bits: int) -> None:
        """Something happened; under the machine's lock."""
        self.ievent.value |= bits & ~self.edis.value
        self._update()

    @ievent.written
    def _on_ievent(self, old: int, new: int) -> None:
        self._update()

    @imask.written
    def _on_imask(self, old: int, new: int) -> None:
        self._update()

    def _complain(self, trouble: str) -> None:
        """Tell the user of the first mistake since the reset."""
        if trouble and not self._complained:
            self._complained = True
            self._services.warn(f"{self.name}: {trouble}; the ring is halted (IEVENT[EBERR])")

    # -- statistics

    def add(self, tally: r.Tally) -> None:
        """Add to the statistics, if they are on; under the device's lock."""
        if not self.ecntrl.statistics:
            return
        for counter, by in tally.counts.items():
            register = self.statistic[counter.place]
            value = register.value + by
            register.value = value & (1 << counter.bits) - 1
            if value >> counter.bits:
                car, cam = (self.car1, self.cam1) if counter.carry < 32 else (self.car2, self.cam2)
                car.value |= 1 << counter.carry % 32
                if not cam.value >> counter.carry % 32 & 1:
                    self.owed |= r.MSRO

    @statistic.read
    def _read_statistic(self, index: int) -> int:
        value = self.statistic[index].value
        if self.ecntrl.auto_zero:
            self.statistic[index].value = 0
        return value

    @ecntrl.written
    def _on_ecntrl(self, old: int, new: int) -> None:
        if self.ecntrl.clear_counters:
            self.ecntrl.clear_counters = 0
            for register in self.statistic:
                register.value = 0

    # -- management bus, addresses, filer

    @property
    def link(self) -> bool:
        """Whether there is a link."""
        return bool(self.netdev and self.netdev.link_up)

    def link_changed(self) -> None:
        """The netdev's link is another: drivers read it from the PHY."""

    @miimcom.written
    def _on_miimcom(self, old: int, new: int) -> None:
        if new:
            found = phy.NOBODY
            if self.miimadd.phy == self.tbipa.address:
                found = phy.read(self.phy_registers, self.miimadd.register, self.link)
            self.miimstat.data = found

    @miimcon.written
    def _on_miimcon(self, old: int, new: int) -> None:
        if self.miimadd.phy == self.tbipa.address:
            phy.write(self.phy_registers, self.miimadd.register, new)

    @macaddr1.written
    def _on_macaddr1(self, index: int, old: int, new: int) -> None:
        self._load_addresses()

    @macaddr2.written
    def _on_macaddr2(self, index: int, old: int, new: int) -> None:
        self._load_addresses()

    def _load_addresses(self) -> None:
        """The addresses of this station: first its own, then those that count where RCTRL[EMEN] is set."""
        self.addresses = [
            (high.value >> 16 | low.value << 16).to_bytes(6, "little")
            for low, high in zip(self.macaddr1, self.macaddr2, strict=True)
        ]

    @rqfcr.read
    def _read_rqfcr(self) -> int:
        return self.filer_control[self.rqfar.index]

    @rqfcr.write
    def _write_rqfcr(self, value: int) -> None:
        self.filer_control[self.rqfar.index] = value
        self._receiver.filer = None

    @rqfpr.read
    def _read_rqfpr(self) -> int:
        return self.filer_properties[self.rqfar.index]

    @rqfpr.write
    def _write_rqfpr(self, value: int) -> None:
        self.filer_properties[self.rqfar.index] = value
        self._receiver.filer = None

    # -- rings

    @tbase.written
    def _on_tbase(self, index: int, old: int, new: int) -> None:
        with self._busy:  # else the worker would put the old place back
            self.tbptr[index].value = new

    @tbptr.write
    def _on_tbptr(self, index: int, value: int) -> None:
        with self._busy:
            self.tbptr[index].value = value & ~7

    @rbase.written
    def _on_rbase(self, index: int, old: int, new: int) -> None:
        with self._busy:
            self.rbptr[index].value = new

    @rbptr.write
    def _on_rbptr(self, index: int, value: int) -> None:
        with self._busy:
            self.rbptr[index].value = value & ~7

    @dmactrl.written
    def _on_dmactrl(self, old: int, new: int) -> None:
        with self._busy:  # what is on its way is done
            stopped = (r.GRSC if self.dmactrl.stop_receive else 0) | (r.GTSC if self.dmactrl.stop_transmit else 0)
        self.event(stopped)
        self._begin()

    @maccfg1.written
    def _on_maccfg1(self, old: int, new: int) -> None:
        self.maccfg1.transmitting, self.maccfg1.receiving = self.maccfg1.transmit, self.maccfg1.receive
        with self._busy:  # nothing is on its way any more when the driver has switched it off
            pass
        self._begin()

    @tqueue.written
    def _on_tqueue(self, old: int, new: int) -> None:
        self._look()

    @tstat.written
    def _on_tstat(self, old: int, new: int) -> None:
        # A driver without interrupts polls its descriptor, some only for milliseconds (U-Boot's tsec): on a busy host
        # the worker might come too late.
        self._wanted = [True] * r.QUEUES
        if self.imask.value or self._send():
            self._bell.ring()

    @rstat.write
    def _on_rstat(self, value: int) -> None:
        before = self.rstat.halted
        self.rstat.guest_write(value, 0xFFFF_FFFF)
        for queue in range(r.QUEUES):
            if value & _RING0_RECEIVE >> queue:
                self._refilled[queue] = True
        if self.netdev and before != self.rstat.halted:
            self.netdev.resume()

    def _look(self) -> None:
        """Have the transmit rings looked at."""
        self._wanted = [True] * r.QUEUES
        if self._sends:
            self._bell.ring()

    def _begin(self) -> None:
        """Transmitter or receiver may have been switched on."""
        self._look()
        if self.netdev and self._listens:
            self.netdev.resume()

    # -- sending

    @property
    def _sends(self) -> bool:
        mac = self.maccfg1
        return bool(mac.transmit and not mac.soft_reset and not self.dmactrl.stop_transmit)

    def sendable(self) -> None:
        """The netdev takes frames again."""
        self._look()

    def _work(self) -> None:
        while self._send():
            pass

    def _send(self) -> bool:
        """Send a batch of each ring; whether there may be more."""
        events = halted = sent = 0
        more, trouble = False, ""
        looped: list[memoryview] = []
        with self._busy:
            for queue in range(r.QUEUES):
                if not self._wanted[queue] or not self._sends or not self.tqueue.enabled << queue & 0x80:
                    continue
                if self.netdev is None or self.netdev.busy:
                    break
                if self.tstat.halted << queue & 0x80:
                    continue
                self._wanted[queue] = False
                batch = self._transmitter.collect(self._services.memory, queue)
                if self.maccfg1.loopback:
                    looped += batch.frames
                elif batch.frames:
                    before = (bytes(HEADER),) if self.netdev.headers else ()
                    outgoing: list[Frame] = [(*before, frame) for frame in batch.frames]
                    self.netdev.send(outgoing)
                self._transmitter.give_back(self._services.memory, queue, batch)
                events |= batch.events
                halted |= _RING0_TRANSMIT >> queue if batch.halted else 0
                sent |= _RING0_SENT >> queue if batch.finished else 0
                trouble = trouble or batch.trouble
                if not batch.halted:
                    more = self._wanted[queue] = True
            events |= self.owed
            self.owed, resets = 0, self._resets
            self._untold.append(lambda: self._sent(events, halted, sent, trouble))
        with self._services.lock:
            if resets != self._resets:
                return True
            self._tell()
        if looped:
            self._receive(looped)
        return more

    def _tell(self) -> None:
        """Tell the driver of what was done; under the machine's lock."""
        while self._untold:
            self._untold.pop(0)()

    def _sent(self, events: int, halted: int, sent: int, trouble: str) -> None:
        for queue in range(r.QUEUES):
            if halted & _RING0_TRANSMIT >> queue and not self._wanted[queue]:
                self.tstat.value |= _RING0_TRANSMIT >> queue
        self.tstat.value |= sent
        if events:
            self.event(events)
        self._complain(trouble)

    # -- receiving

    @property
    def _listens(self) -> bool:
        mac = self.maccfg1
        return bool(mac.receive and not mac.soft_reset and not self.dmactrl.stop_receive)

    def receive(self, frames: Sequence[memoryview]) -> int:
        """Store frames in the driver's buffers; what finds none waits until there are some."""
        if self.maccfg1.loopback:
            return len(frames)
        skip = HEADER if self.netdev and self.netdev.headers else 0
        return self._receive([frame[skip:] for frame in frames] if skip else frames)

    def _receive(self, frames: Sequence[memoryview]) -> int:
        done = 0
        while True:
            with self._busy:
                if not self._listens:
                    return len(frames)
                self._refilled = [False] * r.QUEUES
                taken = self._receiver.take(self._services.memory, frames[done:])
                taken.events |= self.owed
                self.owed, resets = 0, self._resets
                self._untold.append(functools.partial(self._account, taken))
            done += taken.frames
            with self._services.lock:
                self._tell()
                if resets == self._resets and not taken.again:
                    return done

    def _account(self, taken: Taken) -> None:
        """Tell the driver what came in."""
        queue = taken.starved
        taken.again = queue is not None and self._refilled[queue]
        if queue is not None and not taken.again:
            taken.events |= r.BSY
            self.rstat.value |= _RING0_RECEIVE >> queue
        if taken.failed is not None:
            self.rstat.value |= _RING0_RECEIVE >> taken.failed
            self._complain(taken.trouble)
        self.rstat.value |= taken.received
        if taken.events:
            self.event(taken.events)
