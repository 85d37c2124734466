"""Linux with all network cards: what it had from its networks comes again with nobody at the other ends."""

from __future__ import annotations

import random
import shutil
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from powervisor import Machine, Outcome
from powervisor.machine.inputs import TIME
from powervisor.machine.recording import load
from tests.net.test_backends import records
from tests.system.booting import needs, options
from tests.system.test_networks import Guest, needs_passt

DEVICES = [f"{model},netdev=n{n}" for n, model in enumerate(("virtio-net-pci", "e1000", "eTSEC"))]
INTERFACES = {n: f"52:54:00:12:34:{0x56 + n:02x}" for n in range(len(DEVICES))}
DATA = random.Random(6).randbytes(2 << 20)
MAC = bytes.fromhex("5254000000fe")


class Echo:
    """Whoever is asked for, and answers pings, at the other end of a -netdev dgram."""

    def __init__(self, directory, name):
        own, guest = directory / f"{name}-peer", directory / f"{name}-guest"
        where = f"local.type=unix,local.path={guest},remote.type=unix,remote.path={own}"
        self.netdev = f"dgram,id={name},{where}"
        self._guest = str(guest)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(own))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while frame := self._socket.recv(1 << 16):
            if answer := self._answer(frame):
                self._socket.sendto(answer, self._guest)

    def _answer(self, frame):
        head, kind = frame[6:12] + MAC, frame[12:14]
        if kind == b"\x08\x06" and frame[20:22] == b"\0\1":
            return head + frame[12:21] + b"\2" + MAC + frame[38:42] + frame[22:32]
        if kind == b"\x08\x00" and frame[23] == 1 and frame[34] == 8:
            check = struct.unpack(">H", frame[36:38])[0] + 0x0800
            check = (check & 0xFFFF) + (check >> 16)
            ends = frame[30:34] + frame[26:30]
            return head + frame[12:26] + ends + b"\0" + frame[35:36] + struct.pack(">H", check) + frame[38:]
        return None

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture
def booted(request, tmp_path):
    """A moment of Linux at its shell, and its networks: (snapshot, netdevs)."""
    needs("k32", "CONFIG_GIANFAR")
    with ExitStack() as stack:
        echoes = [stack.enter_context(closing(Echo(tmp_path, f"n{n}"))) for n in (1, 2)]
        chosen = options("k32", "") | {"serial": [None], "cores": request.param, "devices": DEVICES}
        netdevs = ["user,id=n0", *(echo.netdev for echo in echoes)]
        with Machine(**chosen, netdevs=netdevs, deterministic=True) as machine:
            Guest(machine)
            snapshot = machine.snapshot()
        yield snapshot, stack.pop_all()


@pytest.fixture
def web(tmp_path):
    """The port where DATA is served as /file."""
    (tmp_path / "file").write_bytes(DATA)
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@needs_passt
@pytest.mark.parametrize("booted", [2, pytest.param(1, marks=pytest.mark.slow)], indirect=True)
def test_what_linux_had_from_three_cards_comes_again_from_a_recording(booted, web, tmp_path, monkeypatch):
    snapshot, networks = booted
    path, captures, again = tmp_path / "recording", tmp_path / "captures", tmp_path / "again"
    with Machine.load(snapshot, serial=[None], record=path, pcap=captures) as machine:
        machine.console.send("\n")
        guest = Guest(machine)
        names = {n: guest(f"grep -l {mac} /sys/class/net/*/address").split("net/")[-1].split("/")[0]
                 for n, mac in INTERFACES.items()}  # fmt: skip
        assert guest.lease(names[0]) == "10.0.2.15"
        threading.Timer(0.1, machine.snapshot).start()  # which changes nothing
        assert md5(DATA).hexdigest() in guest(f"wget -q -O /file http://10.0.2.2:{web}/file && md5sum /file")
        for n in (1, 2):
            guest(f"ip addr add 10.1.{n}.1/24 dev {names[n]} && ip link set {names[n]} up")
            assert "3 packets received" in guest(f"ping -c 3 -i 0.1 -s 1400 10.1.{n}.2")
        for up in (False, True):
            machine.backends.all_netdevs()[0].set_link(up)
            guest(f"until [ $(cat /sys/class/net/{names[0]}/carrier) = {int(up)} ]; do usleep 20000; done")
        begin = time.monotonic()
        guest("usleep 400000")
        assert time.monotonic() - begin >= 0.4
        assert machine.lockstep.inputs.kept_bytes == 0
        machine.stop()
        outcome, text = machine.statistics()["deterministic"], machine.console.text
        guest.check()
    networks.close()
    monkeypatch.setenv("PATH", str(tmp_path))  # no passt
    assert shutil.which("passt") is None
    with Machine.load(snapshot, serial=[None], replay=path, pcap=again) as machine:
        machine.start()
        assert machine.wait(100) == Outcome("replayed")
        machine.stop()
        assert (machine.statistics()["deterministic"], machine.console.text) == (outcome, text)
    assert again.read_bytes() == captures.read_bytes()
    assert sum(length for length, _ in records(captures)) > len(DATA)
    with closing(load(path)) as recording:
        sources = {input_.source for input_ in recording.inputs()}
    assert sources == {"serial0", TIME, "netdev n0", "netdev n1", "netdev n2", "link of netdev n0"}
