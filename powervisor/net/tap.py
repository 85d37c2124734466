"""TAP interfaces of the host, with checksums and segmentation left to whoever can do them best."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from powervisor.errors import UserError, argument
from powervisor.net.netdev import HEADER, Datagrams, Frame
from powervisor.properties import choice, number, prop

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNGETIFF, _TUNGETFEATURES, _TUNSETOFFLOAD = 0x400454CA, 0x800454D2, 0x800454CF, 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_TAP, _NO_PI, _VNET_HDR = 0x0002, 0x1000, 0x4000
_CHECKSUMS, _TSO4, _TSO6, _ECN = 1, 2, 4, 8
_REQUEST = struct.Struct("16sH22x")  # struct ifreq
_NAME_LENGTH = 15


@dataclass(frozen=True)
class TapOptions:
    """-netdev tap."""

    id: str = prop("", "its name, for -device", required=True)
    ifname: str = prop("", "the interface; one that is not there is made, if you may")
    fd: int | None = prop(None, "an open TAP interface, inherited", number(0, 1 << 20))
    script: str = prop("no", "no: nothing is run when it is opened", choice("no"))
    downscript: str = prop("no", "no: nothing is run when it is closed", choice("no"))
    vhost: bool = prop(
        False, "the host's kernel cannot see the rings here: frames go through this program all the same"
    )
    vhostfd: int | None = prop(None, "closed at once", number(0, 1 << 20))
    vnet_hdr: bool = prop(True, "leave checksums and segmentation to the host", name="vnet_hdr")


class TapNetdev(Datagrams):
    """-netdev tap."""

    kind = "tap"
    summary = "a TAP interface of the host"
    options_type = TapOptions

    def __init__(self, options: TapOptions, where: str, warn: Callable[[str], None]) -> None:
        if (options.fd is None) == (not options.ifname):
            raise UserError(f"{where}: needs one of ifname=NAME and fd=N; give one of them")
        if len(os.fsencode(options.ifname)) > _NAME_LENGTH:
            raise UserError(f"{where}: ifname={options.ifname} is too long; write at most {_NAME_LENGTH} characters")
        super().__init__(options.id, where, warn)
        if options.vhostfd is not None:
            _close_inherited(options.vhostfd, where)
        self._fd, flags = _opened(options, where) if options.fd is None else _inherited(options.fd, where)
        self.headers = bool(flags & _VNET_HDR)
        os.set_blocking(self._fd, False)
        if self.headers:
            fcntl.ioctl(self._fd, _TUNSETVNETHDRSZ, struct.pack("i", HEADER))
            self.offload(False, False, False, False)

    def descriptor(self) -> int:
        """The interface; none when it has gone."""
        return self._fd if self.link_up else -1

    def offload(self, checksums: bool, tso4: bool, tso6: bool, ecn: bool) -> None:
        """Tell the host what the guest takes."""
        if self.headers and self.link_up:
            wanted = ((_TSO4 if tso4 else 0) | (_TSO6 if tso6 else 0) | (_ECN if ecn else 0)) if checksums else 0
            try:
                fcntl.ioctl(self._fd, _TUNSETOFFLOAD, wanted | _CHECKSUMS if checksums else 0)
            except OSError as error:
                self._lost(error)

    def _get(self, into: memoryview) -> int:
        return os.readv(self._fd, [into])

    def _put(self, frame: Frame) -> None:
        os.writev(self._fd, frame)

    def _lost(self, error: OSError) -> None:
        if self.link_up:
            self.warn(f"{self.where}: the interface has gone ({error.strerror}); the link is down from now on")
            self._set_link(False)

    def _close(self) -> None:
        os.close(self._fd)


def _opened(options: TapOptions, where: str) -> tuple[int, int]:
    name = options.ifname
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(
            f"{where}: {_DEVICE} cannot be opened ({error.strerror}); use {argument('netdevs')} user, or fd="
        ) from None
    try:
        (features,) = struct.unpack("I", fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4)))
        flags = _TAP | _NO_PI | (features & _VNET_HDR if options.vnet_hdr else 0)
        fcntl.ioctl(fd, _TUNSETIFF, _REQUEST.pack(os.fsencode(name), flags))
    except OSError as error:
        os.close(fd)
        remedy = f"make it once as root: ip tuntap add {name} mode tap user $USER"
        raise UserError(f"{where}: ifname={name} cannot be used ({error.strerror}); {remedy}") from None
    return fd, flags


def _close_inherited(fd: int, where: str) -> None:
    try:
        os.close(fd)
    except OSError as error:
        raise UserError(f"{where}: vhostfd={fd} is not open ({error.strerror}); leave it out") from None


def _inherited(fd: int, where: str) -> tuple[int, int]:
    try:
        _, flags = _REQUEST.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_REQUEST.size)))
    except OSError as error:
        remedy = "open it before, and let it be inherited"
        raise UserError(f"{where}: fd={fd} is no TAP interface ({error.strerror}); {remedy}") from None
    if not flags & _TAP or not flags & _NO_PI:
        raise UserError(f"{where}: fd={fd} is no TAP interface without packet information; open it with IFF_NO_PI")
    os.set_inheritable(fd, False)
    return fd, flags
