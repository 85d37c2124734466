"""powervisor libvirt xml: machines in libvirt's words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from powervisor.cli.libvirt import _PASSED_ON, _PASSED_ON_ALONE
from powervisor.cli.machine_options import add_guest_options, add_machine_options
from powervisor.cli.options import Parser
from powervisor.libvirt.domain import QEMU

TRANSLATED = {
    "name", "guest", "board", "cpu", "smp", "memory", "kernel", "initrd", "append", "bios", "dtb", "device", "drives",
    "virtfs", "fsdevs", "netdevs", "serial", "mem_path", "mem_prealloc", "machine_name", "no_reboot",
}  # fmt: skip
SHARED = "-drive", "if=none,id=d,file=x", "-device", "virtio-blk-pci,drive=d"
WITHOUT_MEANING = {"help", "nographic", "accel"}
"""The console is libvirt's anyway, and how guest code runs too."""


@pytest.fixture
def xml(command, tmp_path, monkeypatch):
    """The root element of what is written for options; libvirt's schema agrees with it, where that is installed."""
    monkeypatch.chdir(tmp_path)
    for name in ("kernel", "initrd", "disk.img", "dtb"):
        Path(name).write_bytes(bytes(512))

    def make(*words):
        done = command("libvirt", "xml", *words)
        assert done.status == 0, done.err
        if shutil.which("virt-xml-validate") and shutil.which("xmllint"):
            Path("domain.xml").write_text(done.out)
            valid = subprocess.run(["virt-xml-validate", "domain.xml", "domain"], capture_output=True, text=True)
            assert valid.returncode == 0, valid.stderr
        return ElementTree.fromstring(done.out)

    return make


def arguments(root):
    return [one.get("value") for one in root.findall(f"{{{QEMU}}}commandline/{{{QEMU}}}arg")]


def test_every_option_of_a_machine_has_its_place():
    parser = Parser("xml", "")
    add_guest_options(parser)
    add_machine_options(parser)
    places = [TRANSLATED, set(_PASSED_ON), set(_PASSED_ON_ALONE), WITHOUT_MEANING]
    assert {action.dest for action in parser._actions} == set().union(*places)
    assert sum(map(len, places)) == len(set().union(*places))


def test_a_64_bit_machine_names_its_core(xml, tmp_path):
    root = xml(
        *("-kernel", "kernel", "-initrd", "initrd", "-append", "console=ttyS0 a<b", "-cpu", "e6500", "-m", "1G"),
        *("-smp", "cores=2,threads=2", "-dtb", "dtb", "-name", "board", "-no-reboot", "-accel", "translate"),
    )
    assert root.findtext("name") == "board"
    assert (root.find("memory").get("unit"), root.findtext("memory"), root.findtext("vcpu")) == ("KiB", "1048576", "4")
    assert root.find("os/type").attrib == {"arch": "ppc64", "machine": "ppce500"}
    assert root.findtext("cpu/model") == "e6500"
    assert root.find("cpu/topology").attrib == {"sockets": "1", "cores": "2", "threads": "2"}
    boot = {tag: root.findtext(f"os/{tag}") for tag in ("kernel", "initrd", "dtb", "cmdline")}
    files = {name: str(tmp_path / name) for name in ("kernel", "initrd", "dtb")}
    assert boot == {**files, "cmdline": "console=ttyS0 a<b"}
    assert root.findtext("on_reboot") == "destroy"
    assert root.findtext("devices/emulator").endswith("/bin/powervisor-system-ppc64")
    assert arguments(root) == []


def test_a_32_bit_machine_says_nothing_about_cpus(xml):
    root = xml("-kernel", "kernel", "-cpu", "e500mc", "-smp", "2")
    assert root.find("os/type").get("arch") == "ppc"
    assert root.find("cpu") is None and root.findtext("vcpu") == "2"
    assert root.findtext("devices/emulator").endswith("/bin/powervisor-system-ppc")
    assert root.findtext("name") == "powervisor" and root.findtext("on_reboot") == "restart"


def test_firmware_is_the_loader(xml, tmp_path):
    assert xml("-bios", "kernel").findtext("os/loader") == str(tmp_path / "kernel")


