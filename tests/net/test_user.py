"""User networking: what passt is told, how it starts and ends. A guest behind it is in tests/system."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from powervisor.errors import UserError
from powervisor.net.netdevs import describe, open_netdevs
from powervisor.net.passt import passt_words, without_padding
from tests.net.test_backends import free_port
from tests.support.waiting import until

MAC = bytes.fromhex("525400123456")
needs_passt = pytest.mark.skipif(not shutil.which("passt"), reason="passt is not installed")


def words(text):
    _, options, where = describe(f"user,id=n,{text}")
    return passt_words(options, where)


def test_addresses_are_qemus_unless_they_are_chosen():
    plain = ["-a", "10.0.2.15", "-n", "255.255.255.0", "-g", "10.0.2.2", "-D", "10.0.2.3", "--dns-forward", "10.0.2.3"]
    assert words("") == plain
    assert words("ipv6=off") == [*plain, "-4"]
    assert words("ipv4=off") == ["-6"]
    chosen = words("net=192.168.7.9/16,host=192.168.0.1,dns=192.168.1.1,dhcpstart=192.168.9.9")
    assert chosen[1:8:2] == ["192.168.9.9", "255.255.0.0", "192.168.0.1", "192.168.1.1"]


def test_forwardings():
    text = "hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:69-10.0.2.15:6969,hostfwd=::80-:8080"
    assert words(text)[10:] == ["-t", "2222:22", "-u", "127.0.0.1/69:6969", "-t", "80:8080"]


def test_without_passt_there_is_a_hint(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="^netdevs user,id=n: passt is not installed; apt install passt$"):
        open_netdevs(["user,id=n"], (), None, print)


def discover():
    """A DHCP discovery."""
    options = bytes.fromhex("63825363350101ff") + bytes(60)
    fixed = struct.pack(">4BI2H4I16s192x", 1, 1, 6, 0, 0x1234, 0, 0x8000, 0, 0, 0, 0, MAC)
    data = struct.pack(">4H", 68, 67, 8 + len(fixed + options), 0) + fixed + options
    header = struct.pack(">2B3H2BHII", 0x45, 0, 20 + len(data), 0, 0, 64, 17, 0, 0, 0xFFFF_FFFF)
    total = sum(struct.unpack(">10H", header))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return b"\xff" * 6 + MAC + b"\x08\x00" + header[:10] + struct.pack(">H", checksum) + header[12:] + data


def own_address(frame):
    """What a DHCP offer offers."""
    return socket.inet_ntoa(frame[14 + 20 + 8 + 16 : 14 + 20 + 8 + 20]) if frame[23:24] == b"\x11" else None


def test_padding_is_not_for_passt():
    ipv4 = bytes(12) + b"\x08\x00" + bytes.fromhex("45000028") + bytes(36)
    ipv6 = bytes(12) + b"\x86\xdd" + bytes(4) + b"\0\4" + bytes(38)
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    for frame in (ipv4, ipv6):
        assert without_padding(frame.ljust(60, b"\0")) == without_padding(frame) == frame
    for frame in (arp.ljust(60, b"\0"), ipv4[:20], ipv6[:20], b""):
        assert without_padding(frame) == frame


@needs_passt
def test_the_guest_is_offered_its_address(network):
    card = network("user,id=n,dhcpstart=10.0.2.77")
    card.netdev.send([[discover()]])
    card.until(lambda card: "10.0.2.77" in map(own_address, card.frames))


@needs_passt
def test_passt_ends_with_the_network(network):
    card = network("user,id=n")
    process = card.netdev._passt
    card.netdev.close()
    assert process.poll() is not None


@needs_passt
def test_passt_that_dies_takes_the_link_along_once(network, warnings):
    card = network("user,id=n")
    os.kill(card.netdev._passt.pid, signal.SIGKILL)
    card.until(lambda card: card.links == [False])
    for _ in range(3):
        card.netdev.send([[discover()]])
    assert warnings == ["netdevs user,id=n: passt has gone; the link is down from now on"]


OWNER = """
from powervisor.net.netdevs import open_netdevs
print(open_netdevs(["user,id=n"], (), None, print).by_name["n"]._passt.pid, flush=True)
input()
"""


@needs_passt
def test_passt_ends_when_the_machine_is_killed():
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        passt = int(owner.stdout.readline())
        owner.kill()
    until(lambda: not Path(f"/proc/{passt}").exists() or " Z " in Path(f"/proc/{passt}/stat").read_text())


@needs_passt
def test_a_port_that_is_taken_is_told():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(UserError, match=f"Failed to bind any port for.*{port}.*; choose another port in hostfwd="):
            open_netdevs([f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22"], (), None, print)
