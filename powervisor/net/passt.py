"""User networking through passt: the guest reaches what the host reaches, without any right on it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from powervisor.errors import UserError
from powervisor.net.netdev import Frame
from powervisor.net.sockets import Stream, parse_port
from powervisor.properties import Kind, prop

_GATEWAY, _NAMESERVER, _FIRST = 2, 3, 15
"""Hosts in the guest's network, as QEMU numbers them."""
_END_SECONDS = 2
_SHORTEST_FRAME = 60
_SO_SNDBUFFORCE = 32
_ROOM = 8 << 20
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_NOISE = re.compile(r"Failed to send \d+ bytes to syslog|Don't run as root")


class Forward(NamedTuple):
    """A port of the host that leads to the guest."""

    protocol: str
    address: str
    """Of the host; "" for all."""
    port: int
    guest_address: str
    """ "" for the guest, wherever it is."""
    guest_port: int

    @property
    def words(self) -> list[str]:
        """For passt."""
        address = f"{self.address}/" if self.address else ""
        return ["-t" if self.protocol == "tcp" else "-u", f"{address}{self.port}:{self.guest_port}"]


_FORWARD = re.compile(r"(tcp|udp|):([^:/-]*):([0-9]+)-([^:/-]*):([0-9]+)")


def _forwards(text: str) -> tuple[Forward, ...]:
    found = []
    for one in text.split(","):
        parts = _FORWARD.fullmatch(one)
        if parts is None:
            raise ValueError("no forwarding; write for example tcp::2222-:22")
        try:
            address, guest = (str(ipaddress.IPv4Address(word)) if word else "" for word in parts.group(2, 4))
            ports = parse_port(parts[3]), parse_port(parts[5])
        except ValueError:
            raise ValueError("no forwarding of IPv4 addresses and ports; write for example tcp::2222-:22") from None
        found.append(Forward(parts[1] or "tcp", address, ports[0], guest, ports[1]))
    return tuple(found)


