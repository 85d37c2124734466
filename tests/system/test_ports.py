"""virtio consoles and ports under unmodified Linux."""

import random
import socket
from hashlib import md5

import pytest

from powervisor import Machine
from powervisor.console import Recorder, open_named
from tests.system.booting import needs, options
from tests.system.test_devices import shell

FIND = "port=/dev/$(basename $(dirname $(grep -l org.example /sys/class/virtio-ports/*/name)))"
"""What udev would make a link of."""
MEGABYTE = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize("guest", ["k32", "k64"])
def test_linux_has_its_console_on_hvc0(guest):
    needs(guest, "CONFIG_VIRTIO_CONSOLE")
    console = Recorder()
    devices = ["virtio-serial-pci", "virtconsole,chardev=c"]
    append = shell("read -r line </dev/hvc0", "echo heard $line").replace("stop ", "console=hvc0 stop ")
    with Machine(
        **options(guest, append) | {"cores": 4}, devices=devices, chardevs={"c": console}, serial=[None]
    ) as machine:
        machine.start()
        console.expect("BOOT-OK", timeout=120)
        console.send("words that were typed\n", timeout=60)
        console.expect("heard words that were typed", timeout=60)
        outcome = machine.wait(60)
        assert outcome is not None and outcome.kind == "poweroff"


@pytest.mark.slow
@pytest.mark.parametrize("properties", ["", "packed=on", "disable-modern=on", "vectors=0"])
def test_a_megabyte_each_way_through_a_port(tmp_path, properties):
    needs("k32", "CONFIG_VIRTIO_CONSOLE")
    _, chardev = open_named(f"socket,id=p,path={tmp_path}/s,server=on,wait=off")
    devices = [f"virtio-serial-pci,{properties}", "virtserialport,chardev=p,name=org.example"]
    append = shell(
        FIND,
        "dd if=/dev/urandom of=/tmp/out bs=1M count=1 2>/dev/null && md5sum /tmp/out && cat /tmp/out >$port",
        f"head -c {MEGABYTE} $port | md5sum",
    )
    data = random.Random(1).randbytes(MEGABYTE)
    with Machine(
        **options("k32", append) | {"cores": 4}, devices=devices, chardevs={"p": chardev}, serial=[None]
    ) as machine:
        machine.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(120)
            client.connect(f"{tmp_path}/s")
            got = b""
            while len(got) < MEGABYTE:
                piece = client.recv(1 << 16)
                assert piece
                got += piece
            client.sendall(data)
            machine.console.expect(md5(data).hexdigest(), timeout=120)
            outcome = machine.wait(60)
        assert outcome is not None and outcome.kind == "poweroff"
        assert f"{md5(got).hexdigest()}  /tmp/out" in machine.console.text
    chardev.close()
