"""The enhanced SD host controller (eSDHC) of the QorIQ chips, vendor version 2.3, with one slot.

Commands are answered at once. Bytes are moved on a worker's thread, in steps: the controller and the card stand still
between two of them, under the machine's lock, and I/O goes on without it.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from powervisor.block.backend import Backend, fetch, store
from powervisor.buffers import fill
from powervisor.devices.device import Device, state
from powervisor.devices.registers import Register, RegisterArray, RoWord, Word
from powervisor.devices.sd import adma
from powervisor.devices.sd.card import ENDLESS, Mode, SdCard
from powervisor.devices.sd.esdhc_registers import (
    ADMA2,
    AUTO_STOP_TIMEOUT,
    BIG_ENDIAN,
    BUSY_LEVELS,
    CAPABILITIES,
    HALFWORDS,
    LONG,
    NO_RESPONSE,
    SHORT_BUSY,
    SIMPLE,
    VERSION,
    AutoStopErrors,
    BlockAttributes,
    DmaControl,
    ForceEvent,
    Interrupts,
    Latched,
    Present,
    Protocol,
    System,
    TransferType,
)  # fmt: skip
from powervisor.devices.sd.plugged import PluggedSdCard
from powervisor.devices.worker import Bell
from powervisor.memory.space import BusError, Dma

CLOCK_HZ = 200_000_000
"""What the clock divider divides."""
STEP = 1 << 20
"""Bytes of one step; whoever ends a transfer waits for no more."""
ERASE_STEP = 16 << 20
BUFFER = 16 << 10
"""Bytes read ahead for, or gathered from, a driver that moves them itself."""
_STOP = 12
_ENDING = {0, _STOP, 15}
"""Commands that end a transfer under way."""
_DEEDS: dict[int, str] = {Mode.SENDING: "read", Mode.RECEIVING: "write", Mode.PROGRAMMING: "erase"}
_ERRORS = ForceEvent.errors.mask
_ENABLED = sum(f.mask for f in Interrupts.fields.values())
_BITS = {name: f.mask for name, f in Interrupts.fields.items()}
_OF_DATA = ("read_ready", "write_ready", "dma_done", "block_gap", "transfer_complete")


@dataclass
class _Step:
    """What the worker does next: `length` bytes of the card's storage at `offset`, or of `reply`, and `views`."""

    mode: int
    offset: int
    length: int
    reply: bytes = b""
    views: list[memoryview] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """What of guest RAM the views are."""
    buffer: bytearray | None = None
    """What a view is of that is not in guest RAM."""
    cursor: adma.Cursor | None = None
    last: bool = False

    def work(self, backend: Backend) -> None:
        """Move or erase the bytes. Raises OSError."""
        if self.mode == Mode.SENDING and self.reply:
            fill(self.views, self.reply[self.offset :])
        elif self.mode == Mode.SENDING:
            fetch(backend, self.views, self.offset)
        elif self.mode == Mode.RECEIVING:
            store(backend, self.views, self.offset)
        else:
            backend.write_zeroes(self.offset, self.length, unmap=True)
        if self.last and self.mode != Mode.SENDING:
            backend.flush()  # a card has stored what it says it has stored


