"""The network device (virtio 1.2, section 5.1): an Ethernet card in front of whatever `powervisor.net` offers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from powervisor.buffers import part
from powervisor.devices.device import state
from powervisor.devices.ethernet import BROADCAST, ETHERNET_HEADER, NicOptions
from powervisor.devices.services import Services
from powervisor.devices.virtio.device import RequestDevice, Status
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import MAX_CHAIN, Chain, Ring, RingError
from powervisor.errors import UserError, argument
from powervisor.net.netdev import HEADER, MAX_FRAME, Frame, Port
from powervisor.properties import number, prop

CSUM, GUEST_CSUM, MTU, MAC_ADDRESS, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, HOST_TSO4, HOST_TSO6, HOST_ECN = (
    1 << bit for bit in (0, 1, 3, 5, 7, 8, 9, 11, 12, 13)
)
MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA, CTRL_MAC_ADDR = (
    1 << bit for bit in (15, 16, 17, 18, 19, 20, 23)
)
"""Features."""
RECEIVE, TRANSMIT, CONTROL = range(3)
"""Queues."""
_CONFIGURATION = "6sHHH"
_HEADER = "BBHHHH"
_LONG_HEADER = HEADER + 2
"""With the number of buffers, which virtio 1.0 always has, and legacy drivers with MRG_RXBUF."""
_BATCH_FRAMES, _BATCH_BYTES = 64, 256 << 10
"""After so much frames are sent, and the driver hears of them."""
_LINK_UP = 1

PROMISCUOUS, ALL_MULTICAST, ALL_UNICAST, NO_MULTICAST, NO_UNICAST, NO_BROADCAST = (1 << command for command in range(6))
"""Modes of receiving; the commands that switch them are numbered alike."""
_BASIC_MODES, _MODES = 2, 6
MORE_UNICAST, MORE_MULTICAST = 1 << 8, 1 << 9
"""The driver wants more addresses than there are places."""
_PLACES = 64
_VLANS = 4096
_ETHERTYPE_VLAN = b"\x81\x00"


@dataclass(frozen=True)
class NetOptions(NicOptions, VirtioPciOptions):
    """Properties of virtio-net-pci."""

    host_mtu: int | None = prop(
        None, "the MTU that the driver is told, 0 for none; default what the netdev likes, if above 1500",
        number(0, 65535), name="host_mtu",
    )  # fmt: skip
    mrg_rxbuf: bool = prop(True, "a frame may be received into several buffers", name="mrg_rxbuf")
    status: bool = prop(True, "the driver is told about the link")
    ctrl_vq: bool = prop(True, "a queue for commands: address, receive filter", name="ctrl_vq")
    csum: bool = prop(True, "the driver leaves checksums to the netdev that can make them")
    guest_csum: bool = prop(
        True, "the driver takes frames with unfinished checksums from such a netdev", name="guest_csum"
    )
    host_tso4: bool = prop(True, "the driver leaves segments of TCP over IPv4 to such a netdev", name="host_tso4")
    host_tso6: bool = prop(True, "the same over IPv6", name="host_tso6")
    guest_tso4: bool = prop(True, "the driver takes long segments over IPv4 from such a netdev", name="guest_tso4")
    guest_tso6: bool = prop(True, "the same over IPv6", name="guest_tso6")
    rx_queue_size: int = prop(
        256, "entries of the receive queue, a power of two", number(64, 1024), name="rx_queue_size"
    )
    tx_queue_size: int = prop(
        256, "entries of the transmit queue, a power of two", number(64, 1024), name="tx_queue_size"
    )


class VirtioNet(RequestDevice):
    """One pair of queues. What is sent goes out on the worker's thread, what arrives comes in on the netdev's."""

    kind = 1

    mac: bytes = state(bytes)
    modes: int = state(lambda: PROMISCUOUS)
    unicast: bytes = state(bytes)
    """Addresses to receive besides `mac`, one after another."""
    multicast: bytes = state(bytes)
    vlans: bytearray = state(lambda: bytearray(_VLANS // 8))
    """A bit for each VLAN whose frames are received."""
    had_link: bool = state(lambda: True, keep=True)
    """Whether there was a link when it was saved."""

    def __init__(self, name: str, where: str, services: Services, options: NetOptions) -> None:
        self.options = options
        self.netdev: Port = services.netdevs.claim(options.netdev, name, where, self)
        self._own_mac = services.netdevs.mac(options.mac)
        self.mtu = options.host_mtu
        if self.mtu is None:
            self.mtu = self.netdev.mtu if self.netdev.mtu > 1500 else 0
        self._held_of: Ring | None = None
        self._held: list[Chain] = []  # popped from that ring, for a frame that needs more
        self._arrived: Sequence[memoryview] = ()
        self._taken = 0
        self.dropped = 0
        """Frames that fitted into no buffer of the driver's."""
        sizes = (options.rx_queue_size, options.tx_queue_size) + ((64,) if options.ctrl_vq else ())
        super().__init__(name, services, sizes, self._offers() | options.features())

    def _offers(self) -> int:
        options, headers = self.options, self.netdev.headers
        offers = (
            (MAC_ADDRESS, True),
            (MTU, bool(self.mtu)),
            (STATUS, options.status),
            (MRG_RXBUF, options.mrg_rxbuf),
            (CTRL_VQ | CTRL_RX | CTRL_VLAN | CTRL_RX_EXTRA | CTRL_MAC_ADDR, options.ctrl_vq),
            (CSUM, headers and options.csum),
            (GUEST_CSUM, headers and options.guest_csum),
            (HOST_TSO4, headers and options.csum and options.host_tso4),
            (HOST_TSO6, headers and options.csum and options.host_tso6),
            (HOST_ECN, headers and options.csum and (options.host_tso4 or options.host_tso6)),
            (GUEST_TSO4, headers and options.guest_csum and options.guest_tso4),
            (GUEST_TSO6, headers and options.guest_csum and options.guest_tso6),
            (GUEST_ECN, headers and options.guest_csum and (options.guest_tso4 or options.guest_tso6)),
        )
        return sum(feature for feature, offered in offers if offered)

    def _settle(self) -> None:
        if len(self.mac) != 6:
            self.mac = self._own_mac
        self._addresses = {
            group[at : at + 6] for group in (self.unicast, self.multicast) for at in range(0, len(group), 6)
        }

    def statistics(self) -> dict[str, int]:
        """With the frames that fitted nowhere."""
        return super().statistics() | ({"dropped": self.dropped} if self.dropped else {})

    # -- configuration and status

    def configuration(self, order: str) -> bytes:
        """Address, link, pairs of queues, MTU."""
        return struct.pack(order + _CONFIGURATION, self.mac, _LINK_UP if self.netdev.link_up else 0, 1, self.mtu)

    def configure(self, offset: int, data: bytes) -> None:
        """A legacy driver without CTRL_MAC_ADDR chooses its address here."""
        if self.legacy and not self.has(CTRL_MAC_ADDR) and offset + len(data) <= 6:
            self.mac = self.mac[:offset] + data + self.mac[offset + len(data) :]

    def set_status(self, value: int, modern: bool) -> None:
        """The netdev hears what the driver can take when it begins."""
        super().set_status(value, modern)
        self._tell_offloads()

    def _tell_offloads(self) -> None:
        if self.driver_status & Status.DRIVER_OK and self.has(GUEST_CSUM):
            self.netdev.offload(True, self.has(GUEST_TSO4), self.has(GUEST_TSO6), self.has(GUEST_ECN))

    def reset(self) -> None:
        """Forget the driver; frames that wait for it are lost."""
        super().reset()
        self.netdev.offload(False, False, False, False)
        self.netdev.resume()

    def link_changed(self) -> None:
        """Tell the driver."""
        with self.services.lock:
            self.generation = self.generation + 1 & 0xFF
            if self.transport and self.driver_status & Status.DRIVER_OK and self.has(STATUS):
                self.transport.configuration_interrupt()

    # -- queues

    def serve(self, queue: Queue, ring: Ring) -> None:
        """Do what a queue is for."""
        if queue.index == RECEIVE:
            self._fill(ring)
        elif queue.index == TRANSMIT:
            self._empty(ring)
        else:
            super().serve(queue, ring)

    def awaits(self, queue: Queue) -> bool:
        """Receive buffers are news while frames wait for them, and frames while the netdev takes more."""
        if queue.index == RECEIVE:
            return self._taken < len(self._arrived)
        return queue.index == CONTROL or not self.netdev.busy

    @property
    def _header_size(self) -> int:
        return HEADER if self.legacy and not self.has(MRG_RXBUF) else _LONG_HEADER

    def save(self) -> dict[str, Any]:
        """All state; buffers that were taken for a frame that is not here yet go back to their ring."""
        with self._busy:
            if self._held_of is self.queues[RECEIVE].ring and self._held_of:
                for chain in reversed(self._held):
                    self._held_of.unpop(chain)
                self._held = []
        self.had_link = self.netdev.link_up
        return super().save()

    def resumed(self) -> None:
        """Tell the driver of another link than it had."""
        if self.netdev.link_up is not self.had_link:
            self.link_changed()

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned; the netdev hears what that driver takes."""
        super().restore(saved)
        self.netdev.offload(False, False, False, False)
        self._tell_offloads()
        self.netdev.resume()

    # -- sending

    def sendable(self) -> None:
        """The netdev takes frames again."""
        self.notify(TRANSMIT)

    def _empty(self, ring: Ring) -> None:
        """Send what is there, until the driver should hear of it or the netdev has enough."""
        if self.netdev.busy:
            return
        chains: list[Chain] = []
        frames: list[Frame] = []
        length, header = 0, self._header_size
        try:
            while len(chains) < _BATCH_FRAMES and length < _BATCH_BYTES and (chain := ring.pop()) is not None:
                chains.append(chain)
                size = sum(map(len, chain.readable)) - header
                if size < 0:
                    raise RingError("a frame without its header")
                if 0 < size <= MAX_FRAME:
                    frames.append(self._outgoing(chain, header, size))
                length += size
        finally:
            if frames:
                self.netdev.send(frames)
            for chain in chains:
                ring.push(chain, 0)

    def _outgoing(self, chain: Chain, header: int, size: int) -> Frame:
        buffers = chain.readable
        first = len(buffers[0])
        if first == header:
            frame = buffers[1:]
        elif first > header:
            frame = [buffers[0][header:], *buffers[1:]]
        else:
            frame = part(buffers, header, size)
        if not self.netdev.headers:
            return frame
        before = b"".join(part(buffers, 0, HEADER))
        if self.order == ">":
            before = struct.pack("=" + _HEADER, *struct.unpack(">" + _HEADER, before))
        return [before, *frame]

    # -- receiving

    def receive(self, frames: Sequence[memoryview]) -> int:
        """Store frames in the driver's buffers; what finds none waits until there are some."""
        queue = self.queues[RECEIVE]
        with self._busy:
            self._arrived, self._taken = frames, 0
            while self._listens(queue):
                queue.rung = False
                self._batch(queue)
                if not queue.rung or self._taken == len(frames):
                    break
            taken = self._taken if self._listens(queue) else len(frames)
            self._arrived, self._taken = (), 0
        if queue.owes_interrupt or self.owes_interrupt:
            with self.services.lock:
                self._interrupt(queue)
        return taken

    def _listens(self, queue: Queue) -> bool:
        ready = self.legacy or self.driver_status & Status.DRIVER_OK
        return bool(ready and queue.enabled and not self.broken and self.transport and self.transport.memory())

    def _fill(self, ring: Ring) -> None:
        if not self._arrived:
            self.netdev.resume()  # the driver has new buffers, and may have been asked for them
            return
        if ring is not self._held_of:
            self._held_of, self._held = ring, []
        skip = HEADER if self.netdev.headers else 0
        size, plain = self._header_size, self._header(memoryview(b""), 0, 1)
        own = None if self.modes & NO_UNICAST else self.mac
        for frame in self._arrived[self._taken :]:
            head = bytes(frame[skip : skip + 18])
            if (head[:6] == own and len(head) == 18 and head[12:14] != _ETHERTYPE_VLAN) or self._wanted(head):
                chain = self._held.pop(0) if self._held else ring.pop()
                if chain is None:
                    return
                buffers, needed = chain.writable, size + len(frame) - skip
                if len(buffers) == 1 and len(buffers[0]) >= needed:
                    buffer = buffers[0]
                    buffer[:size] = self._header(frame, skip, 1) if skip else plain
                    buffer[size:needed] = frame[skip:] if skip else frame
                    ring.push(chain, needed)
                elif not self._spread(ring, chain, frame, skip):
                    return
            self._taken += 1

    def _spread(self, ring: Ring, chain: Chain, frame: memoryview, skip: int) -> bool:
        """Store a frame in several buffers, `chain` first; False when there are too few."""
        size, needed = self._header_size, self._header_size + len(frame) - skip
        chains, room = [chain], sum(map(len, chain.writable))
        if room < size:
            raise RingError(f"a receive buffer of {room} bytes")
        mergeable, held = self.has(MRG_RXBUF), self._held
        while room < needed and mergeable:
            if (another := held.pop(0) if held else ring.pop()) is None:
                self._held = chains
                return False
            chains.append(another)
            room += sum(map(len, another.writable))
            if len(chains) > MAX_CHAIN:
                raise RingError(f"a frame of {needed} bytes finds no room in {MAX_CHAIN} buffers")
        if room < needed:
            self._held.insert(0, chains[0])
            self.dropped += 1
            return True
        self._scatter(ring, chains, memoryview(self._header(frame, skip, len(chains))), frame[skip:])
        return True

    def _scatter(self, ring: Ring, chains: list[Chain], header: memoryview, data: memoryview) -> None:
        """Fill one chain after another, and give them back."""
        at = -len(header)  # in `data`
        for chain in chains:
            begin = at
            for buffer in chain.writable:
                if at < 0:
                    n = min(-at, len(buffer))
                    buffer[:n] = header[at + len(header) :][:n]
                    at, buffer = at + n, buffer[n:]
                piece = data[at : at + len(buffer)] if at >= 0 else data[:0]
                buffer[: len(piece)] = piece
                at += len(piece)
            ring.push(chain, at - begin)

    def _header(self, frame: memoryview, skip: int, buffers: int) -> bytes:
        if skip and self.has(GUEST_CSUM):
            header = bytes(frame[:skip])
            if self.order == ">":
                header = struct.pack(">" + _HEADER, *struct.unpack("=" + _HEADER, header))
        else:
            header = bytes(HEADER)
        return header if self._header_size == HEADER else header + struct.pack(self.order + "H", buffers)

    def _wanted(self, head: bytes) -> bool:
        """Whether the driver's filter lets a frame in that begins so; what is too short to be one stays out."""
        if len(head) < ETHERNET_HEADER:
            return False
        if self.modes & PROMISCUOUS:
            return True
        if self.has(CTRL_VLAN) and head[12:14] == _ETHERTYPE_VLAN:
            vlan = int.from_bytes(head[14:16], "big") % _VLANS
            if not self.vlans[vlan // 8] >> vlan % 8 & 1:
                return False
        address = head[:6]
        if address == BROADCAST:
            return not self.modes & NO_BROADCAST
        if address[0] & 1:
            every, none, own = ALL_MULTICAST | MORE_MULTICAST, NO_MULTICAST, False
        else:
            every, none, own = ALL_UNICAST | MORE_UNICAST, NO_UNICAST, address == self.mac
        return not self.modes & none and bool(self.modes & every or own or address in self._addresses)

    # -- commands

    def handle(self, queue: Queue, chain: Chain) -> int:
        """A command: 0 is answered for one that was done, 1 for one that was not."""
        words = b"".join(chain.readable)
        if len(words) < 2 or not sum(map(len, chain.writable)):
            raise RingError("a command without its number or answer")
        done = self._command(words[0], words[1], words[2:])
        self._settle()
        part(chain.writable, 0, 1)[0][0] = 0 if done else 1
        return 1

    def _command(self, group: int, command: int, data: bytes) -> bool:
        if group == 0 and command < (_MODES if self.has(CTRL_RX_EXTRA) else _BASIC_MODES) and len(data) == 1:
            bit = 1 << command
            self.modes = self.modes & ~bit | (bit if data[0] else 0)
            return self.has(CTRL_RX)
        if group == 1 and command == 0:
            return self._set_addresses(data)
        if group == 1 and command == 1 and len(data) == 6:
            self.mac = data
            return True
        if group == 2 and command in (0, 1) and len(data) == 2:
            (vlan,) = struct.unpack(self.order + "H", data)
            if vlan < _VLANS:
                bit = 1 << vlan % 8
                self.vlans[vlan // 8] = self.vlans[vlan // 8] & ~bit | (bit if command == 0 else 0)
            return vlan < _VLANS
        return False

    def _set_addresses(self, data: bytes) -> bool:
        """Two tables, each after its number of entries: single addresses and groups."""
        tables, modes = [], self.modes & ~(MORE_UNICAST | MORE_MULTICAST)
        for more in (MORE_UNICAST, MORE_MULTICAST):
            if len(data) < 4:
                return False
            (count,) = struct.unpack(self.order + "I", data[:4])
            table, data = data[4 : 4 + 6 * count], data[4 + 6 * count :]
            if len(table) != 6 * count:
                return False
            modes |= more if count > _PLACES else 0
            tables.append(table if count <= _PLACES else b"")
        self.unicast, self.multicast = tables
        self.modes = modes
        return not data


class VirtioNetPci(VirtioPci):
    """The network device on PCI."""

    model = "virtio-net-pci"
    summary = "a network card"
    options_type = NetOptions
    class_code = 0x020000

    def __init__(self, name: str, options: Any, services: Services) -> None:
        where = f"{argument('devices')} {self.model}"
        for what, size in (("rx_queue_size", options.rx_queue_size), ("tx_queue_size", options.tx_queue_size)):
            if size & (size - 1):
                raise UserError(f"{where}: {what}={size} cannot be; write a power of two from 64")
        super().__init__(name, options, services, VirtioNet(name, where, services, options))
