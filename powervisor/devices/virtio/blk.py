"""The block device (virtio 1.2, section 5.2): a disk on whatever `powervisor.block` offers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from powervisor.block.backend import SECTOR, Concurrent, Do, Job, perform
from powervisor.block.drives import Counts, Drive
from powervisor.buffers import fill, part
from powervisor.devices.device import state
from powervisor.devices.host_errors import HostErrors
from powervisor.devices.services import Services
from powervisor.devices.virtio.device import RequestDevice
from powervisor.devices.virtio.flights import Flight, Flights
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import MAX_CHAIN, Chain, Ring, RingError
from powervisor.errors import UserError, argument
from powervisor.properties import SIZE, choice, number, prop

SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES = (
    1 << bit for bit in (2, 5, 6, 9, 10, 11, 12, 13, 14)
)
"""Features."""
_HEADER = 16
_RANGE = struct.calcsize("=QII")
_CONFIGURATION = "QII4xIBBHIBxHIIIIIB3x"
_WRITEBACK_AT = 32
_ID_LENGTH = 20
MOST_RANGES = 16
"""Ranges that one discard or write zeroes may name."""
MOST_DISCARDED, MOST_ZEROED = 1 << 22, 1 << 16
"""Sectors of such a range; zeros may have to be written."""
MOST_BYTES = 256 << 20
"""Bytes of one read or write: a driver cannot keep the worker, and those who wait for it, busy for ever."""
_UNMAP = 1
_BATCH_BYTES, _BATCH_REQUESTS = 1 << 20, 32
"""After so much the driver hears of what is done, and can go on meanwhile."""


class Request(IntEnum):
    """Types of requests."""

    READ = 0
    WRITE = 1
    FLUSH = 4
    IDENTIFY = 8
    DISCARD = 11
    WRITE_ZEROES = 13


class Answer(IntEnum):
    """The status byte."""

    OK = 0
    IO_ERROR = 1
    UNSUPPORTED = 2


class _Plan(NamedTuple):
    """What a request comes to: jobs to do one after another, and the answer if they all can be done."""

    answer: Answer
    jobs: Sequence[Job] = ()
    fills: int = 0
    """Bytes of the driver's buffers that are written then."""


_READ, _WRITE, _OK = Do.READ, Do.WRITE, Answer.OK  # an Enum's attributes take a while to find
_FLUSH = Job(Do.FLUSH)
_ERROR, _UNSUPPORTED = _Plan(Answer.IO_ERROR), _Plan(Answer.UNSUPPORTED)


@dataclass(frozen=True)
class BlkOptions(VirtioPciOptions):
    """Properties of virtio-blk-pci."""

    drive: str = prop("", "the -drive's id or the -blockdev's node-name", required=True)
    serial: str = prop("", "serial number the guest can ask for, up to 20 characters")
    logical_block_size: int = prop(512, "bytes the guest addresses", SIZE, name="logical_block_size")
    physical_block_size: int | None = prop(
        None, "bytes the guest should write at once; default as logical_block_size", SIZE, name="physical_block_size"
    )
    write_cache: str = prop("auto", "off: every write is stable when it is done", choice("auto", "on", "off"))
    config_wce: bool = prop(True, "the guest may switch write-cache")
    discard: bool = prop(True, "the guest may discard blocks")
    write_zeroes: bool = prop(True, "the guest may have zeros written")
    num_queues: int = prop(1, "request queues", number(1, 64))
    queue_size: int = prop(256, "entries of a queue, a power of two", number(4, MAX_CHAIN))