def test_devices_that_libvirt_knows_are_elements(xml, tmp_path):
    root = xml(
        *("-kernel", "kernel", "-drive", "file=disk.img,readonly=on,discard=unmap,cache=writethrough"),
        *("-drive", "if=none,id=d,file=disk.img,format=qcow2", "-device", "virtio-blk-pci,drive=d,serial=S1,id=x"),
        *("-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,mac=52:54:00:12:34:56"),
        *("-netdev", "tap,id=t,ifname=nonesuch0", "-device", "e1000,netdev=t"),
        *("-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"),
        *("-virtfs", f"local,path={tmp_path},mount_tag=share"),
        *("-fsdev", f"local,id=f,path={tmp_path},readonly=on", "-device", "virtio-9p-pci,fsdev=f,mount_tag=other"),
        *("-network", "default", "-mem-path", "/dev/hugepages", "-mem-prealloc"),
    )
    assert arguments(root) == []
    first, second = root.findall("devices/disk")
    assert first.find("driver").attrib == {"name": "qemu", "type": "qcow2"} and first.findtext("serial") == "S1"
    assert second.find("driver").attrib == {
        "name": "qemu", "type": "raw", "cache": "writethrough", "discard": "unmap",
    }  # fmt: skip
    assert second.find("source").get("file") == str(tmp_path / "disk.img")
    assert (first.find("readonly"), second.find("readonly") is not None) == (None, True)
    assert [disk.find("target").get("dev") for disk in (first, second)] == ["vda", "vdb"]
    cards = [(one.get("type"), one.find("model").get("type")) for one in root.findall("devices/interface")]
    assert cards == [("user", "virtio"), ("ethernet", "e1000"), ("network", "virtio")]
    assert root.find("devices/interface/mac").get("address") == "52:54:00:12:34:56"
    assert root.find("devices/interface/target").attrib == {"dev": "nonesuch0", "managed": "yes"}
    shares = root.findall("devices/filesystem")
    assert [one.find("target").get("dir") for one in shares] == ["other", "share"]
    assert shares[0].find("readonly") is not None and {one.get("accessmode") for one in shares} == {"squash"}
    assert len(root.findall("devices/rng")) == len(root.findall("devices/memballoon")) == 1
    assert root.find("memoryBacking/hugepages") is not None
    assert root.find("memoryBacking/allocation").get("mode") == "immediate"


def test_all_else_is_passed_on_with_what_belongs_to_it(xml, tmp_path):
    root = xml(
        *("-kernel", "kernel", "-M", "ppce500,hypervisor=on,usb=off", "-drive", "if=sd,file=disk.img"),
        *("-drive", "if=none,id=d,file=nbd://server/x", "-device", "virtio-blk-pci,drive=d"),
        *("-netdev", "user,id=n,hostfwd=tcp::2222-:22", "-device", "virtio-net-pci,netdev=n"),
        *("-netdev", "user,id=m", "-device", "eTSEC,netdev=m", "-snapshot", "-icount", "ns=2", "-no-cache"),
        *("-blockdev", "driver=file,node-name=f,filename=disk.img", "-blockdev", "driver=raw,node-name=b,file=f"),
        *("-device", "virtio-blk-pci,drive=b"),
        *("-device", "loader,file=disk.img,addr=0x1000", "-pcap", "frames.pcap"),
    )
    assert not root.findall("devices/disk") and not root.findall("devices/interface")
    disk = tmp_path / "disk.img"
    assert arguments(root) == [
        "-machine", "hypervisor=on",
        "-blockdev", f"driver=file,node-name=f,filename={disk}", "-blockdev", "driver=raw,node-name=b,file=f",
        "-pcap", f"{tmp_path}/frames.pcap", "-icount", "ns=2", "-snapshot", "-no-cache",
        "-device", "virtio-blk-pci,drive=d", "-device", "virtio-net-pci,netdev=n", "-device", "eTSEC,netdev=m",
        "-device", "virtio-blk-pci,drive=b", "-device", f"loader,file={disk},addr=0x1000",
        "-drive", f"if=sd,file={disk}", "-drive", "if=none,id=d,file=nbd://server/x",
        "-netdev", "user,id=n,hostfwd=tcp::2222-:22", "-netdev", "user,id=m",
    ]  # fmt: skip


def test_a_balloon_with_properties_is_the_only_one(xml):
    root = xml("-kernel", "kernel", "-device", "virtio-balloon-pci,disable-modern=on")
    assert root.find("devices/memballoon").get("model") == "none"
    assert arguments(root) == ["-device", "virtio-balloon-pci,disable-modern=on"]


