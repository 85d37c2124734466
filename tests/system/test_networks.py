"""Networks under unmodified Linux and U-Boot: through passt, and between two machines."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import threading
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from powervisor import Machine
from tests.net.test_backends import free_port, records
from tests.system.booting import TROUBLE, files, needs, options
from tests.system.test_devices import ramdisk

needs_passt = pytest.mark.skipif(not shutil.which("passt"), reason="passt is not installed")
SOCKET_ROOM = int(Path("/proc/sys/net/core/wmem_max").read_text())
PROMPT = "/ # "
LEASED = r"""printf '#!/bin/sh\n[ $1 = bound ] && ip addr add $ip/$mask dev $interface && """
LEASED += (
    r"""ip route add default via $router && echo nameserver $dns >/etc/resolv.conf\n' >/leased; chmod +x /leased"""
)


class Guest:
    """A Linux with a shell on its console."""

    def __init__(self, machine):
        self.machine, self.output = machine, ""
        machine.start()
        self.until(PROMPT, 60)
        self("echo 5 >/proc/sys/kernel/printk")  # a link that comes up says so in the middle of other lines

    def until(self, text, timeout, **how):
        said = self.machine.console.expect(text, timeout=timeout, **how)
        self.output += said
        return said

    def __call__(self, command, timeout=60):
        """What a command says, which must succeed."""
        self.machine.console.send(f"{command}; echo STATUS-$?-\n")
        said = self.until(r"STATUS-\d+-", timeout, regex=True)
        assert said.endswith("STATUS-0-"), said
        self.until(PROMPT, 20)
        return said

    def lease(self, interface):
        self(LEASED)
        self(f"ip link set {interface} up && udhcpc -i {interface} -s /leased -n -q")
        return re.search(r"inet (\S+)/24", self(f"ip addr show {interface}"))[1]

    def check(self):
        assert not (found := TROUBLE.search(self.output)), f"{found}\n{self.output[-3000:]}"


@pytest.fixture
def linux():
    """Start a Linux: `linux("k32", netdevs=[..], devices=[..])`."""
    with ExitStack() as stack:
        guests = []

        def linux(name="k32", append="", **more):
            chosen = options(name, append) | {"serial": [None]} | more
            guests.append(Guest(stack.enter_context(Machine(**chosen))))
            return guests[-1]

        yield linux
        for guest in guests:
            guest.check()


@pytest.fixture
def web(tmp_path):
    """A directory that is served, and its port."""
    directory = tmp_path / "web"
    directory.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield directory, server.server_address[1]
        server.shutdown()
        thread.join()


@needs_passt
def test_linux_downloads_through_passt(linux, web, tmp_path):
    directory, port = web
    data = random.Random(1).randbytes(20 << 20)
    (directory / "file").write_bytes(data)
    capture = tmp_path / "all.pcap"
    guest = linux("k32", netdevs=["user,id=n0"], devices=["virtio-net-pci,netdev=n0"], cores=2, pcap=capture)
    assert guest.lease("eth0") == "10.0.2.15"
    said = guest(f"wget -q -O /file http://10.0.2.2:{port}/file && md5sum /file", 120)
    assert hashlib.md5(data).hexdigest() in said
    assert "mtu 65520" in guest("ip link show eth0")
    frames = records(capture)
    assert sum(length for length, _ in frames) > len(data) and max(length for length, _ in frames) > 1514


@needs_passt
def test_the_hosts_ports_lead_to_the_guest_with_four_cpus(linux):
    port = free_port()
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:80"
    guest = linux("k32", netdevs=[f"user,id=n0,{forward}"], devices=["virtio-net-pci,netdev=n0,packed=on"], cores=4)
    guest.lease("eth0")
    guest("mkdir /web && dd if=/dev/urandom of=/web/file bs=1M count=10 2>/dev/null && httpd -h /web")
    digest = guest("md5sum /web/file")
    with urlopen(f"http://127.0.0.1:{port}/file", timeout=60) as answer:
        assert hashlib.md5(answer.read()).hexdigest() in digest


WAYS = {
    "virtio": ("virtio-net-pci", "virtio-net-pci"),
    "e1000": ("e1000", "virtio-net-pci"),
    "legacy": ("virtio-net-pci,disable-modern=on", "virtio-net-pci,vectors=0"),
    "eTSEC": ("virtio-net-pci", "eTSEC"),
}


def needs_driver(card):
    """Skip where the kernel has none."""
    if card == "eTSEC":
        needs("k32", "CONFIG_GIANFAR")


