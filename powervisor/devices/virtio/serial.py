"""The console device (virtio 1.2, section 5.3): up to 31 ports, each a byte stream between the guest and a chardev.

Nothing is lost on the way of a virtserialport: the guest's buffers stay in the ring while the chardev has no room, and
the chardev keeps what the guest has given no buffers for. A virtconsole that nobody reads gives bytes up as a UART
does (powervisor.console.chardev), since kernels wait for their console with interrupts disabled.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar

from powervisor.buffers import fill
from powervisor.devices.device import state
from powervisor.devices.lines import Line
from powervisor.devices.services import Services
from powervisor.devices.virtio.device import VirtioDevice
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import Chain, Ring, RingError
from powervisor.errors import UserError, argument
from powervisor.properties import number, prop

MULTIPORT = 1 << 1
"""Feature."""
MOST_PORTS = 31
_CONFIGURATION = "HHII"
_CONTROL = "IHH"
_CONTROL_IN, _CONTROL_OUT = 2, 3
_DATA_SIZE, _CONTROL_SIZE = 128, 32
INBOX = 64 << 10
"""Bytes from the chardev that wait for buffers of the guest."""
MOST_AT_ONCE = 4 << 20
"""Bytes of one buffer from the guest; drivers send tens of kilobytes."""
_WAITING_MESSAGES = 128
"""Control messages for the guest; while so many wait, the guest's are left in the ring."""


class Event(IntEnum):
    """Control messages."""

    DEVICE_READY = 0
    PORT_ADD = 1
    PORT_REMOVE = 2
    PORT_READY = 3
    CONSOLE_PORT = 4
    RESIZE = 5
    PORT_OPEN = 6
    PORT_NAME = 7


@dataclass(frozen=True)
class PortOptions:
    """Properties of both kinds of ports."""

    chardev: str = prop("", "the id of a -chardev; without, nobody is at the other end")
    name: str = prop("", "what the guest calls it: /dev/virtio-ports/NAME")
    nr: int | None = prop(None, "its number; default the first free one", number(0, MOST_PORTS - 1))
    id: str = prop("", "its name in messages")
    bus: str = prop("", "ID.0 of a virtio-serial-pci; default the first one")


class SerialPort:
    """A port of a `VirtioSerial`, with the chardev behind it."""

    model: ClassVar[str]
    summary: ClassVar[str]
    options_type: ClassVar[type[PortOptions]] = PortOptions
    console: ClassVar[bool]

    def __init__(self, options: PortOptions, line: Line | None) -> None:
        self.options, self.line = options, line

    @property
    def open(self) -> bool:
        """Whether somebody is at the host's end; a console is always listened to."""
        return self.console or self.line is not None and self.line.connected


class VirtConsole(SerialPort):
    """A port that the guest makes a terminal of: /dev/hvc0."""

    model = "virtconsole"
    summary = "a console (/dev/hvc0) on a virtio-serial-pci"
    console = True


class VirtSerialPort(SerialPort):
    """A port that the guest's programs open."""

    model = "virtserialport"
    summary = "a byte stream (/dev/virtio-ports/NAME) on a virtio-serial-pci"
    console = False