def _network(text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError("no network; write for example 10.0.2.0/24") from None
    if network.prefixlen > 27:
        raise ValueError("too small a network; write /27 or wider")
    return network


def _address(text: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError("no IPv4 address; write for example 10.0.2.15") from None


ADDRESS = Kind("address", _address)


@dataclass(frozen=True)
class UserOptions:
    """-netdev user."""

    id: str = prop("", "its name, for -device", required=True)
    hostfwd: tuple[Forward, ...] = prop(
        (),
        "a port of the host leads to the guest; may be given several times",
        Kind("[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport", _forwards),
        many=True,
    )
    net: ipaddress.IPv4Network = prop(
        ipaddress.IPv4Network("10.0.2.0/24"), "the guest's network", Kind("address/bits", _network)
    )
    host: ipaddress.IPv4Address | None = prop(None, "the host in it; default its address .2", ADDRESS)
    dns: ipaddress.IPv4Address | None = prop(None, "name server in it, which is the host's; default .3", ADDRESS)
    dhcpstart: ipaddress.IPv4Address | None = prop(None, "what the guest gets by DHCP; default .15", ADDRESS)
    ipv4: bool = prop(True, "whether there is IPv4")
    ipv6: bool = prop(True, "whether there is IPv6, if the host has it")


class UserNetdev(Stream):
    """-netdev user."""

    kind = "user"
    summary = "the host's own network, without rights, through passt"
    options_type = UserOptions
    mtu = 65520
    peer = "passt"
    # 2023_03_09 loses its place where what it reads at once ends inside a frame's length. So long a message Linux puts
    # into a stream between processes as a whole, and a reader finds all of it.
    joined_bytes = 32 << 10

    def __init__(self, options: UserOptions, where: str, warn: Callable[[str], None]) -> None:
        words = passt_words(options, where)
        program = shutil.which("passt")
        if program is None:
            raise UserError(f"{where}: passt is not installed; apt install passt")
        ours, theirs = socket.socketpair()
        _widen(theirs)
        try:
            self._passt = _start(program, words, theirs, where)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        super().__init__(options.id, where, warn, ours, None)

    def wrapped(self, frame: Frame) -> Frame:
        """Without padding, which passt (2023_03_09, Debian 12's) takes for data of TCP."""
        if sum(map(len, frame)) <= _SHORTEST_FRAME:
            frame = (without_padding(b"".join(frame)),)
        return super().wrapped(frame)

    def _close(self) -> None:
        super()._close()  # which ends passt
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._passt.wait(_END_SECONDS)
        self._passt.kill()
        self._passt.wait()


def without_padding(frame: bytes) -> bytes:
    """An Ethernet frame up to the end of the IP packet in it."""
    kind = frame[12:14]
    if kind == _IPV4:
        return frame[: 14 + int.from_bytes(frame[16:18], "big")] if len(frame) >= 34 else frame
    if kind == _IPV6:
        return frame[: 54 + int.from_bytes(frame[18:20], "big")] if len(frame) >= 54 else frame
    return frame


def passt_words(options: UserOptions, where: str) -> list[str]:
    """What passt is told. Raises UserError."""
    network = options.net
    host, dns, first = (
        given or network[number]
        for given, number in (
            (options.host, _GATEWAY),
            (options.dns, _NAMESERVER),
            (options.dhcpstart, _FIRST),
        )
    )
    for name, address in (("host", host), ("dns", dns), ("dhcpstart", first)):
        if address not in network:
            raise UserError(f"{where}: {name}={address} is not in {network}; choose one there, or another net=")
    if len({host, dns, first}) < 3:
        raise UserError(f"{where}: host, dns and dhcpstart are not three addresses; give each its own")
    if not options.ipv4 and not options.ipv6:
        raise UserError(f"{where}: ipv4=off and ipv6=off leave nothing; leave one of them out")
    words = []
    if options.ipv4:
        words += [
            "-a",
            str(first),
            "-n",
            str(network.netmask),
            "-g",
            str(host),
            "-D",
            str(dns),
            "--dns-forward",
            str(dns),
        ]
    words += [] if options.ipv6 else ["-4"]
    words += [] if options.ipv4 else ["-6"]
    for forward in options.hostfwd:
        if forward.guest_address not in ("", str(first)):
            raise UserError(
                f"{where}: hostfwd leads to {forward.guest_address}; leave that out: there is one guest, {first}"
            )
        words += forward.words
    return words


def _widen(theirs: socket.socket) -> None:
    """Give passt room for what the guest has not taken yet: it drops what does not fit."""
    for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):  # the first is root's, the second has the limit of the host
        try:
            theirs.setsockopt(socket.SOL_SOCKET, option, _ROOM)
        except PermissionError:
            continue
        return


def _start(program: str, words: list[str], theirs: socket.socket, where: str) -> subprocess.Popen[bytes]:
    """passt at one end of a socket pair: it ends when the other is closed, however that happens. Raises UserError."""
    ready, told = os.pipe()
    errors = os.memfd_create("passt-errors", os.MFD_CLOEXEC)
    try:
        # passt writes its process number there when all is well. It is nobody then, if we are root.
        os.fchmod(told, 0o622)
        command = [program, "-f", "-q", "--fd", str(theirs.fileno()), "-P", f"/proc/self/fd/{told}", *words]
        process = subprocess.Popen(
            command, pass_fds=(theirs.fileno(), told), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
        os.close(told)
        told = -1
        if os.read(ready, 32):
            return process
        process.wait()
        os.lseek(errors, 0, os.SEEK_SET)
        said = os.read(errors, 1 << 16).decode(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{where}: {program} cannot be run ({error.strerror}); install it anew") from None
    finally:
        for fd in {ready, told, errors} - {-1}:
            os.close(fd)
    lines = [line.strip() for line in said if line.strip() and not _NOISE.search(line)]
    raise UserError(
        f"{where}: passt does not start: {'; '.join(dict.fromkeys(lines)) or process.returncode}{_remedy(lines)}"
    )


def _remedy(lines: list[str]) -> str:
    text = " ".join(lines)
    if "bind" in text:
        return "; choose another port in hostfwd="
    if "routable" in text or "interface" in text:
        return "; the host needs a network with a default route"
    return ""
