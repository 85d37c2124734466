"""Devices and files that a domain's XML names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.libvirt.daemons import Daemons, free_huge_pages, needs
from tests.libvirt.domains import NETWORK, disk, serial
from tests.libvirt.guests import Guest, linux
from tests.support.waiting import until
from tests.system.booting import TREE, files
from tests.system.booting import needs as needs_drivers

pytestmark = pytest.mark.slow
AGENT = "org.qemu.guest_agent.0"


def test_two_serial_lines(daemons, guests):
    log = daemons.directory / "second.console"
    guest = guests(linux(daemons, devices=[serial(log)]))
    guest.boot()
    guest.run("echo to the second >/dev/ttyS1")
    assert "to the second" in log.read_text()


ANSWERS = """
while :; do while read -r line; do case $line in
*guest-sync*) id=${line##*:}; echo "{\\"return\\":${id%%\\}*}}";;
*guest-ping*) echo "{\\"return\\":{}}";;
*) echo "{\\"error\\":{\\"class\\":\\"CommandNotFound\\",\\"desc\\":\\"only ping\\"}}";;
esac; done; sleep 1; done <>/dev/vport0p1 >&0 &
"""
"""A guest agent of the least."""


def test_a_channel_to_an_agent(daemons, guests):
    needs_drivers("k32", "CONFIG_VIRTIO_CONSOLE")
    channel = f"<channel type='unix'><target type='virtio' name='{AGENT}'/></channel>"
    guest = guests(linux(daemons, devices=[channel]))
    guest.boot()
    assert AGENT in guest.run("cat /sys/class/virtio-ports/vport*/name")
    assert "not connected" in guest.virsh("qemu-agent-command", '{"execute":"guest-ping"}', fails=True)
    guest.send(ANSWERS.replace("\n", " ").strip() + "\n")
    until(lambda: "state='connected'" in guest.virsh("dumpxml"), "a connected agent")
    assert guest.virsh("qemu-agent-command", '{"execute":"guest-ping"}').strip() == '{"return":{}}'
    assert "suspend" in guest.virsh("dompmsuspend", "mem", fails=True)
    assert "only ping" in guest.virsh("domfsinfo", fails=True)


def test_a_disk_in_qcow2(daemons, guests):
    needs("qemu-img")
    image = daemons.directory / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "32M"], check=True)
    guest = guests(linux(daemons, devices=[disk(image, form="qcow2")]))
    guest.boot()
    guest.run("echo in the image | dd of=/dev/vda bs=512 seek=9 conv=sync 2>/dev/null; sync")
    assert f"Capacity: {32 << 20}" in " ".join(guest.virsh("domblkinfo", "vda").split())
    guest.virsh("destroy")
    assert guest.state == "shut off (destroyed)"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw := f"{image}.raw"], check=True)
    assert Path(raw).read_bytes()[9 * 512 :].startswith(b"in the image")


def test_options_of_our_own(daemons, guests):
    guest = guests(linux(daemons, arguments=["-device", "e1000,id=mine,netdev=n0", "-netdev", "user,id=n0"]))
    guest.boot()
    assert "e1000" in guest.run("ls /sys/bus/pci/drivers")
    asked = '{"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}'
    assert '"mine"' in guest.virsh("qemu-monitor-command", asked)


def test_a_device_tree_and_a_loader(daemons, guests):
    tree = daemons.directory / "board.dtb"
    with tree.open("wb") as file:
        words = "-m powervisor dtb -cpu e500mc -smp 2 -m 256 -format dtb".split()
        subprocess.run([sys.executable, *words], check=True, stdout=file, cwd=TREE)
    guest = guests(linux(daemons, boot=[f"<dtb>{tree}</dtb>"]))
    guest.boot()
    guest.virsh("destroy")
    boot = daemons.directory / "uboot.elf"
    shutil.copyfile(files("uboot")["bios"], boot)
    other = guests(linux(daemons, boot=[f"<loader>{boot}</loader>"], kernel="", initrd="", append=""))
    other.start()
    other.expect("U-Boot")


def test_a_directory_of_the_host(daemons, guests):
    needs_drivers("k32", "CONFIG_9P_FS", "CONFIG_NET_9P_VIRTIO")
    shared = daemons.directory / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "note").write_text("from the host\n")
    filesystem = (
        f"<filesystem type='mount' accessmode='squash'><source dir='{shared}'/><target dir='place'/></filesystem>"
    )
    guest = guests(linux(daemons, devices=[filesystem]))
    guest.boot()
    assert "from the host" in guest.run("mkdir -p /mnt; mount -t 9p -o trans=virtio place /mnt; cat /mnt/note")


@pytest.mark.parametrize("kind", ["disk", "interface"])
def test_what_cannot_be_plugged_in_later_is_refused(daemons, guests, kind):
    image = daemons.directory / "later.img"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    guest = guests(linux(daemons))
    guest.boot()
    path = daemons.directory / "later.xml"
    path.write_text({"disk": disk(image, "vdb"), "interface": NETWORK}[kind])
    assert "from the start to the end" in guest.virsh("attach-device", str(path), fails=True)
    assert "alive" in guest.run("echo al''ive")


def test_memory_of_huge_pages_is_given_back(huge_pages):
    daemons = Daemons(huge_pages=True)
    try:
        daemons.start()
        before = free_huge_pages()
        guest = Guest(daemons, linux(daemons, extra=["<memoryBacking><hugepages/></memoryBacking>"]))
        guest.boot()
        assert free_huge_pages() == before - 128
        guest.close()
        assert free_huge_pages() == before
        assert not [path for path in daemons.huge_pages.rglob("*") if path.is_file()]
    finally:
        daemons.close()
