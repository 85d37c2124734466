"""A machine's state in a file, and its memory in a core file."""

from __future__ import annotations

import os
import re

import pytest
from elftools.elf.elffile import ELFFile

from tests.libvirt.conftest import MEBIBYTE
from tests.libvirt.guests import UP


def test_a_saved_machine_goes_on_where_it_was(guest):
    guest.run("echo kept >/tmp/note; dd if=/dev/urandom of=/dev/vda bs=64k count=4 2>/dev/null; sync")
    before = guest.run("cat /tmp/note; md5sum /dev/vda")
    process = guest.process()
    path = guest.daemons.directory / f"{guest.name}.saved"
    guest.virsh("save", str(path))
    assert guest.state == "shut off (saved)"
    damaged = bytearray(path.read_bytes())
    damaged[-len(damaged) // 3] ^= 0x10
    (spoiled := path.with_suffix(".spoiled")).write_bytes(damaged)
    assert "damaged" in guest.daemons.virsh("restore", str(spoiled), fails=True)
    assert guest.state.startswith("shut off")
    guest.daemons.virsh("restore", str(path))
    assert guest.state == "running (restored)" and guest.process() != process
    assert guest.run("cat /tmp/note; md5sum /dev/vda") == before


@pytest.mark.slow
def test_a_start_goes_on_from_a_managed_save(guest):
    guest.run("echo managed >/tmp/note")
    guest.virsh("managedsave")
    assert re.search(r"Managed save: +yes", guest.virsh("dominfo"))
    guest.virsh("start")
    assert guest.state == "running (restored)"
    assert "managed" in guest.run("cat /tmp/note")


@pytest.mark.slow
def test_a_machine_that_stands_still_is_saved_and_reset(guest):
    guest.run("echo still >/tmp/note")
    path = str(guest.daemons.directory / f"{guest.name}.still")
    guest.virsh("suspend")
    guest.virsh("save", path)
    image = guest.daemons.directory / f"{guest.definition.model}.img"
    before = image.stat()
    os.utime(image)
    assert "has changed" in guest.daemons.virsh("restore", path, fails=True)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    guest.daemons.virsh("restore", path)
    assert guest.state.startswith("paused")
    guest.virsh("resume")
    assert "still" in guest.run("cat /tmp/note")
    guest.virsh("dump", path)  # the same stream, of a machine that goes on
    assert "still" in guest.run("cat /tmp/note")
    guest.virsh("suspend")
    guest.virsh("reset")
    assert guest.state.startswith("paused")
    guest.virsh("resume")
    guest.expect(UP)
    guest.expect("#")


def test_memory_is_dumped_as_a_core_file(guest):
    guest.run("echo A-NEEDLE-IN-MEMORY >/tmp/needle")
    path = guest.daemons.directory / f"{guest.name}.core"
    guest.virsh("dump", "--memory-only", str(path))
    assert guest.state.startswith("running")
    with path.open("rb") as file:
        core = ELFFile(file)
        assert core.header.e_type == "ET_CORE" and not core.little_endian
        loads = [segment for segment in core.iter_segments() if segment.header.p_type == "PT_LOAD"]
        assert sum(load.header.p_memsz for load in loads) == 256 * MEBIBYTE
        assert any(b"A-NEEDLE-IN-MEMORY" in load.data() for load in loads)
    path.unlink()
    assert "alive" in guest.run("echo al''ive")
