"""What libvirt learns of the emulator, and what may be defined."""

from __future__ import annotations

import os
import pwd
import subprocess
from xml.etree import ElementTree

import pytest

from tests.libvirt.daemons import Daemons, needs
from tests.libvirt.domains import NETWORK, disk
from tests.libvirt.guests import UP, Guest, linux
from tests.support.waiting import until


@pytest.mark.parametrize("arch, cores", [
    pytest.param("ppc", set(), marks=pytest.mark.slow), ("ppc64", {"POWERPC_e5500", "POWERPC_e6500"}),
])  # fmt: skip
def test_capabilities_name_the_board_and_the_cores(daemons, arch, cores):
    text = daemons.virsh("domcapabilities", "--emulatorbin", str(daemons.emulators[arch]), "--arch", arch)
    told = ElementTree.fromstring(text)
    assert told.findtext("machine") == "ppce500" and told.findtext("arch") == arch
    assert told.find("vcpu").get("max") == "32"
    assert cores <= {model.text for model in told.iter("model")}


@pytest.mark.parametrize("change, complaint", [
    ({"model": "e600"}, "e600"),
    ({"vcpus": 64}, "CPUs"),
    ({"arch": "ppc", "model": "e500mc"}, "not supported by CPU driver"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_a_line(daemons, guests, change, complaint):
    with pytest.raises(daemons.libvirt.libvirtError, match=complaint):
        guests(linux(daemons, **change)).start()


@pytest.mark.slow
def test_both_architectures(daemons, guests):
    guest = guests(linux(daemons, arch="ppc", model=""))
    guest.boot()
    assert "e500mc" in guest.run("cat /proc/cpuinfo")


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("who", [{"user": "nobody"}, {"owner": "libvirt-qemu"}], ids=["session", "system"])
def test_machines_of_users_without_rights(who):
    daemons = Daemons(**who)
    try:
        daemons.start()
        image = daemons.directory / "disk.img"
        with image.open("wb") as file:
            file.truncate(1 << 20)
        daemons.give(image)
        guest = Guest(daemons, linux(daemons, devices=[NETWORK, disk(image)]))
        guest.boot()
        owner = pwd.getpwnam(*who.values()).pw_uid
        assert os.stat(f"/proc/{guest.process()}").st_uid == owner
        guest.virsh("managedsave")
        guest.virsh("start")
        guest.run("echo written | dd of=/dev/vda 2>/dev/null; sync")
        guest.close()
        assert image.read_bytes().startswith(b"written")
    finally:
        daemons.close()


@pytest.mark.slow
def test_virt_install_makes_a_machine_that_works(daemons):
    needs("virt-install")
    image = daemons.directory / "installed.img"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    model = linux(daemons)
    (daemons.tools / "qemu-system-ppc64").symlink_to(model.emulator)  # what hosts can do is told of such names only
    log = daemons.directory / "installed.console"
    name = model.name
    done = subprocess.run(
        [
            "virt-install", "--connect", daemons.uri, "--name", name, "--import", "--arch", "ppc64",
            "--machine", "ppce500", "--virt-type", "qemu", "--cpu", "e500mc", "--memory", "256", "--vcpus", "2",
            "--boot", f"kernel={model.kernel},initrd={model.initrd},kernel_args=console=ttyS0",
            "--disk", f"path={image},format=raw,bus=virtio", "--network", "user,model=virtio", "--graphics", "none",
            "--serial", f"pty,log.file={log}",
            "--osinfo", "generic", "--noautoconsole",
        ],
        capture_output=True, text=True, timeout=120, cwd=daemons.directory,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        until(lambda: log.exists() and UP in log.read_text(errors="replace"), "the start of Linux", 60)
        assert "vda" in daemons.virsh("domblklist", name)
    finally:
        daemons.virsh("destroy", name)
        daemons.virsh("undefine", name)