class Esdhc(Device):
    """The controller; `attach` puts a card into its slot. All registers are meant to be accessed as words."""

    size = 0x1000
    # The P4080's has a card detection that can be relied upon, so that Linux need not poll for a card.
    compatible = ("fsl,p4080-esdhc", "fsl,esdhc")

    dsaddr = Register(0x00, Word)
    blkattr = Register(0x04, BlockAttributes)
    cmdarg = Register(0x08, Word)
    xfertyp = Register(0x0C, TransferType)
    cmdrsp = RegisterArray(0x10, RoWord, 4, 4)
    datport = Register(0x20, Word)
    prsstat = Register(0x24, Present)
    proctl = Register(0x28, Protocol)
    sysctl = Register(0x2C, System)
    irqstat = Register(0x30, Latched)
    irqstaten = Register(0x34, Interrupts, reset=_ENABLED & ~(_BITS["inserted"] | _BITS["removed"]))
    irqsigen = Register(0x38, Interrupts)
    autoc12err = Register(0x3C, AutoStopErrors)
    hostcapblt = Register(0x40, RoWord, reset=CAPABILITIES)
    wml = Register(0x44, Word, reset=0x0010_0010)
    fevt = Register(0x50, ForceEvent)
    admaes = Register(0x54, RoWord)
    adsaddr = Register(0x58, Word)
    hostver = Register(0xFC, RoWord, reset=VERSION)
    esdhcctl = Register(0x40C, DmaControl)

    moving: bool = state(bool)
    """Data is on its way, of which `left` bytes have not passed between card and guest, or ENDLESS."""
    left: int = state(int)
    transfer: int = state(int)
    """XFERTYP as it was when the data began."""
    block: int = state(int)
    """And the size of its blocks."""
    fifo: bytearray = state(bytearray)
    """What DATPORT has for the guest from `taken` on, or from it."""
    taken: int = state(int)
    descriptor: list[int] = state(lambda: [0, 0, 0])
    """What is left of the ADMA descriptor before ADSADDR: address, length, whether it is the last."""

    def __init__(self, name: str, dma: Dma) -> None:
        self._dma = dma
        self.card: SdCard | None = None
        self._lock: AbstractContextManager[object] = threading.RLock()
        self._busy = threading.RLock()  # the worker is at I/O; taken after the machine's lock
        self._step: _Step | None = None
        self._bell: Bell | None = None
        super().__init__(name)

    def attach(self, card: PluggedSdCard) -> None:
        """Put `card` into the slot. Raises ValueError when another one is there."""
        if self.card is not None:
            raise ValueError(f"the slot has {self.card.name} already")
        self.card, self._host_errors, self._lock = card, card.host_errors, card.services.lock
        self._bell = card.services.worker()(self.name, self._work)

    # -- the machine's side

    def parts(self) -> list[Device]:
        """The card."""
        return [self.card] if self.card else []

    def close(self) -> None:
        """End the worker; let go of guest memory."""
        if self._bell:
            self._bell.close()
        self._step = None

    def reset(self) -> None:
        """Return to the state after power-on. Waits until the worker has done with guest memory."""
        self._cancel()
        super().reset()

    def still(self) -> AbstractContextManager[object]:
        """The worker is done with guest memory and storage, though not with its step, which will be done again."""
        return self._busy

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned. Raises ValueError for what this device does not have."""
        self._cancel()
        super().restore(saved)
        self._ring()

    def _settle(self) -> None:
        self.irq.set(bool(self.irqstat.value & self.irqsigen.value))

    def _ring(self) -> None:
        if self._bell:
            self._bell.ring()

    def _cancel(self) -> None:
        """Whatever is on its way has no effect any more on the state."""
        with self._busy:
            self._step = None

    # -- interrupts

    def _raise(self, *names: str) -> None:
        self._latch(sum(_BITS[name] for name in names))

    def _latch(self, bits: int) -> None:
        self.irqstat.value |= bits & self.irqstaten.value
        self._settle()

    @irqstat.written
    def _on_irqstat(self, old: int, new: int) -> None:
        self._settle()

    @irqsigen.written
    def _on_irqsigen(self, old: int, new: int) -> None:
        self._settle()

    @fevt.write
    def _on_fevt(self, value: int) -> None:
        self.autoc12err.value |= value & ForceEvent.auto_stop.mask
        self._latch(value & _ERRORS)

    # -- state and control

    @prsstat.read
    def _read_prsstat(self) -> int:
        now, card = Present(), self.card
        busy = bool(card and card.erasing)
        now.detect_level = now.inserted = card is not None
        now.writable = not (card and card.backend.read_only)
        now.data_levels = BUSY_LEVELS if busy else 0xFF
        now.data_inhibit = self.moving or busy
        now.data_active = self.moving
        now.reading, now.writing = self.moving and self._reading, self.moving and not self._reading
        now.read_buffer = self._by_hand and self._reading and self.taken < len(self.fifo)
        now.write_buffer = self._by_hand and not self._reading and self.taken < self._gathered()
        return now.value

    @sysctl.written
    def _on_sysctl(self, old: int, new: int) -> None:
        sysctl = self.sysctl
        everything, data, command = sysctl.reset_all, sysctl.reset_data, sysctl.reset_command
        sysctl.initialize = sysctl.reset_all = sysctl.reset_data = sysctl.reset_command = 0
        if everything:
            kept = self.esdhcctl.value
            self._end_transfer()
            self.reset()
            self.esdhcctl.value = kept
        if data:
            self._end_transfer()
            self.irqstat.value &= ~sum(_BITS[name] for name in _OF_DATA)
        if command:
            self.irqstat.value &= ~_BITS["command_complete"]
        self._settle()

    @esdhcctl.written
    def _on_esdhcctl(self, old: int, new: int) -> None:
        self.esdhcctl.flush = 0

    # -- commands

    @xfertyp.written
    def _on_xfertyp(self, old: int, new: int) -> None:
        typ, card = self.xfertyp, self.card
        if card and typ.command in _ENDING:
            self._end_transfer()
        data_busy = self.moving or (card is not None and card.erasing)
        answer = None
        if card and not (data_busy and typ.with_data):
            answer = card.command(typ.command, self.cmdarg.value)
        if answer is None and typ.response != NO_RESPONSE:
            self._raise("command_timeout")
            return
        if typ.response != NO_RESPONSE and answer:
            self._respond(answer, typ.response == LONG)
        self._raise("command_complete")
        if card and card.erasing:
            self._ring()
        elif card and typ.with_data:
            self._begin(card)
        elif typ.response == SHORT_BUSY:
            self._raise("transfer_complete")

    def _respond(self, answer: bytes, long: bool) -> None:
        """Of a register of 16 bytes all but the checksum, of others 4 bytes."""
        value = int.from_bytes(answer, "big")
        if long and len(answer) == 16:
            for index in range(4):
                self.cmdrsp[index].value = value >> 8 + 32 * index & 0xFFFF_FFFF
        else:
            self.cmdrsp[0].value = value & 0xFFFF_FFFF

    # -- data

    def _begin(self, card: SdCard) -> None:
        """The data of a command that was answered."""
        typ, blocks = self.xfertyp, self.blkattr
        if card.mode != (Mode.SENDING if typ.read else Mode.RECEIVING):
            self._raise("data_timeout")
            return
        if blocks.size != card.block:
            card.abandon()
            self._raise("data_crc")
            return
        count = 1 if not typ.multiple else blocks.count if typ.counted else ENDLESS
        self.left = count * blocks.size if count >= 0 else ENDLESS
        self.moving, self.transfer, self.block = True, typ.value, blocks.size
        self.fifo, self.taken, self.descriptor = bytearray(), 0, [0, 0, 0]
        if not self.left:
            self._complete(card)
            return
        if self._by_hand and not self._reading:
            self._raise("write_ready")
        else:
            self._ring()

    @property
    def _reading(self) -> bool:
        return bool(TransferType(self.transfer).read)

    @property
    def _by_hand(self) -> bool:
        """Whether the guest moves bytes by itself."""
        return self.moving and not TransferType(self.transfer).dma

    def _gathered(self) -> int:
        """How many bytes are read ahead, or gathered, at most: whole blocks."""
        if self.left == ENDLESS:
            return self.block
        return min(max(self.block, BUFFER // self.block * self.block), self.left)

    def _end_transfer(self) -> None:
        """Somebody ends a transfer, and perhaps waits for a step."""
        self._cancel()
        if self.moving and self.card:
            self.card.abandon()
        self.moving = False
        if self.card and self.card.erasing:  # which goes on
            self._ring()

    def _complete(self, card: SdCard) -> None:
        """All bytes have passed."""
        self.moving = False
        typ = TransferType(self.transfer)
        done = ["transfer_complete", "dma_done"] if typ.dma else ["transfer_complete"]
        if typ.auto_stop and typ.multiple:
            answer = card.command(_STOP, 0)
            if answer is None:
                self.autoc12err.value |= AUTO_STOP_TIMEOUT
                done.append("auto_stop_error")
            else:
                self.cmdrsp[3].value = int.from_bytes(answer, "big")
        self._raise(*done)

    def _fail(self, card: SdCard, *names: str) -> None:
        card.abandon()
        self.moving = False
        self._raise(*names)

    @datport.read
    def _read_datport(self) -> int:
        if not (self._by_hand and self._reading and self.card):
            return 0
        value = self._ordered(bytes(self.fifo[self.taken : self.taken + 4]).ljust(4, b"\0"))
        self._pass(self.card, min(4, len(self.fifo) - self.taken))
        return value

    @datport.write
    def _write_datport(self, value: int) -> None:
        if not (self._by_hand and not self._reading and self.card):
            return
        room = min(4, self._gathered() - self.taken)
        if room > 0:
            self.fifo += self._ordered(value.to_bytes(4, "big")).to_bytes(4, "big")[:room]
            self._pass(self.card, room)

    def _ordered(self, data: bytes) -> int:
        """Four bytes in the order in which DATPORT shows them; the same both ways."""
        mode = self.proctl.endian_mode
        if mode == HALFWORDS:
            return int.from_bytes(data[1::-1] + data[:1:-1], "big")
        return int.from_bytes(data, "big" if mode == BIG_ENDIAN else "little")

    def _pass(self, card: SdCard, length: int) -> None:
        """The guest has moved bytes between memory and `fifo`."""
        if length <= 0:
            return
        self.taken += length
        if self.taken < (len(self.fifo) if self._reading else self._gathered()):
            if not self.taken % self.block:
                self._raise("read_ready" if self._reading else "write_ready")
        elif not self._reading or self.left:
            self._ring()
        else:
            self._complete(card)

    # -- the worker

    def _work(self) -> None:
        while True:
            with self._lock:
                step = self._next_step()
                if step is None or self.card is None:
                    return
                self._busy.acquire()
            failure = None
            try:
                step.work(self.card.backend)
            except OSError as error:
                failure = error
            finally:
                step.views.clear()
                if step.mode == Mode.SENDING:
                    for pa, length in step.pieces:
                        self._dma.space.written(pa, length)
                self._busy.release()
            with self._lock:
                if step is self._step:
                    self._step = None
                    self._finish(self.card, step, failure)

    def _next_step(self) -> _Step | None:
        """What there is to do, which is then `_step`; None when the guest has to do something first."""
        card = self.card
        if card is None or self._step is not None:
            return None
        if card.erasing:
            length = min(card.erasing, ERASE_STEP)
            self._step = _Step(Mode.PROGRAMMING, card.offset, length, last=length == card.erasing)
        elif self.moving:
            try:
                self._step = self._by_fifo(card) if self._by_hand else self._by_dma(card)
            except adma.AdmaError as error:
                self.admaes.value, self.adsaddr.value = error.state, error.table
                self._fail(card, "adma_error")
            except BusError:
                self._fail(card, "dma_error")
        return self._step

    def _by_fifo(self, card: SdCard) -> _Step | None:
        most = self._gathered()
        if self.taken < (len(self.fifo) if self._reading else most):
            return None
        if not (length := self._reach(card, most)):
            return None
        buffer = bytearray(length) if self._reading else self.fifo
        step = self._transfer(card, length)
        step.buffer, step.views = buffer, [memoryview(buffer)[:length]]
        return step

    def _reach(self, card: SdCard, most: int) -> int:
        """How many bytes can pass now; when there are none, that is the end."""
        length = card.reach(most) if card.mode == (Mode.SENDING if self._reading else Mode.RECEIVING) else 0
        if not length:
            self._fail(card, "data_timeout")
        return length

    def _by_dma(self, card: SdCard) -> _Step | None:
        length = self._reach(card, STEP if self.left == ENDLESS else min(self.left, STEP))
        if not length:
            return None
        cursor, kind = None, self.proctl.dma_select
        if kind == ADMA2:
            address, rest, ended = self.descriptor
            cursor = adma.Cursor(self.adsaddr.value, address, rest, bool(ended))
            views, pieces, cursor = adma.gather(self._dma, cursor, length)
            length = sum(map(len, views))
        elif kind == SIMPLE:
            pieces = self._dma.pieces(self.dsaddr.value, length, True)
            views = [self._dma.view(pa, n, True) for pa, n in pieces]
        else:
            raise adma.AdmaError(adma.FETCH, self.adsaddr.value)
        step = self._transfer(card, length)
        step.views, step.pieces, step.cursor = views, pieces, cursor
        return step

    def _transfer(self, card: SdCard, length: int) -> _Step:
        return _Step(card.mode, card.offset, length, card.reply, last=self.left in (length, ENDLESS))

    def _finish(self, card: SdCard, step: _Step, failure: OSError | None) -> None:
        """A step is done; the guest is told what it should hear of it."""
        if failure is not None:
            self._host_errors.tell(
                {Mode.SENDING: "read", Mode.RECEIVING: "write"}.get(Mode(step.mode), "erase"), failure
            )
            card.failed()
            if step.mode == Mode.PROGRAMMING:
                self._raise("transfer_complete")
            else:
                self._fail(card, "data_timeout" if step.mode == Mode.SENDING else "data_crc")
            return
        if step.mode == Mode.PROGRAMMING:
            card.erased(step.length)
            if not card.erasing:
                self._raise("transfer_complete")
            return
        card.moved(step.length)
        if self.left != ENDLESS:
            self.left -= step.length
            self.blkattr.count = min(-(-self.left // self.block), 0xFFFF)
        if step.cursor is not None:
            self.adsaddr.value = step.cursor.table
            self.descriptor = [step.cursor.address, step.cursor.left, int(step.cursor.ended)]
        elif step.buffer is None:
            self.dsaddr.value = self.dsaddr.value + step.length & 0xFFFF_FFFF
        if step.buffer is not None and step.mode == Mode.SENDING:
            self.fifo, self.taken = step.buffer, 0
            self._raise("read_ready")
        elif not self.left:
            self._complete(card)
        elif step.buffer is not None:
            self.fifo, self.taken = bytearray(), 0
            self._raise("write_ready")
