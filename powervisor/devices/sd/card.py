"""An SD memory card: its states and commands (SD Physical Layer Simplified Specification 3.01, chapter 4)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from powervisor.block.backend import Backend
from powervisor.devices.device import Device, state
from powervisor.devices.sd import identity
from powervisor.devices.sd.identity import BLOCK


class Mode(IntEnum):
    """The card's state, as the card status numbers it; an INACTIVE card hears nothing more."""

    IDLE, READY, IDENTIFICATION, STANDBY, TRANSFER, SENDING, RECEIVING, PROGRAMMING, DISCONNECTED = range(9)
    INACTIVE = 15


class Status(IntFlag):
    """Bits of the card status."""

    OUT_OF_RANGE = 1 << 31
    ADDRESS_ERROR = 1 << 30
    BLOCK_LENGTH_ERROR = 1 << 29
    ERASE_SEQUENCE_ERROR = 1 << 28
    ERASE_PARAMETER = 1 << 27
    WRITE_PROTECTED = 1 << 26
    ILLEGAL_COMMAND = 1 << 22
    ECC_FAILED = 1 << 21
    ERROR = 1 << 19
    READY_FOR_DATA = 1 << 8
    APPLICATION = 1 << 5


ENDLESS = -1
_OCR_VOLTAGES, _OCR_READY, _OCR_HIGH_CAPACITY = 0x00FF_8000, 1 << 31, 1 << 30
_ADDRESS_STEP = 0x4567
_SAME_FUNCTION = 15
_NO_ERASE = -1
_MOVING = {Mode.SENDING, Mode.RECEIVING}
_SELECTED = {Mode.TRANSFER, Mode.SENDING, Mode.RECEIVING, Mode.PROGRAMMING}
_WITH_ADDRESS = _SELECTED | {Mode.STANDBY, Mode.DISCONNECTED}
_COMMANDS: dict[int, tuple[str, set[Mode]]] = {
    0: ("_go_idle", set(Mode) - {Mode.INACTIVE}),
    2: ("_all_send_cid", {Mode.READY}),
    3: ("_send_address", {Mode.IDENTIFICATION, Mode.STANDBY}),
    6: ("_switch", {Mode.TRANSFER}),
    7: ("_select", {Mode.STANDBY, Mode.DISCONNECTED}),
    8: ("_send_condition", {Mode.IDLE}),
    9: ("_send_csd", {Mode.STANDBY}),
    10: ("_send_cid", {Mode.STANDBY}),
    12: ("_stop", {Mode.SENDING, Mode.RECEIVING, Mode.PROGRAMMING}),
    13: ("_send_status", _WITH_ADDRESS),
    15: ("_go_inactive", _WITH_ADDRESS),
    16: ("_set_block_length", {Mode.TRANSFER}),
    17: ("_read_block", {Mode.TRANSFER}),
    18: ("_read_blocks", {Mode.TRANSFER}),
    23: ("_set_block_count", {Mode.TRANSFER}),
    24: ("_write_block", {Mode.TRANSFER}),
    25: ("_write_blocks", {Mode.TRANSFER}),
    32: ("_erase_first", {Mode.TRANSFER}),
    33: ("_erase_last", {Mode.TRANSFER}),
    38: ("_erase", {Mode.TRANSFER}),
    55: ("_application", _WITH_ADDRESS | {Mode.IDLE}),
}
_APPLICATION_COMMANDS: dict[int, tuple[str, set[Mode]]] = {
    6: ("_set_bus_width", {Mode.TRANSFER}),
    13: ("_sd_status", {Mode.TRANSFER}),
    22: ("_send_written", {Mode.TRANSFER}),
    23: ("_accept", {Mode.TRANSFER}),  # how many blocks are going to be written: only a hint
    41: ("_send_operating_condition", {Mode.IDLE}),
    42: ("_accept", {Mode.TRANSFER}),  # the pull-up of DAT3, which nobody can measure here
    51: ("_send_scr", {Mode.TRANSFER}),
}
_ADDRESSED = {7, 9, 10, 13, 15, 55}
"""Commands whose argument begins with the card's address."""
_ERASE_SEQUENCE = {13, 32, 33, 38, 55}
"""Commands that leave the chosen range alone."""
_COUNTED = {13, 18, 25}
"""Commands that leave the block count alone, or use it."""