def test_serial_lines_are_kept_in_files(xml, tmp_path):
    root = xml("-kernel", "kernel", "-name", "m")
    assert [one.get("type") for one in root.findall("devices/serial")] == ["pty"]
    assert root.find("devices/serial/log").get("file").endswith("/libvirt/qemu/m-serial0.log")
    root = xml(
        "-kernel", "kernel", "-session", "-serial", "unix:line,server=on,wait=off", "-serial", "tcp::4444,server=on"
    )
    first, second = root.findall("devices/serial")
    assert first.find("source").attrib == {"mode": "bind", "path": str(tmp_path / "line")}
    assert second.find("source").attrib == {"mode": "bind", "host": "0.0.0.0", "service": "4444"}
    assert [one.find("target").get("port") for one in (first, second)] == ["0", "1"]
    root = xml("-kernel", "kernel", "-serial", "null", "-serial", "file:out")
    assert [one.find("log") is None for one in root.findall("devices/serial")] == [True, False]


@pytest.mark.parametrize(
    "words, status, said",
    [
        ((), 1, "nothing to boot; name a guest"),
        (("-kernel", "k", *SHARED, "-device", "virtio-blk-pci,drive=d"), 1, "-drive id=d: two devices use it"),
        (("-kernel", "k", "-append", "a\x01"), 1, "XML cannot have the character '\\x01'"),
        (("-kernel", "k\udcff"), 1, "XML cannot have the character '\\udcff'"),
        (("-kernel", "k", *SHARED, "-drive", "if=none,id=d,file=y"), 1, "id=d is taken; give each its own"),
        (("builtin",), 1, "builtin is for powervisor run only; name a guest"),
        (("-kernel", "kernel", "-serial", "chardev:c"), 1, "-serial chardev:c: libvirt opens serial lines itself"),
        (("-kernel", "kernel", "-drive", "format=raw"), 1, "file= is missing"),
        (("-kernel", "kernel", "-device", "virtio-rng"), 1, "virtio-rng"),
        (("-kernel", "kernel", "-smp", "33"), 1, "-smp 33: ppce500 has 1 to 32 CPUs"),
        (("-kernel", "kernel", "-smp", "2,threads=2"), 1, "-smp threads=2: e5500 has one thread a core"),
        (("-kernel", "kernel", "-m", "100"), 1, "-m 100 MiB: ppce500 takes multiples of 64 MiB"),
        (("-kernel", "kernel", "-name", "a/b"), 1, "-name a/b: libvirt takes no name with a /"),
        (("-kernel", "kernel", "-kernl", "x"), 2, "-kernl: no such option; did you mean -kernel"),
        (("k33",), 2, "guests are"),
    ],
)
def test_what_libvirt_cannot_have_is_told_in_a_line(command, words, status, said):
    done = command("libvirt", "xml", *words)
    assert done.status == status and not done.out
    assert done.err.count("\n") == 1 and said in done.err


def test_a_guest_that_everybody_may_read_is_taken_from_there(command, tmp_path, monkeypatch):
    mine, root = tmp_path / "mine", tmp_path / "root"
    root.mkdir()
    mine.mkdir()
    for name in ("uImage-k32", "initramfs32.cpio.gz"):
        (mine / name).write_bytes(b"x")
    monkeypatch.setenv("POWERVISOR_GUESTS", str(mine))
    found = ElementTree.fromstring(command("libvirt", "xml", "k32", "-root", str(root)).out)
    assert found.findtext("os/kernel") == str(mine / "uImage-k32")
    assert command("libvirt", "setup", "-root", str(root), "-guest", "k32").status == 0
    found = ElementTree.fromstring(command("libvirt", "xml", "k32", "-root", str(root), "-append", "stop").out)
    assert found.findtext("os/kernel") == "/var/cache/powervisor/guests/uImage-k32"
    assert found.findtext("os/cmdline") == "console=ttyS0 stop" and found.findtext("name") == "k32"
    assert (root / "var/cache/powervisor/guests/uImage-k32").read_bytes() == b"x"


def test_what_machines_cannot_read_is_told(command, tmp_path, monkeypatch):
    monkeypatch.setattr("powervisor.libvirt.access.obstacle", lambda path, account: f"nobody may read {path}")
    (tmp_path / "kernel").write_bytes(b"x")
    done = command("libvirt", "xml", "-session", "-kernel", str(tmp_path / "kernel"))
    assert done.status == 0 and ElementTree.fromstring(done.out) is not None
    assert f"nobody may read {tmp_path}/kernel" in done.err
