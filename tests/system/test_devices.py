"""Plugged devices under unmodified Linux and U-Boot, through the command line."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest

from powervisor import Machine
from tests.system.booting import TREE, Boot, boot, check_linux, files, needs, options

needs_e2fsprogs = pytest.mark.skipif(not shutil.which("mke2fs"), reason="mke2fs is not installed (package e2fsprogs)")
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-nbd"), reason="qemu-nbd is not installed (package qemu-utils)")
MEGABYTE = 1 << 20


def shell(*commands: str) -> str:
    """The kernel argument that makes /init run commands, then power off."""
    return "stop run=" + ";".join(command.replace(" ", "+") for command in commands)


@pytest.fixture
def image(tmp_path):
    """An empty ext2 file system of 64 MiB."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 * MEGABYTE)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", path], check=True)
    return path


def stored(image: Path, name: str) -> bytes:
    """A file in the image, after a check of the whole file system."""
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    return subprocess.run(["debugfs", "-R", f"cat {name}", image], check=True, capture_output=True).stdout


WRITE = (
    "mkdir /mnt",
    "mount -t ext2 /dev/vda /mnt",
    "dd if=/dev/hwrng of=/mnt/seed bs=1k count=64 2>/dev/null",
    "dd if=/dev/urandom of=/mnt/file bs=1M count=20 2>/dev/null",
    "md5sum /mnt/file /mnt/seed",
    "umount /mnt",
    "mount -t ext2 /dev/vda /mnt",
    "md5sum /mnt/file",
    "umount /mnt",
    "grep virtio /proc/interrupts",
    "cat /sys/bus/pci/devices/*/resource | sed s/^/BAR-/",
)


def check_disk(done: Boot, image: Path, cpus: int) -> None:
    """What the guest wrote is what it read, and what the image has."""
    from hashlib import md5

    check_linux(done, cpus)
    sums = re.findall(r"([0-9a-f]{32})  /mnt/(file|seed)", done.output)
    assert len(sums) == 3 and sums[0] == sums[2], done.output[-2000:]
    file, seed = stored(image, "file"), stored(image, "seed")
    assert (len(file), len(seed)) == (20 * MEGABYTE, 64 << 10)
    assert [md5(file).hexdigest(), md5(seed).hexdigest()] == [sums[0][0], sums[1][0]]


@needs_e2fsprogs
def test_linux_keeps_files_on_a_disk_and_draws_random_numbers(image):
    words = "-device", "virtio-rng-pci", "-drive", f"file={image},format=raw,if=virtio"
    done = boot("k32", "-smp", "2", *words, append=shell(*WRITE))
    check_disk(done, image, 2)
    assert re.search(r"fsl-msi-\d+ +\d+ Edge +virtio1-req.0", done.output)
    # Where QEMU 7.2 lets Linux put the same two devices.
    bars = re.findall(r"BAR-0x0*(\w+) 0x0*(\w+) 0x0*[1-9a-f]", done.output)
    assert bars[:3] == [("1080", "109f"), ("c00008000", "c00008fff"), ("c00000000", "c00003fff")]
    assert bars[3:] == [("1000", "107f"), ("c00009000", "c00009fff"), ("c00004000", "c00007fff")]


WAYS = {
    "packed": ("k32", 2, "packed=on"),
    "legacy": ("k32", 2, "disable-modern=on"),
    "modern": ("k32", 4, "disable-legacy=on,addr=1f"),
    "pin": ("k32", 4, "vectors=0"),
    "legacy-pin": ("k32", 1, "vectors=0,disable-modern=on,event_idx=off"),
    "bus-addresses": ("k32", 4, "iommu_platform=on,packed=on"),
    "queues": ("k32", 4, "num-queues=4"),
    "k64": ("k64", 4, "packed=on"),
    "k64-legacy": ("k64", 1, "disable-modern=on"),
    "k64av": ("k64av", 2, ""),
}


@pytest.mark.slow
@needs_e2fsprogs
@pytest.mark.parametrize("way", WAYS)
def test_linux_keeps_files_in_every_way_a_disk_can_be_had(image, way):
    guest, cpus, properties = WAYS[way]
    common = "" if "num-queues" in properties else properties.replace("addr=1f", "addr=2")
    words = "-drive", f"file={image},if=none,id=d", "-device", f"virtio-blk-pci,drive=d,{properties}"
    done = boot(guest, "-smp", str(cpus), *words, "-device", f"virtio-rng-pci,{common}", append=shell(*WRITE))
    check_disk(done, image, cpus)


@pytest.mark.slow
@needs_e2fsprogs
def test_drivers_can_be_unbound_and_bound_again(image):
    driver = "/sys/bus/virtio/drivers"
    again = [f"echo virtio0 >{driver}/virtio_blk/unbind", f"echo virtio0 >{driver}/virtio_blk/bind"] * 5
    pci = [f"echo 0000:00:01.0 >/sys/bus/pci/drivers/virtio-pci/{what}" for what in ("unbind", "bind")] * 5
    words = "-drive", f"file={image},cache=writethrough", "-device", "virtio-rng-pci"
    check_disk(boot("k32", "-smp", "2", *words, append=shell(*again, *pci, *WRITE)), image, 2)


