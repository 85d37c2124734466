"""The eSDHC's registers; names are the reference manuals'."""

from __future__ import annotations

from powervisor.devices.registers import Field, Reg


class BlockAttributes(Reg):
    """BLKATTR."""

    count, size = Field(31, 16), Field(12, 0)


NO_RESPONSE, LONG, SHORT, SHORT_BUSY = range(4)
"""TransferType.response."""


class TransferType(Reg):
    """XFERTYP: writing it sends the command."""

    command, kind, with_data = Field(29, 24), Field(23, 22), Field(21)
    check_index, check_crc, response = Field(20), Field(19), Field(17, 16)
    multiple, read, auto_stop, counted, dma = Field(5), Field(4), Field(2), Field(1), Field(0)


class Present(Reg):
    """PRSSTAT. The clock is always stable."""

    data_levels, command_level = Field(31, 24, "ro", 0xFF), Field(23, access="ro", reset=1)
    writable, detect_level, inserted = Field(19, access="ro", reset=1), Field(18, access="ro"), Field(16, access="ro")
    read_buffer, write_buffer = Field(11, access="ro"), Field(10, access="ro")
    reading, writing = Field(9, access="ro"), Field(8, access="ro")
    clock_stable, data_active = Field(3, access="ro", reset=1), Field(2, access="ro")
    data_inhibit, command_inhibit = Field(1, access="ro"), Field(0, access="ro")


BUSY_LEVELS = 0xFE
"""DAT0 is low."""
SIMPLE, ADMA1, ADMA2 = range(3)
BIG_ENDIAN, HALFWORDS, LITTLE_ENDIAN = range(3)


class Protocol(Reg):
    """PROCTL. The kind of DMA and the byte order of DATPORT have an effect; the rest only holds bits."""

    wake_up, block_gap, detection = Field(26, 24), Field(19, 16), Field(7, 6)
    dma_select, endian_mode = Field(9, 8), Field(5, 4, reset=LITTLE_ENDIAN)
    data3_detect, bus_width, led = Field(3), Field(2, 1), Field(0)


class System(Reg):
    """SYSCTL. The resets act at once and read as 0."""

    initialize, reset_data = Field(27, access="wo"), Field(26, access="wo")
    reset_command, reset_all = Field(25, access="wo"), Field(24, access="wo")
    timeout, divider, divisor, enables = Field(19, 16), Field(15, 8, reset=0x80), Field(7, 4), Field(3, 0, reset=8)


class Latched(Reg):
    """IRQSTAT: bits of `Interrupts`; writing 1 clears."""

    bits = Field(31, 0, "w1c")


class Interrupts(Reg):
    """IRQSTATEN and IRQSIGEN."""

    dma_error, adma_error, auto_stop_error = Field(28), Field(25), Field(24)
    data_end_bit, data_crc, data_timeout = Field(22), Field(21), Field(20)
    index_error, end_bit, crc, command_timeout = Field(19), Field(18), Field(17), Field(16)
    card, removed, inserted = Field(8), Field(7), Field(6)
    read_ready, write_ready, dma_done, block_gap = Field(5), Field(4), Field(3), Field(2)
    transfer_complete, command_complete = Field(1), Field(0)


class AutoStopErrors(Reg):
    """AUTOC12ERR."""

    bits = Field(7, 0, "ro")


AUTO_STOP_TIMEOUT = 1 << 1


class ForceEvent(Reg):
    """FEVT: bits of AUTOC12ERR below, of IRQSTAT's errors above."""

    errors, auto_stop = Field(28, 16, "wo"), Field(7, 0, "wo")


class DmaControl(Reg):
    """The ESDHCCTL register; snooping is always on, and the queue always empty."""

    others, flush, rest = Field(31, 19), Field(18, access="wo"), Field(17, 0)


CAPABILITIES = 0x0173_0000
"""3.3 V, DMA, high speed, ADMA, blocks of up to 4096 bytes."""
VERSION = 0x1301
"""2.3, after the SD host controller specification 2.00."""
