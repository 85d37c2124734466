"""The memory balloon under unmodified Linux."""

import os
import re
import time

import pytest

from powervisor import Machine
from powervisor.errors import PowervisorError
from tests.system.booting import needs, options
from tests.system.test_devices import shell

MEGABYTE = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize("properties", ["", "disable-modern=on"])
def test_linux_gives_memory_back_and_gets_it_again(properties):
    needs("k32", "CONFIG_VIRTIO_BALLOON")
    fill = "dd if=/dev/zero of=/tmp/fill bs=1M count=150 2>/dev/null", "rm /tmp/fill"
    look = "echo MARK; read -r go; grep MemTotal /proc/meminfo"
    append = shell(*fill, look, look, look)
    chosen = {**options("k32", append), "memory": 256 * MEGABYTE, "cores": 4}
    with Machine(**chosen, devices=[f"virtio-balloon-pci,{properties}"], serial=[None]) as machine:
        machine.start()
        machine.console.expect("MARK\r\n", timeout=120)
        before = os.fstat(machine.ram.fd).st_blocks * 512

        def settle(size):
            machine.balloon.target = size
            deadline = time.monotonic() + 60
            while machine.balloon.memory != size:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            machine.console.send("\n")
            said = machine.console.expect(r"MemTotal: +(\d+) kB", timeout=60, regex=True)
            return int(re.search(r"MemTotal: +(\d+)", said)[1]) << 10

        whole = settle(256 * MEGABYTE)
        assert whole - settle(128 * MEGABYTE) == 128 * MEGABYTE
        assert before - os.fstat(machine.ram.fd).st_blocks * 512 > 80 * MEGABYTE
        assert machine.balloon.guest_statistics()["total-memory"] == whole - 128 * MEGABYTE
        assert settle(256 * MEGABYTE) == whole


def test_a_machine_without_a_balloon_says_how_to_get_one():
    with Machine(serial=[None]) as machine, pytest.raises(PowervisorError, match="add devices virtio-balloon-pci"):
        _ = machine.balloon