@pytest.mark.parametrize("way", WAYS)
def test_two_machines_ping_each_other(linux, way):
    needs_driver(way)
    port = free_port()
    ends = ("listen=127.0.0.1", "connect=127.0.0.1")
    guests = [
        linux("k32", netdevs=[f"socket,id=n0,{end}:{port}"], devices=[f"{card},netdev=n0,mac=52:54:00:00:00:0{n}"])
        for n, (end, card) in enumerate(zip(ends, WAYS[way], strict=True))
    ]
    for n, guest in enumerate(guests):
        guest(f"ip addr add 10.1.1.{n + 1}/24 dev eth0 && ip link set eth0 up")
    for n, guest in enumerate(guests):
        assert "5 packets received" in guest(f"ping -c 5 -i 0.2 -s 1400 10.1.1.{2 - n}")
        assert "3 packets received" in guest(f"ping -c 3 -i 0.2 -s 20000 10.1.1.{2 - n}"), "in fragments"
    for guest in guests:
        guest("ip link set eth0 mtu 9000")
    assert "3 packets received" in guests[0]("ping -c 3 -i 0.2 -s 8900 10.1.1.2"), "in several buffers"
    guests[1].machine.close()
    guests[0]("until ip link show eth0 | grep NO-CARRIER; do sleep 0.1; done")


CARDS = {
    "virtio-net-pci": [
        ("virtio0", "/sys/bus/virtio/drivers/virtio_net"),
        ("0000:00:01.0", "/sys/bus/pci/drivers/virtio-pci"),
    ],
    "e1000": [("0000:00:02.0", "/sys/bus/pci/drivers/e1000")],
    "eTSEC": [("platform@f00000000:ethernet@0", "/sys/bus/platform/drivers/fsl-gianfar")],
}
"""Devices as their drivers call them, and where these are."""


@pytest.mark.parametrize("card", ["virtio-net-pci", "eTSEC"])
def test_drivers_can_be_unbound_and_bound_again(linux, tmp_path, card):
    needs_driver(card)
    ends = [
        f"dgram,id=n0,local.type=unix,local.path={tmp_path}/{ours},remote.type=unix,remote.path={tmp_path}/{theirs}"
        for ours, theirs in ("ab", "ba")
    ]
    guests = [
        linux("k32", netdevs=[end], devices=[f"{card},netdev=n0,mac=52:54:00:00:00:0{n}"], cores=1 + n)
        for n, end in enumerate(ends)
    ]
    up = "ip addr add 10.1.1.{}/24 dev eth0; ip link set eth0 up"
    guests[0](up.format(1))
    for name, bus in CARDS[card] * 3:
        guests[1](up.format(2))
        assert "2 packets received" in guests[1]("ping -c 2 -i 0.2 10.1.1.1")
        guests[1]("ping -i 0.01 -s 1000 10.1.1.1 >/dev/null 2>&1 & sleep 0.2")
        guests[1](f"echo {name} >{bus}/unbind && echo {name} >{bus}/bind")


@needs_passt
@pytest.mark.skipif(
    os.geteuid() != 0 and SOCKET_ROOM < 4 << 20, reason="net.core.wmem_max is small: passt drops frames"
)
@pytest.mark.parametrize("cards", [("e1000",), ("e1000", "eTSEC")])
def test_cards_carry_traffic_at_the_same_time_with_four_cpus(linux, web, cards):
    for card in cards:
        needs_driver(card)
    directory, port = web
    data = random.Random(2).randbytes(4 << 20)
    (directory / "file").write_bytes(data)
    nets = range(2, 3 + len(cards))  # 10.0.2.0 is virtio-net's
    out = {n: free_port() for n in nets[1:]}
    forwarding = [f"user,id=n{n},net=10.0.{n}.0/24,hostfwd=tcp:127.0.0.1:{out[n]}-:80" for n in out]
    models = zip(("virtio-net-pci", *cards), nets, strict=True)
    guest = linux(
        "k32", cores=4, netdevs=["user,id=n2", *forwarding], devices=[f"{model},netdev=n{n}" for model, n in models]
    )
    macs = {n: f"52:54:00:12:34:{0x54 + n:02x}" for n in nets}
    interfaces = {
        n: re.search(r"net/(\w+)/address", guest(f"grep -l {mac} /sys/class/net/*/address"))[1]
        for n, mac in macs.items()
    }
    buses = dict(zip(out, (CARDS[card] for card in cards), strict=True))
    for n, ((_, bus),) in buses.items():
        assert bus in guest(f"readlink -f /sys/class/net/{interfaces[n]}/device/driver")
    for n in nets:
        assert guest.lease(interfaces[n]) == f"10.0.{n}.15"
    fetch = " ".join(f"wget -q -O /{n} http://10.0.{n}.2:{port}/file &" for n in nets)
    said = guest(f"{fetch} wait; md5sum {' '.join(f'/{n}' for n in nets)}", 120)
    assert said.count(hashlib.md5(data).hexdigest()) == len(nets)
    guest("httpd -h /")
    for n, ((name, bus),) in buses.items():
        with urlopen(f"http://127.0.0.1:{out[n]}/{n}", timeout=60) as answer:
            assert answer.read() == data, "segments and checksums that the card makes"
        for _ in range(3):
            guest(f"echo {name} >{bus}/unbind && echo {name} >{bus}/bind")
            assert guest.lease(interfaces[n]) == f"10.0.{n}.15"


