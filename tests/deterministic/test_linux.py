"""Linux on deterministic machines: boots that come to one hash, and its past."""

from __future__ import annotations

import subprocess
import sys

import pytest

from powervisor import Machine, Outcome
from powervisor.debug.control import Control
from powervisor.hv.exits import Debug
from powervisor.hv.stops import Breakpoint
from powervisor.machine.digest import digest
from tests.system.booting import TROUBLE, options

LOAD = "while True: pass"


def boot(cores, **more):
    """What a boot to the end comes to."""
    with Machine(**options("k32") | {"cores": cores} | more, deterministic=True) as machine:
        machine.start()
        assert machine.wait(120) == Outcome("poweroff")
        machine.stop()
        text = machine.console.text
        assert "BOOT-OK" in text and not TROUBLE.search(text)
        return machine.statistics()["deterministic"], text


@pytest.mark.parametrize(
    ("cores", "boots"), [(2, 2), *(pytest.param(cores, 10, marks=pytest.mark.slow) for cores in (1, 2))]
)
def test_boots_of_linux_come_to_one_hash(cores, boots, monkeypatch, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(range(256)) * 4096)
    more = {
        "drives": [f"file={image},if=virtio,snapshot=on,format=raw"],
        "devices": ["virtio-rng-pci", "virtio-balloon-pci"],
    }
    found = []
    for number in range(boots):
        monkeypatch.setenv("POWERVISOR_TIER1", ("on", "off")[number % 2])
        load = subprocess.Popen([sys.executable, "-c", LOAD]) if number % 4 == 3 else None
        try:
            found.append(boot(cores, **more))
        finally:
            if load is not None:
                load.kill()
                load.wait()
    assert all(one == found[0] for one in found)


@pytest.mark.slow
def test_the_past_of_linux_is_walked_and_repeated(tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    drive = f"file={image},if=virtio,snapshot=on,format=raw"
    with Machine(**options("k32", "") | {"cores": 2}, drives=[drive], deterministic=True) as machine:
        control = Control(machine, lambda: None)
        control.hold()
        control.keep_history()
        assert control.history is not None
        machine.start()
        control.go()
        machine.console.expect("/ # ", timeout=120)
        machine.console.send("dd if=/dev/urandom of=/dev/vda bs=4k count=64; echo done-$?\n")
        machine.console.expect("done-0", timeout=120)
        control.hold()
        end, hash_, text = machine.lockstep.position, digest(machine), machine.console.text
        boot_cpu = machine.vcpus[0].regs
        control.breakpoints.add(Breakpoint(boot_cpu["ivpr"] + boot_cpu["ivor10"]))
        before = end
        for _ in range(3):
            stop = control.go_back()
            assert isinstance(stop.why, Debug) and machine.lockstep.position < before
            before = machine.lockstep.position
            for _ in range(5):
                control.step_back(stop.vcpu)
        machine.stops.lift()
        machine.lockstep.go_to(end)
        assert digest(machine) == hash_ and machine.console.text == text
        control.breakpoints.clear()
        assert control.go_back() is None  # to power-on
        machine.lockstep.go_to(end)
        assert digest(machine) == hash_ and machine.console.text == text
        control.go()
        machine.console.send("echo and-$((6 * 7))\n")
        machine.console.expect("and-42", timeout=60)
        control.close()