@pytest.mark.slow
@needs_e2fsprogs
def test_every_virtio_driver_can_be_bound_again_with_four_cpus(image, tmp_path):
    needs("k32", "CONFIG_VIRTIO_CONSOLE", "CONFIG_VIRTIO_BALLOON", "CONFIG_NET_9P_VIRTIO", "CONFIG_9P_FS")
    share = tmp_path / "share"
    share.mkdir()
    words = "-drive", f"file={image}", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"
    words += "-device", "virtio-serial-pci", "-chardev", f"file,id=p,path={tmp_path}/out"
    words += "-device", "virtserialport,chardev=p,name=org.example", "-virtfs", f"local,path={share},mount_tag=share"
    bound = "for d in /sys/bus/virtio/devices/*/driver; do echo BOUND-$(basename $(readlink $d)); done"
    again = (
        "for d in /sys/bus/virtio/devices/*; do v=$(basename $d); b=$(readlink -f $d/driver); "
        "echo $v >$b/unbind && echo $v >$b/bind; done"
    )
    use = (
        "mkdir -p /mnt /share",
        "mount -t 9p -o trans=virtio,version=9p2000.L share /share && cp /proc/uptime /share/$RANDOM && umount /share",
        "for p in /dev/vport*; do echo line >$p; done",
    )
    append = shell(bound, *use, *([again] * 3), bound, *use, *WRITE)
    check_disk(boot("k32", "-smp", "4", *words, append=append), image, 4)
    assert len(list(share.iterdir())) == 2 and (tmp_path / "out").read_text() == "line\n" * 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", pytest.param("qcow2", marks=needs_qemu)])
def test_linux_resets_the_board_while_its_disk_works(tmp_path, kind):
    image = tmp_path / "disk.img"
    if kind == "raw":
        image.write_bytes(bytes(64 * MEGABYTE))
    else:
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, image, "64M"], check=True)
    busy = "dd if=/dev/urandom of=/dev/vda bs=64k & dd if=/dev/vda of=/dev/null bs=1M & sleep 0.3"
    append = shell(busy, "reboot -f").removeprefix("stop ")
    chosen = options("k32", append) | {"cores": 4, "drives": [f"file={image},format={kind}"], "serial": [None]}
    with Machine(**chosen, devices=["virtio-rng-pci"]) as machine:
        machine.start()
        for _ in range(6):
            machine.console.expect("BOOT-OK", timeout=60)


@pytest.mark.slow
@needs_e2fsprogs
def test_a_snapshot_leaves_the_image_as_it_was(image):
    before = image.read_bytes()
    done = boot("k32", "-snapshot", "-drive", f"file={image}", append=shell(*WRITE[:9]).replace("hwrng", "zero"))
    check_linux(done, 2)
    sums = re.findall(r"([0-9a-f]{32})  /mnt/file", done.output)
    assert len(sums) == 2 and sums[0] == sums[1]
    assert image.read_bytes() == before


def ramdisk(path: str) -> bytes:
    """The file as U-Boot's ramdisk image."""
    data = Path(path).read_bytes()

    def header(crc: int) -> bytes:
        sizes = 0x2705_1956, crc, 0, len(data), 0, 0, crc32(data)
        return struct.pack(">7I4B32s", *sizes, 5, 7, 3, 0, b"initrd")  # Linux, PowerPC, RAM disk, not compressed

    return header(crc32(header(0))) + data


@pytest.mark.slow
@needs_e2fsprogs
def test_uboot_reads_a_disk_and_boots_linux_from_it(image, tmp_path):
    linux = files("k32")
    (tmp_path / "initrd").write_bytes(ramdisk(linux["initrd"]))
    for path, name in ((linux["kernel"], "uImage"), (tmp_path / "initrd", "initrd")):
        subprocess.run(["debugfs", "-w", "-R", f"write {path} {name}", image], check=True, capture_output=True)
    with Machine(
        **options("uboot"), drives=[f"file={image},snapshot=on"], devices=["virtio-rng-pci"], serial=[None]
    ) as machine:
        machine.start()
        machine.console.expect("=> ", timeout=60)

        def said(command: str) -> str:
            machine.console.send(command + "\n")
            return machine.console.expect("=> ", timeout=60)

        assert re.search(r"00\.01\.00 +0x1af4 +0x1005", said("pci"))
        assert re.search(r"1 +0x0*e01\w+ +0x0*1000 ", said("pci bar 0.1.0"))
        said("virtio scan")
        assert "Capacity: 64.0 MB" in said("virtio info")
        assert "uImage" in said("ext2ls virtio 0")
        assert "bytes read" in said("ext2load virtio 0 2000000 uImage")
        assert "bytes read" in said("ext2load virtio 0 4000000 initrd")
        said("setenv bootargs 'console=ttyS0 stop run=cat+/dev/vda+|+wc+-c'")
        machine.console.send("bootm 2000000 4000000 ${fdtcontroladdr}\n")
        machine.console.expect("BOOT-OK", timeout=40)
        machine.console.expect(str(64 * MEGABYTE), timeout=40)
        outcome = machine.wait(40)
        assert outcome is not None and outcome.kind == "poweroff"


def test_an_image_in_use_is_refused_at_once(tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(MEGABYTE))
    with Machine(drives=[f"file={image}"], serial=[None]):
        command = [sys.executable, "-m", "powervisor", "run", "-drive", f"file={image}", "-timeout", "60"]
        refused = subprocess.run(command, cwd=TREE, capture_output=True, timeout=90)
    assert refused.returncode == 1
    assert refused.stderr.decode() == (
        f"powervisor run: -drive file={image}: another machine uses this image; stop that one, or work on a copy\n"
    )
