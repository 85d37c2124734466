"""What libvirt costs at a start."""

from __future__ import annotations

import statistics
import subprocess
import time

import pytest

from tests.libvirt.guests import linux
from tests.support.waiting import until

STARTS = 5
MOST = 0.5
"""Seconds."""


@pytest.mark.slow
def test_a_guest_prints_no_later_through_virsh(daemons, guests, capsys):
    guest = guests(linux(daemons))
    definition = guest.definition
    words = (
        f"-M ppce500 -cpu {definition.model} -m {definition.memory} -smp {definition.vcpus} -nodefaults "
        f"-no-user-config -display none -device virtio-balloon-pci -serial stdio "
        f"-kernel {definition.kernel} -initrd {definition.initrd}"
    )
    direct, managed = [], []
    for _ in range(STARTS):
        began = time.monotonic()
        with subprocess.Popen(
            [definition.emulator, *words.split(), "-append", definition.append],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.stdout.read(1)
            direct.append(time.monotonic() - began)
            process.kill()
        guest.log.write_text("")
        began = time.monotonic()
        guest.virsh("start")
        until(lambda: guest.log.stat().st_size, "the first output")
        managed.append(time.monotonic() - began)
        guest.virsh("destroy")
    with capsys.disabled():
        print(f"\nfirst output: {statistics.median(direct):.2f} s, through virsh {statistics.median(managed):.2f} s")
    assert statistics.median(managed) - statistics.median(direct) < MOST