class VirtioSerial(VirtioDevice):
    """Ports by number; a driver without MULTIPORT has port 0 only. Chardevs call under the machine's lock."""

    kind = 3

    inboxes: list[bytes] = state(list, keep=True)
    """By port: bytes from the chardev, which the guest has given no buffer for yet."""
    outboxes: list[bytes] = state(list, keep=True)
    """By port: bytes from the guest, which the chardev has had no room for yet."""
    ready: list[int] = state(list)
    """By port: whether the driver has it."""
    opened: list[int] = state(list)
    """By port: whether somebody in the guest listens."""
    messages: list[bytes] = state(list)
    """Control messages that the guest has given no buffer for yet."""

    def __init__(self, name: str, services: Services, most_ports: int, features: int) -> None:
        self.most_ports = most_ports
        self.ports: dict[int, SerialPort] = {}
        self.on_open: Callable[[SerialPort, bool], None] | None = None
        """Called when a program of the guest opens a port, or no longer has it open."""
        self._told: dict[int, bool] = {}
        self._boxes = threading.Lock()  # chardevs add to what the worker takes away
        control = _CONTROL_SIZE, _CONTROL_SIZE
        sizes = (_DATA_SIZE, _DATA_SIZE, *control, *(_DATA_SIZE, _DATA_SIZE) * (most_ports - 1))
        super().__init__(name, services, sizes, MULTIPORT | features)

    def _settle(self) -> None:
        for boxes in (self.inboxes, self.outboxes):
            boxes += [b""] * (self.most_ports - len(boxes))
        for flags in (self.ready, self.opened):
            flags += [0] * (self.most_ports - len(flags))
        self._tell_opened()

    def _tell_opened(self) -> None:
        for index, port in self.ports.items():
            if (opened := bool(self.opened[index])) is not self._told.get(index, False):
                self._told[index] = opened
                if self.on_open is not None:
                    self.on_open(port, opened)

    def configuration(self, order: str) -> bytes:
        """No size of a terminal, the number of ports, no emergency writes."""
        return struct.pack(order + _CONFIGURATION, 0, 0, self.most_ports, 0)

    def close(self) -> None:
        """Hand over what the guest has sent."""
        super().close()
        for index, port in self.ports.items():
            rest, self.outboxes[index] = self.outboxes[index], b""
            if rest and port.line is not None:
                port.line.write(rest)

    # -- the host's end

    def attach(self, port: SerialPort, where: str) -> None:
        """Give a port its number. Raises UserError."""
        least = 0 if port.console else 1  # drivers without MULTIPORT take port 0 for a console
        chosen = port.options.nr
        if chosen is None:
            chosen = next((n for n in range(least, self.most_ports) if n not in self.ports), None)
            if chosen is None:
                raise UserError(f"{where}: all ports of {self.name} are taken; add another virtio-serial-pci")
        if not least <= chosen < self.most_ports:
            raise UserError(f"{where}: nr={chosen} is not within {least}..{self.most_ports - 1}; leave nr= out")
        if chosen in self.ports:
            raise UserError(f"{where}: nr={chosen} is taken by a {self.ports[chosen].model}; choose another")
        self.ports[chosen] = port
        if port.line is not None:
            self._connect(chosen, port.line, port.console)

    def _connect(self, number: int, line: Line, console: bool) -> None:
        dispatch = self.services.lines.dispatch
        line.on_receive = lambda data: self._received(number, data)
        line.can_receive = lambda: INBOX - len(self.inboxes[number])
        if not console:
            line.on_room = lambda: dispatch(lambda: self.notify(_data_out(number)))
            line.on_connected = lambda connected: dispatch(lambda: self._connected(number, connected))
        line.start(dispatch)

    def _received(self, number: int, data: bytes) -> None:
        with self._boxes:
            self.inboxes[number] += data
        self.notify(_data_in(number))

    def _connected(self, number: int, connected: bool) -> None:
        if self.ready[number]:
            with self._boxes:
                before = self._message(number, Event.PORT_OPEN, 0)[:-2]
                self.messages = [message for message in self.messages if not message.startswith(before)]
                self.messages.append(self._message(number, Event.PORT_OPEN, connected))
            self.notify(_CONTROL_IN)

    # -- the guest's end

    def serve(self, queue: Queue, ring: Ring) -> None:
        """Carry bytes or control messages one way, as far as they can go."""
        number, out = _port_of(queue.index)
        if queue.index == _CONTROL_IN:
            self._tell(ring)
        elif queue.index == _CONTROL_OUT:
            self._listen(ring)
        elif out:
            self._send(number, ring)
        else:
            self._deliver(number, ring)

    def awaits(self, queue: Queue) -> bool:
        """Buffers for input wait until there is some; those with output, until there is room."""
        number, out = _port_of(queue.index)
        if queue.index == _CONTROL_IN:
            return bool(self.messages)
        if queue.index == _CONTROL_OUT:
            return len(self.messages) < _WAITING_MESSAGES
        return not self.outboxes[number] if out else bool(self.inboxes[number]) and self._listens(number)

    def _listens(self, number: int) -> bool:
        return bool(self.opened[number]) or (number == 0 and not self.has(MULTIPORT))

    def _deliver(self, number: int, ring: Ring) -> None:
        while self.inboxes[number] and self._listens(number) and (chain := ring.pop()) is not None:
            with self._boxes:
                taken = fill(chain.writable, self.inboxes[number])
                self.inboxes[number] = self.inboxes[number][taken:]
            ring.push(chain, taken)

    def _send(self, number: int, ring: Ring) -> None:
        while self._passed_on(number) and (chain := ring.pop()) is not None:
            self.outboxes[number] = _content(chain, MOST_AT_ONCE)
            ring.push(chain, 0)

    def _passed_on(self, number: int) -> bool:
        """Give the chardev what it takes; whether that was all."""
        data, port = self.outboxes[number], self.ports.get(number)
        if data and port is not None and port.line is not None:
            room = len(data) if port.console else max(0, port.line.room())
            port.line.write(data[:room])
            self.outboxes[number] = data[room:]
        else:
            self.outboxes[number] = b""
        return not self.outboxes[number]

    def _tell(self, ring: Ring) -> None:
        while self.messages and (chain := ring.pop()) is not None:
            with self._boxes:
                message = self.messages.pop(0)
            ring.push(chain, fill(chain.writable, message))
            self.queues[_CONTROL_OUT].rung = True  # it may have been left alone meanwhile

    def _listen(self, ring: Ring) -> None:
        while len(self.messages) < _WAITING_MESSAGES and (chain := ring.pop()) is not None:
            message = _content(chain, MOST_AT_ONCE)
            ring.push(chain, 0)
            if len(message) < struct.calcsize("=" + _CONTROL):
                raise RingError("a control message without its header")
            self._heard(*struct.unpack_from(self.order + _CONTROL, message))

    def _heard(self, number: int, event: int, value: int) -> None:
        """A message from the driver. One about a port that is not there means nothing."""
        answers: list[bytes] = []
        if event == Event.DEVICE_READY and value:
            answers = [self._message(n, Event.PORT_ADD, 1) for n in sorted(self.ports)]
        elif (port := self.ports.get(number)) is None:
            return
        elif event == Event.PORT_READY:
            self.ready[number] = value
            if value and port.console:
                answers.append(self._message(number, Event.CONSOLE_PORT, 1))
            if value and port.options.name:
                answers.append(self._message(number, Event.PORT_NAME, 1) + port.options.name.encode())
            if value and port.open:
                answers.append(self._message(number, Event.PORT_OPEN, 1))
        elif event == Event.PORT_OPEN:
            self.opened[number] = value
            self._tell_opened()
            self.queues[_data_in(number)].rung = True
        with self._boxes:
            self.messages += answers
        self.queues[_CONTROL_IN].rung |= bool(answers)

    def _message(self, number: int, event: int, value: int) -> bytes:
        return struct.pack(self.order + _CONTROL, number, event, value)


