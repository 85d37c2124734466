"""A TAP interface of the host, which only root can make."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess

import pytest

from powervisor.net.netdev import HEADER
from tests.support.waiting import until

NAME = f"pvtest{os.getpid() % 10**6}"
ETHERTYPE = 0x88B5  # for experiments
FRAME = bytes.fromhex("52540012345602000000000188b5") + bytes(range(100))


@pytest.fixture
def interface():
    """A packet socket at an interface that is up."""
    made = subprocess.run(["ip", "tuntap", "add", NAME, "mode", "tap"], capture_output=True)
    if made.returncode:
        pytest.skip(f"no TAP interface can be made: {made.stderr.decode().strip()}")
    try:
        subprocess.run(["ip", "link", "set", NAME, "up"], check=True)
        yield NAME
    finally:
        subprocess.run(["ip", "link", "delete", NAME], capture_output=True)


@pytest.fixture
def host(interface):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as end:
        end.bind((interface, ETHERTYPE))
        yield end


def hears(card, host, expected):
    """The host says FRAME until the card has it: an interface needs a moment from being opened to being up."""

    def heard():
        host.send(FRAME)
        return expected in card.frames

    until(heard)


def says(card, host, pieces, begin):
    """The card sends until the host has a frame that begins so."""
    host.settimeout(0.05)
    for _ in range(200):
        card.netdev.send([pieces])
        with contextlib.suppress(TimeoutError):
            if host.recv(2000).startswith(begin):
                return
    pytest.fail("the frame did not come")


@pytest.mark.parametrize("headers", [True, False])
def test_frames_pass_with_and_without_headers(network, interface, host, headers):
    card = network(f"tap,id=n,ifname={interface},script=no,downscript=no,vnet_hdr={'on' if headers else 'off'}")
    assert card.netdev.headers == headers
    before = bytes(HEADER) if headers else b""
    hears(card, host, before + FRAME)
    says(card, host, [before, FRAME[:20], memoryview(FRAME)[20:]], FRAME)


def test_checksums_are_left_to_whom_they_are_left(network, interface, host):
    card = network(f"tap,id=n,ifname={interface}")
    card.netdev.offload(True, True, True, False)
    unfinished = struct.pack("<BBHHHH", 1, 0, 0, 0, 34, 16)  # virtio-net's header: begin and place of the checksum
    says(card, host, [unfinished, FRAME], FRAME[:50])
    card.netdev.offload(False, False, False, False)


def test_an_inherited_interface(network, interface, host):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", interface.encode(), 0x1002))
    card = network(f"tap,id=n,fd={fd}")
    assert not card.netdev.headers
    hears(card, host, FRAME)


def test_an_interface_that_goes_takes_the_link_along_once(network, interface, warnings):
    card = network(f"tap,id=n,ifname={interface}")
    subprocess.run(["ip", "link", "delete", interface], check=True)
    card.until(lambda card: card.links == [False])
    for _ in range(3):
        card.netdev.send([[bytes(HEADER), FRAME]])
    card.netdev.offload(True, True, True, True)
    until(lambda: warnings)
    assert len(warnings) == 1
    assert "tap,id=n: the interface has gone" in warnings[0]