class Tftp(threading.Thread):
    """A host's TFTP server for files: octets, 512 at a time, no options. U-Boot asks the usual port only."""

    def __init__(self, **files):
        super().__init__(daemon=True)
        self.files, self.data = files, b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind(("127.0.0.1", 69))
        except OSError as error:
            pytest.skip(f"the port of TFTP cannot be had: {error.strerror}")

    def run(self):
        while True:
            message, peer = self.socket.recvfrom(2000)
            kind, number = struct.unpack(">HH", message[:4])
            if kind == 0:
                return
            if kind == 1:
                self.data = self.files[message[2:].split(b"\0")[0].decode()]
            block = 0 if kind == 1 else number & 0xFFFF
            if 512 * block <= len(self.data) and kind in (1, 4):
                part = self.data[512 * block : 512 * (block + 1)]
                self.socket.sendto(struct.pack(">HH", 3, block + 1) + part, peer)

    def stop(self):
        self.socket.sendto(bytes(4), ("127.0.0.1", 69))
        self.join()
        self.socket.close()


@needs_passt
@pytest.mark.parametrize("card", ["e1000", "virtio-net-pci", "eTSEC"])
def test_uboot_loads_by_tftp(card):
    data = random.Random(3).randbytes(100_000)
    server = Tftp(file=data)
    server.start()
    try:
        with Machine(
            **options("uboot"), netdevs=["user,id=n0"], devices=[f"{card},netdev=n0"], serial=[None]
        ) as machine:
            machine.start()
            machine.console.expect("=> ", timeout=60)

            def said(command):
                machine.console.send(command + "\n")
                return machine.console.expect("=> ", timeout=60)

            if card.startswith("virtio"):
                said("virtio scan")
            said("setenv autoload no")
            assert "10.0.2.15" in said("dhcp")
            said("setenv serverip 10.0.2.2; setenv tftpblocksize 512")
            loaded = said("tftpboot 2000000 file")
            assert "Bytes transferred = 100000" in loaded, loaded
            assert machine.memory[0x200_0000 : 0x200_0000 + len(data)] == data
    finally:
        server.stop()


@pytest.mark.slow
@needs_passt
@pytest.mark.parametrize("card", ["e1000", "virtio-net-pci", "eTSEC"])
def test_uboot_boots_linux_that_it_loads_by_tftp_with_four_cpus(card):
    linux = files("k32")
    server = Tftp(kernel=Path(linux["kernel"]).read_bytes(), initrd=ramdisk(linux["initrd"]))
    server.start()
    try:
        chosen = options("uboot") | {"cores": 4, "serial": [None]}
        with Machine(**chosen, netdevs=["user,id=n0"], devices=[f"{card},netdev=n0"]) as machine:
            machine.start()
            machine.console.expect("=> ", timeout=60)

            def said(command):
                machine.console.send(command + "\n")
                return machine.console.expect("=> ", timeout=100)

            said("virtio scan")
            said("setenv autoload no; setenv tftpblocksize 512")
            assert "10.0.2.15" in said("dhcp")
            said("setenv serverip 10.0.2.2")
            for address, name, data in ((0x200_0000, "kernel", linux["kernel"]), (0x400_0000, "initrd", None)):
                loaded = said(f"tftpboot {address:x} {name}")
                assert f"Bytes transferred = {len(server.files[name])}" in loaded, loaded
                assert data is None or machine.memory[address : address + 64] == Path(data).read_bytes()[:64]
            said("setenv bootargs 'console=ttyS0 stop'")
            machine.console.send("bootm 2000000 4000000 ${fdtcontroladdr}\n")
            machine.console.expect("BOOT-OK", timeout=60)
            outcome = machine.wait(60)
            assert outcome is not None and outcome.kind == "poweroff"
            assert len(re.findall(r"^processor\s*:", machine.console.text, re.MULTILINE)) == 4
    finally:
        server.stop()


@needs_passt
def test_a_network_whose_passt_dies_is_a_lost_link_and_the_machine_lives(linux):
    told = []
    guest = linux("k32", netdevs=["user,id=n0"], devices=["virtio-net-pci,netdev=n0"], cores=4, warn=told.append)
    guest.lease("eth0")
    guest("(while wget -q -T 1 -O /dev/null http://10.0.2.2:1/; do :; done) >/dev/null 2>&1 & sleep 0.2")
    children = Path(f"/proc/{os.getpid()}/task")
    for child in (int(pid) for task in children.iterdir() for pid in (task / "children").read_text().split()):
        if b"passt" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]:
            os.kill(child, signal.SIGKILL)
    guest("until ip link show eth0 | grep NO-CARRIER; do sleep 0.1; done")
    guest("! ping -c 1 -W 1 10.0.2.2")
    assert len(told) == 1 and "passt" in told[0] and "the link is down" in told[0]
