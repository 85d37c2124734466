"""The hypercalls that need devices; native code answers the others (vcpu.hypercalls)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import pack, unpack

from powervisor.devices.device import Device
from powervisor.isa.epapr import MOST_BYTES, Hcall, Status
from powervisor.paravirt.byte_channel import ByteChannel
from powervisor.paravirt.doorbell import Doorbell

Answer = tuple[int, ...]
"""Status, then results: what r3, r4, ... get."""
_INVALID: Answer = (Status.EINVAL,)


class Hypercalls:
    """The calls of one machine, by token."""

    def __init__(self, devices: Iterable[Device]) -> None:
        """Handles are those of byte channels that lead somewhere, and of doorbells."""
        self._channels: dict[int, ByteChannel] = {}
        self._doorbells: dict[int, Doorbell] = {}
        for device in devices:
            if isinstance(device, ByteChannel) and device.outlet is not None:
                self._channels[device.handle] = device
            elif isinstance(device, Doorbell):
                self._doorbells[device.handle] = device
        self._calls: dict[int, Callable[[Sequence[int]], Answer]] = {
            Hcall.BYTE_CHANNEL_SEND: self._send,
            Hcall.BYTE_CHANNEL_RECEIVE: self._receive,
            Hcall.BYTE_CHANNEL_POLL: self._poll,
            Hcall.DOORBELL_SEND: self._ring,
            Hcall.KVM_FEATURES: self._features,
        }

    def call(self, token: int, arguments: Sequence[int]) -> Answer:
        """Do what a token says with the 32-bit arguments from r3 on."""
        function = self._calls.get(token)
        return function(arguments) if function is not None else (Status.UNIMPLEMENTED,)

    def _send(self, arguments: Sequence[int]) -> Answer:
        """Part of the bytes may be taken, and the count says how many: EAGAIN means none, as drivers assume."""
        handle, count, *words = arguments
        channel = self._channels.get(handle)
        if channel is None or count > MOST_BYTES:
            return _INVALID
        sent = channel.send(pack(">4I", *words)[:count])
        return (Status.EAGAIN if count and not sent else Status.SUCCESS), sent

    def _receive(self, arguments: Sequence[int]) -> Answer:
        handle, count, *_ = arguments
        channel = self._channels.get(handle)
        if channel is None or count > MOST_BYTES:
            return _INVALID
        data = channel.fetch(count)
        return Status.SUCCESS, len(data), *unpack(">4I", data.ljust(MOST_BYTES, b"\0"))

    def _poll(self, arguments: Sequence[int]) -> Answer:
        channel = self._channels.get(arguments[0])
        if channel is None:
            return _INVALID
        return Status.SUCCESS, len(channel.input), channel.output_room()

    def _ring(self, arguments: Sequence[int]) -> Answer:
        doorbell = self._doorbells.get(arguments[0])
        if doorbell is None:
            return _INVALID
        doorbell.ring()
        return (Status.SUCCESS,)

    def _features(self, arguments: Sequence[int]) -> Answer:
        """No feature that KVM has a bit for: there is no magic page, for privileged instructions do not trap."""
        return Status.SUCCESS, 0