class SdCard(Device):
    """A card on `backend`, whose size is one a card can have. Whoever it sits in moves the bytes.

    While the mode is SENDING or RECEIVING these are blocks of `block` bytes, `left` bytes of them or ENDLESS:
    of `reply`, or else of the storage, at `offset`.
    """

    size = 0

    mode: int = state(lambda: int(Mode.IDLE))
    errors: int = state(int)
    application: bool = state(bool)
    address: int = state(int)
    block_length: int = state(lambda: BLOCK)
    block_count: int = state(int)
    wide: bool = state(bool)
    fast: bool = state(bool)
    written: int = state(int)
    """Blocks stored by the last write command."""
    erase_first: int = state(lambda: _NO_ERASE)
    erase_last: int = state(lambda: _NO_ERASE)
    erasing: int = state(int)
    """Bytes from `offset` that are still to be erased."""
    reply: bytes = state(bytes)
    block: int = state(int)
    offset: int = state(int)
    left: int = state(int)

    def __init__(self, name: str, backend: Backend) -> None:
        self.backend = backend
        self.high_capacity = backend.size > identity.HIGH_CAPACITY
        super().__init__(name)

    # -- commands

    def command(self, index: int, argument: int) -> bytes | None:
        """The response's content, 4 bytes or a register's 16; None when the card is silent."""
        application = self.application and index in _APPLICATION_COMMANDS
        foreign = index in _ADDRESSED and self.mode in _WITH_ADDRESS and argument >> 16 != self.address
        if foreign and not application:
            if index == 7:
                self._deselect()
            return None
        name, modes = (_APPLICATION_COMMANDS if application else _COMMANDS).get(index, ("", set()))
        self.application = application
        if self.mode not in modes:
            self.errors |= Status.ILLEGAL_COMMAND
            answer = None
        else:
            if index not in _ERASE_SEQUENCE:
                self.erase_first = self.erase_last = _NO_ERASE
            if index not in _COUNTED:
                self.block_count = 0
            answer = getattr(self, name)(argument)
        if application:
            self.application = False
        return answer

    def _r1(self) -> bytes:
        """The card status, with the mode before the command; errors are told once."""
        ready = 0 if self.erasing else Status.READY_FOR_DATA
        status = self.errors | self.mode << 9 | ready | (Status.APPLICATION if self.application else 0)
        self.errors = 0
        return int(status).to_bytes(4, "big")

    def _accept(self, argument: int) -> bytes:
        return self._r1()

    def _go_idle(self, argument: int) -> None:
        self.reset()

    def _go_inactive(self, argument: int) -> None:
        self.mode = Mode.INACTIVE

    def _send_condition(self, argument: int) -> bytes | None:
        """CMD8: the voltage is accepted and the check pattern returned."""
        return (argument & 0xFFF).to_bytes(4, "big") if argument >> 8 & 0xF == 1 else None

    def _application(self, argument: int) -> bytes:
        self.application = True
        return self._r1()

    def _send_operating_condition(self, argument: int) -> bytes | None:
        """ACMD41: without voltages a question, else the end of the card's power-up if the host knows such cards."""
        if argument & _OCR_VOLTAGES and (argument & _OCR_HIGH_CAPACITY or not self.high_capacity):
            self.mode = Mode.READY
        ready = _OCR_READY | (_OCR_HIGH_CAPACITY if self.high_capacity else 0)
        return (_OCR_VOLTAGES | (ready if self.mode == Mode.READY else 0)).to_bytes(4, "big")

    def _all_send_cid(self, argument: int) -> bytes:
        self.mode = Mode.IDENTIFICATION
        return identity.cid()

    def _send_address(self, argument: int) -> bytes:
        """CMD3: the card chooses an address; R6 has the status in few bits."""
        status = int.from_bytes(self._r1(), "big")
        self.address = self.address + _ADDRESS_STEP & 0xFFFF or _ADDRESS_STEP
        self.mode = Mode.STANDBY
        short = status >> 8 & 0xC000 | status >> 6 & 0x2000 | status & 0x1FFF
        return (self.address << 16 | short).to_bytes(4, "big")

    def _send_cid(self, argument: int) -> bytes:
        return identity.cid()

    def _send_csd(self, argument: int) -> bytes:
        return identity.csd(self.backend.size, self.fast, self.backend.read_only)

    def _select(self, argument: int) -> bytes:
        status = self._r1()
        self.mode = Mode.PROGRAMMING if self.mode == Mode.DISCONNECTED else Mode.TRANSFER
        return status

    def _deselect(self) -> None:
        if self.mode == Mode.PROGRAMMING:
            self.mode = Mode.DISCONNECTED
        elif self.mode in (Mode.TRANSFER, Mode.SENDING):
            self.mode, self.left = Mode.STANDBY, 0

    def _send_status(self, argument: int) -> bytes:
        return self._r1()

    def _set_bus_width(self, argument: int) -> bytes:
        self.wide = argument & 3 == 2
        return self._r1()

    def _stop(self, argument: int) -> bytes:
        status = self._r1()
        if self.mode != Mode.PROGRAMMING:
            self.mode, self.left = Mode.TRANSFER, 0
        return status

    # -- registers as data

    def _send(self, data: bytes) -> bytes:
        status = self._r1()
        self.mode, self.reply = Mode.SENDING, data
        self.block, self.offset, self.left = len(data), 0, len(data)
        return status

    def _switch(self, argument: int) -> bytes:
        """CMD6: asks for, or chooses, functions; one that is not there in any group changes nothing."""
        asked = [argument >> 4 * group & 15 for group in range(5, -1, -1)]
        current = [0] * 5 + [int(self.fast)]
        found = [
            now if want == _SAME_FUNCTION else want if want <= (group == 5) else _SAME_FUNCTION
            for group, (want, now) in enumerate(zip(asked, current, strict=True))
        ]
        if argument >> 31 and _SAME_FUNCTION not in found:
            self.fast = bool(found[5])
        return self._send(identity.switch_status(found))

    def _sd_status(self, argument: int) -> bytes:
        return self._send(identity.sd_status(self.wide, self.high_capacity))

    def _send_written(self, argument: int) -> bytes:
        return self._send(self.written.to_bytes(4, "big"))

    def _send_scr(self, argument: int) -> bytes:
        return self._send(identity.scr())

    # -- blocks

    def _set_block_length(self, argument: int) -> bytes:
        if 0 < argument <= BLOCK:
            self.block_length = argument
        else:
            self.errors |= Status.BLOCK_LENGTH_ERROR
        return self._r1()

    def _set_block_count(self, argument: int) -> bytes:
        self.block_count = argument
        return self._r1()

    def _place(self, argument: int) -> int:
        """An address in a command as an offset."""
        return argument * BLOCK if self.high_capacity else argument

    def _begin(self, mode: Mode, argument: int, count: int) -> bytes:
        """Send or take `count` blocks, 0 for as many as there come, or tell why not."""
        length = BLOCK if self.high_capacity else self.block_length
        offset = self._place(argument)
        if offset + length > self.backend.size:
            self.errors |= Status.OUT_OF_RANGE
        elif offset % BLOCK + length > BLOCK:
            self.errors |= Status.ADDRESS_ERROR
        elif mode == Mode.RECEIVING and length != BLOCK:
            self.errors |= Status.BLOCK_LENGTH_ERROR
        elif mode == Mode.RECEIVING and self.backend.read_only:
            self.errors |= Status.WRITE_PROTECTED
        else:
            status = self._r1()
            self.mode, self.reply, self.block, self.offset = mode, b"", length, offset
            self.left = count * length if count else ENDLESS
            self.written = 0 if mode == Mode.RECEIVING else self.written
            return status
        return self._r1()

    def _read_block(self, argument: int) -> bytes:
        return self._begin(Mode.SENDING, argument, 1)

    def _read_blocks(self, argument: int) -> bytes:
        count, self.block_count = self.block_count, 0
        return self._begin(Mode.SENDING, argument, count)

    def _write_block(self, argument: int) -> bytes:
        return self._begin(Mode.RECEIVING, argument, 1)

    def _write_blocks(self, argument: int) -> bytes:
        count, self.block_count = self.block_count, 0
        return self._begin(Mode.RECEIVING, argument, count)

    def _erase_first(self, argument: int) -> bytes:
        self.erase_first, self.erase_last = argument, _NO_ERASE
        return self._r1()

    def _erase_last(self, argument: int) -> bytes:
        if self.erase_first == _NO_ERASE:
            self.errors |= Status.ERASE_SEQUENCE_ERROR
        else:
            self.erase_last = argument
        return self._r1()

    def _erase(self, argument: int) -> bytes:
        """CMD38: from now on busy, until `erased` was called for everything."""
        first, last = (self._place(at) // BLOCK * BLOCK for at in (self.erase_first, self.erase_last))
        if self.erase_last == _NO_ERASE:
            self.errors |= Status.ERASE_SEQUENCE_ERROR
        elif first > last:
            self.errors |= Status.ERASE_PARAMETER
        elif last >= self.backend.size:
            self.errors |= Status.OUT_OF_RANGE
        elif self.backend.read_only:
            self.errors |= Status.WRITE_PROTECTED
        else:
            status = self._r1()
            self.mode, self.offset, self.erasing = Mode.PROGRAMMING, first, last + BLOCK - first
            return status
        return self._r1()

    # -- what its socket asks and tells

    def reach(self, length: int) -> int:
        """How many of `length` bytes it can send or take now; fewer at the end of the storage, which is an error."""
        if self.mode not in _MOVING:
            return 0
        if self.left != ENDLESS:
            length = min(length, self.left)
        if not self.reply and self.offset + length > self.backend.size:
            length = self.backend.size - self.offset
            self.errors |= Status.OUT_OF_RANGE
        return length

    def moved(self, length: int) -> None:
        """That many bytes were sent or taken."""
        if self.mode not in _MOVING:
            return
        self.offset += length
        if self.mode == Mode.RECEIVING:
            self.written += length // BLOCK
        if self.left != ENDLESS:
            self.left -= length
            if not self.left:
                self.mode = Mode.TRANSFER

    def failed(self) -> None:
        """The host's storage failed: no more bytes are sent or taken, and the next status tells it."""
        self.errors |= Status.ECC_FAILED if self.mode == Mode.SENDING else Status.ERROR
        if self.erasing:
            self.erased(self.erasing)
        else:
            self.abandon()

    def abandon(self) -> None:
        """Nobody wants the rest; after a command without a count it waits to be stopped."""
        if self.left != ENDLESS and self.mode in _MOVING:
            self.mode = Mode.TRANSFER
        self.left = 0

    def erased(self, length: int) -> None:
        """That many bytes at `offset` were erased."""
        self.offset += length
        self.erasing -= length
        if not self.erasing:
            self.mode = Mode.STANDBY if self.mode == Mode.DISCONNECTED else Mode.TRANSFER