class VirtioBlk(RequestDevice):
    """One disk; all queues are served by one thread."""

    kind = 2

    writeback: bool = state(lambda: True)
    """Whether the driver wants to flush itself."""

    def __init__(self, name: str, services: Services, options: BlkOptions, drive: Drive) -> None:
        self.drive, self.backend, self.options = drive, drive.backend, options
        self.counts = drive.counts = Counts()
        features = SEG_MAX | BLK_SIZE | FLUSH | TOPOLOGY
        for feature, offered in (
            (RO, self.backend.read_only),
            (CONFIG_WCE, options.config_wce),
            (MQ, options.num_queues > 1),
            (DISCARD, options.discard and not self.backend.read_only),
            (WRITE_ZEROES, options.write_zeroes and not self.backend.read_only),
        ):
            features |= feature if offered else 0
        self._host_errors = HostErrors(services, name, drive)
        self._flights = None
        if services.concurrent and isinstance(self.backend, Concurrent):
            self._flights = Flights(self.backend, self._ring)
        sizes = (options.queue_size,) * options.num_queues
        super().__init__(name, services, sizes, features | options.features())

    def _settle(self) -> None:
        if self.options.write_cache == "off" and not self.driver_status:
            self.writeback = False

    def configuration(self, order: str) -> bytes:
        """Size, limits, topology."""
        block = self.options.logical_block_size
        exponent = ((self.options.physical_block_size or block) // block).bit_length() - 1
        alignment = block // SECTOR
        return struct.pack(
            order + _CONFIGURATION,
            self.backend.size // SECTOR, 0, self.options.queue_size - 2, block, exponent, 0, 0, 0, self.writeback,
            self.options.num_queues, MOST_DISCARDED, MOST_RANGES, alignment, MOST_ZEROED, MOST_RANGES, 1,
        )  # fmt: skip

    def configure(self, offset: int, data: bytes) -> None:
        """The driver may say whether it flushes."""
        if offset == _WRITEBACK_AT and self.has(CONFIG_WCE):
            self.writeback = bool(data[0] & 1)

    def _ring(self, queue: Queue) -> None:
        queue.rung = True
        self._bell.ring()

    # -- requests

    def serve(self, queue: Queue, ring: Ring) -> None:
        """Requests in order, until the driver should hear of them; or all at once, if the storage can do that."""
        if self._flights:
            self._flights.land(queue, ring)
            while (chain := ring.pop()) is not None:
                self._take_off(self._flights, queue, ring, chain)
            return
        left = _BATCH_BYTES
        for _ in range(_BATCH_REQUESTS):
            chain = ring.pop()
            if chain is None:
                return
            written = self.handle(queue, chain)
            left -= written + sum(map(len, chain.readable))
            ring.push(chain, written)
            if left < 0:
                return

    def handle(self, queue: Queue, chain: Chain) -> int:
        """One request; answers how many bytes were written, the status included."""
        kind, plan = self._plan(chain)
        error = None
        try:
            for job in plan.jobs:
                perform(self.backend, job)
        except OSError as failure:
            error = failure
        return self._answer(chain, kind, plan, error)

    def _take_off(self, flights: Flights, queue: Queue, ring: Ring, chain: Chain) -> None:
        kind, plan = self._plan(chain)
        if not plan.jobs:
            ring.push(chain, self._answer(chain, kind, plan, None))
            return
        flights.begin(Flight(queue, chain, list(plan.jobs), lambda error: self._answer(chain, kind, plan, error)))

    def finish(self) -> None:
        """Wait for the storage."""
        if self._flights:
            self._flights.finish(self.queues)

    def _plan(self, chain: Chain) -> tuple[int, _Plan]:
        header = part(chain.readable, 0, _HEADER)
        writable = sum(map(len, chain.writable))
        if sum(map(len, header)) < _HEADER or not writable:
            raise RingError("a request without header or status")
        kind, _, sector = struct.unpack(self.order + "IIQ", b"".join(header))
        return kind, self._request(kind, sector * SECTOR, chain, writable - 1)

    def _answer(self, chain: Chain, kind: int, plan: _Plan, error: OSError | None) -> int:
        """Write the status; answers how many bytes were written."""
        answer, counts = plan.answer, self.counts
        if plan.jobs:
            do, _, length, _, _ = plan.jobs[0]
            if do is _READ:
                counts.reads, counts.read_bytes = counts.reads + 1, counts.read_bytes + length
            elif do is _WRITE:
                counts.writes, counts.write_bytes = counts.writes + 1, counts.write_bytes + length
            elif do is Do.FLUSH:
                counts.flushes += 1
            else:
                counts.discards += 1
        if error is not None:
            counts.failures += 1
            self._host_errors.tell(Request(kind).name.lower().replace("_", " "), error)
            answer = Answer.IO_ERROR
        last = chain.writable[-1] or part(chain.writable, sum(map(len, chain.writable)) - 1, 1)[0]
        last[-1] = answer
        return plan.fills + 1 if answer is _OK else 1

    def _request(self, kind: int, offset: int, chain: Chain, room: int) -> _Plan:
        """What a request comes to, with `room` bytes to write before the status."""
        if kind == Request.READ:
            if not self._inside(offset, room):
                return _ERROR
            return _Plan(_OK, (Job(_READ, offset, room, part(chain.writable, 0, room)),), room)
        if kind == Request.FLUSH:
            return _Plan(Answer.OK, [_FLUSH])
        if kind == Request.IDENTIFY:
            self._identify(chain, room)
            return _Plan(Answer.OK, (), room)
        data = sum(map(len, chain.readable)) - _HEADER
        if kind == Request.WRITE:
            if self.backend.read_only or not self._inside(offset, data):
                return _ERROR
            return self._stored([Job(_WRITE, offset, data, part(chain.readable, _HEADER, data))])
        if kind in (Request.DISCARD, Request.WRITE_ZEROES):
            feature = DISCARD if kind == Request.DISCARD else WRITE_ZEROES
            if not self.has(feature) or not 0 < data <= _RANGE * MOST_RANGES or data % _RANGE:
                return _UNSUPPORTED
            return self._ranges(kind, b"".join(part(chain.readable, _HEADER, data)))
        return _UNSUPPORTED

    def _inside(self, offset: int, length: int) -> bool:
        aligned = (offset | length) % self.options.logical_block_size == 0
        return aligned and length <= MOST_BYTES and offset + length <= self.backend.size

    def _identify(self, chain: Chain, room: int) -> None:
        data = self.options.serial.encode()[:_ID_LENGTH].ljust(_ID_LENGTH, b"\0")[:room]
        fill(chain.writable, data)

    def _ranges(self, kind: int, data: bytes) -> _Plan:
        """Discard or zero what `data` names, if all of it can be."""
        ranges = list(struct.iter_unpack(self.order + "QII", data))
        zero = kind == Request.WRITE_ZEROES
        for sector, count, flags in ranges:
            if flags & ~(_UNMAP if zero else 0):
                return _UNSUPPORTED
            if count > (MOST_ZEROED if zero else MOST_DISCARDED) or not self._fits(sector * SECTOR, count * SECTOR):
                return _ERROR
        do = Do.ZERO if zero else Do.DISCARD
        return self._stored(
            [
                Job(do, sector * SECTOR, count * SECTOR, unmap=bool(flags & _UNMAP))
                for sector, count, flags in ranges
                if count
            ]
        )

    def _fits(self, offset: int, length: int) -> bool:
        aligned = (offset | length) % self.options.logical_block_size == 0
        return aligned and offset + length <= self.backend.size and not self.backend.read_only

    def _stored(self, jobs: list[Job]) -> _Plan:
        """A driver that does not flush itself expects that what is acknowledged is stable."""
        flush = not (self.writeback and self.features & (FLUSH | CONFIG_WCE))
        return _Plan(_OK, [*jobs, _FLUSH] if flush else jobs)


class VirtioBlkPci(VirtioPci):
    """The block device on PCI."""

    model = "virtio-blk-pci"
    summary = "a disk"
    options_type = BlkOptions
    class_code = 0x010000

    def __init__(self, name: str, options: Any, services: Services) -> None:
        where = f"{argument('devices')} {self.model}"
        _check(options, where)
        drive = services.drives.claim(options.drive, where)
        if drive.backend.granularity > options.logical_block_size:
            unit = drive.backend.granularity
            raise UserError(f"{where}: drive {drive.name} has blocks of {unit} bytes; add logical_block_size={unit}")
        if drive.backend.size % options.logical_block_size:
            size = f"{drive.backend.size} bytes of drive {drive.name}"
            raise UserError(f"{where}: {size} are no whole blocks; change logical_block_size, or the image's size")
        drive.device = name
        super().__init__(name, options, services, VirtioBlk(name, services, options, drive))


def _check(options: BlkOptions, where: str) -> None:
    """Raise UserError for what cannot be had."""
    logical = options.logical_block_size
    for name, value, least in (
        ("logical_block_size", logical, SECTOR),
        ("physical_block_size", options.physical_block_size or logical, logical),
        ("queue-size", options.queue_size, 4),
    ):
        if value & (value - 1) or not least <= value <= 1 << 21:
            raise UserError(f"{where}: {name}={value} cannot be; write a power of two from {least}")
    if len(options.serial.encode()) > _ID_LENGTH:
        raise UserError(f"{where}: serial={options.serial} is too long; write at most {_ID_LENGTH} characters")