def _data_in(number: int) -> int:
    """The queue of buffers for a port's input; the next one has its output."""
    return 2 * number + 2 if number else 0


def _data_out(number: int) -> int:
    return _data_in(number) + 1


def _port_of(queue: int) -> tuple[int, bool]:
    """The port of a data queue, and whether it has output."""
    return (queue - 2) // 2 if queue > _CONTROL_OUT else 0, bool(queue & 1)


def _content(chain: Chain, most: int) -> bytes:
    if (length := sum(map(len, chain.readable))) > most:
        raise RingError(f"a buffer of {length} bytes, more than {most}")
    return b"".join(chain.readable)


@dataclass(frozen=True)
class SerialOptions(VirtioPciOptions):
    """Properties of virtio-serial-pci."""

    max_ports: int = prop(MOST_PORTS, "ports there may be", number(1, MOST_PORTS), name="max_ports")


class VirtioSerialPci(VirtioPci):
    """The console device on PCI."""

    model = "virtio-serial-pci"
    summary = "ports for virtconsole and virtserialport"
    options_type = SerialOptions
    class_code = 0x078000

    def __init__(self, name: str, options: Any, services: Services) -> None:
        if options.vectors is None:  # one for each of its queues would be more than drivers take
            options = replace(options, vectors=options.max_ports + 1)
        self.serial = VirtioSerial(name, services, options.max_ports, options.features())
        super().__init__(name, options, services, self.serial)
        self.port_bus = f"{options.id}.0" if options.id else ""


def plug_port(
    model: type[SerialPort], options: PortOptions, where: str, cards: Sequence[object], services: Services
) -> None:
    """Make a port and put it on its bus, one of `cards`. Raises UserError."""
    there = [card for card in cards if isinstance(card, VirtioSerialPci)]
    if not there:
        raise UserError(f"{where}: there is nothing to put it on; add {argument('devices')} {VirtioSerialPci.model}")
    chosen = next((card for card in there if options.bus in ("", card.port_bus)), None)
    if chosen is None:
        buses = ", ".join(card.port_bus for card in there if card.port_bus)
        remedy = f"there is {buses}" if buses else f"give the {VirtioSerialPci.model} an id="
        raise UserError(f"{where}: no bus {options.bus!r}; {remedy}")
    line = services.lines.claim(options.chardev, where) if options.chardev else None
    chosen.serial.attach(model(options, line), where)
