"""A machine that is saved and restored in the middle of its work."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from hashlib import md5

import pytest

from tests.libvirt.conftest import CORES, MEBIBYTE
from tests.libvirt.domains import disk
from tests.libvirt.guests import linux
from tests.support.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root's libvirtd makes a network with the host"),
    pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="there is no /dev/net/tun"),
]
SENT = 24 * MEBIBYTE
RATE = 3 * MEBIBYTE
"""Bytes of a transfer, and those that the receiver takes in a second."""

WRITES = "until [ -e /tmp/enough ]; do dd if=/tmp/data of=/dev/vda bs=4k oflag=direct 2>/dev/null || break; done"


class Receiver(threading.Thread):
    """Takes a connection, and what comes over it at no great speed."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server((address, 0))
        self.listener.settimeout(60)
        self.port = self.listener.getsockname()[1]
        self.data = bytearray()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(60)
        with connection, self.listener:
            while part := connection.recv(MEBIBYTE // 8):
                self.data += part
                time.sleep(len(part) / RATE)


@pytest.mark.parametrize("cpu", CORES)
def test_transfers_and_writes_go_on_in_the_restored_machine(daemons, guests, cpu):
    subnet = f"10.213.{random.randrange(256)}"
    network = (
        f"<interface type='ethernet'><source><ip address='{subnet}.1' prefix='24'/></source>"
        f"<target dev='pvt{os.getpid()}'/><model type='virtio'/></interface>"
    )
    image = daemons.directory / f"load-{cpu}.img"
    with image.open("wb") as file:
        file.truncate(2 * SENT)
    guest = guests(linux(daemons, cpu, devices=[network, disk(image)], memory=512))
    guest.boot()
    guest.run(f"ip addr add {subnet}.2/24 dev eth0; ip link set eth0 up")
    told = guest.run(f"dd if=/dev/urandom of=/tmp/data bs=1M count={SENT // MEBIBYTE} 2>/dev/null; md5sum </tmp/data")
    digest = sum_of(told)
    receiver = Receiver(f"{subnet}.1")
    receiver.start()
    guest.send(f"nc {subnet}.1 {receiver.port} </tmp/data && echo ALL-''SENT &\n")
    guest.send(f"({WRITES}; echo ALL-''WRITTEN) &\n")
    state = daemons.directory / f"load-{cpu}.saved"
    for _ in range(2):
        before = len(receiver.data)
        until(lambda: len(receiver.data) > before + MEBIBYTE, "more of the transfer", 60)  # noqa: B023
        assert len(receiver.data) < SENT
        guest.virsh("save", str(state))
        daemons.virsh("restore", str(state))
    guest.expect("ALL-SENT")
    guest.send("touch /tmp/enough\n")
    guest.expect("ALL-WRITTEN")
    receiver.join(60)
    assert not receiver.is_alive() and md5(receiver.data).hexdigest() == digest
    assert sum_of(guest.run(f"head -c {SENT} /dev/vda | md5sum")) == digest
    guest.virsh("destroy")
    assert md5(image.read_bytes()[:SENT]).hexdigest() == digest


def sum_of(printed):
    """The MD5 sum in what a guest printed."""
    return re.search(r"\b[0-9a-f]{32}\b", printed)[0]
