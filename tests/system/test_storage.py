"""Disks on everything a host can have, under unmodified Linux: formats, servers, and what goes wrong with them."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from powervisor import Machine
from tests.net.test_backends import free_port
from tests.system.booting import TREE, boot, check_linux, options
from tests.system.test_devices import MEGABYTE, WRITE, check_disk, needs_e2fsprogs, needs_qemu, shell
from tests.system.test_networks import Guest

ONCE = "and the guest got an I/O error; further ones are not told"


def empty(path, megabytes):
    """An empty ext2 file system."""
    with path.open("wb") as file:
        file.truncate(megabytes * MEGABYTE)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", path], check=True)
    return path


def converted(path, source, target):
    """The image in another format."""
    other = path.with_suffix(f".{target}")
    subprocess.run(["qemu-img", "convert", "-f", source, "-O", target, path, other], check=True)
    return other


def server_of(image):
    """The qemu-nbd process that serves an image, or None."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-nbd") and any(os.fsencode(image) in word for word in words):
            return int(entry)
    return None


@needs_e2fsprogs
@needs_qemu
@pytest.mark.parametrize(
    "image_format", ["qcow2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vmdk", "vdi"))]
)
def test_linux_keeps_files_on_images_of_other_formats(tmp_path, image_format):
    image = converted(empty(tmp_path / "disk.raw", 64), "raw", image_format)
    words = "-drive", f"file={image},format={image_format},discard=unmap", "-device", "virtio-rng-pci"
    done = boot("k32", "-smp", "4", *words, append=shell(*WRITE))
    assert not done.errors and server_of(image) is None
    check_disk(done, converted(image, image_format, "raw"), 4)


@pytest.mark.slow
@needs_e2fsprogs
@needs_qemu
@pytest.mark.parametrize("properties", ["", "cache=writethrough"])
def test_linux_keeps_files_at_an_nbd_server(tmp_path, properties):
    image, port = empty(tmp_path / "disk.raw", 64), free_port()
    server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-b", "127.0.0.1", "-p", str(port), "-x", "disk", image])
    words = "-drive", f"file=nbd://127.0.0.1:{port}/disk,{properties}", "-device", "virtio-rng-pci"
    time.sleep(1)
    done = boot("k32", "-smp", "4", *words, append=shell(*WRITE))
    assert server.wait(20) == 0, "it ends when its client takes leave"
    check_disk(done, image, 4)


@pytest.mark.slow
@needs_e2fsprogs
@pytest.mark.parametrize("kind", ["raw", pytest.param("qcow2", marks=needs_qemu)])
def test_two_hundred_megabytes_are_right_after_power_off(tmp_path, kind):
    size = 200 * MEGABYTE
    image = empty(tmp_path / "disk.raw", 300)
    if kind != "raw":
        image = converted(image, "raw", kind)
    append = shell(
        "mkdir /mnt", "mount -t ext2 /dev/vda /mnt",
        "seq 300000 >/tmp/part",
        f"for n in $(seq 120); do echo $n; cat /tmp/part; done | head -c {size} >/mnt/file",
        "md5sum /mnt/file", "umount /mnt",
        "mount -t ext2 /dev/vda /mnt", "md5sum /mnt/file", "umount /mnt",
    )  # fmt: skip
    done = boot("k32", "-smp", "4", "-drive", f"file={image},format={kind}", append=append, timeout=400)
    check_linux(done, 4)
    part = "".join(f"{n}\n" for n in range(1, 300_001))
    wanted = hashlib.md5("".join(f"{n}\n{part}" for n in range(1, 121)).encode()[:size]).hexdigest()
    sums = re.findall(r"([0-9a-f]{32})  /mnt/file", done.output)
    assert sums == [wanted] * 2
    raw = image if kind == "raw" else converted(image, kind, "raw")
    subprocess.run(["e2fsck", "-fn", raw], check=True, capture_output=True)
    subprocess.run(["debugfs", "-R", f"dump file {tmp_path}/file", raw], check=True, capture_output=True)
    with (tmp_path / "file").open("rb") as file:
        assert hashlib.file_digest(file, "md5").hexdigest() == wanted


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", pytest.param("qcow2", marks=needs_qemu)])
def test_what_was_acknowledged_survives_a_kill(tmp_path, kind):
    image = tmp_path / f"disk.{kind}"
    if kind == "raw":
        image.write_bytes(bytes(16 * MEGABYTE))
    else:
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, image, "16M"], check=True)
    append = shell(
        "yes acknowledged | head -c 4194304 | dd of=/dev/vda bs=64k seek=16 conv=fsync 2>/dev/null",
        "echo WRITTEN-$?",
        "while true; do yes later | dd of=/dev/vda bs=1M count=1 seek=8 oflag=direct 2>/dev/null; done",
    ).removeprefix("stop ")
    words = [sys.executable, "-m", "powervisor", "run", "-smp", "4", "-drive", f"file={image},format={kind}"]
    for option, value in options("k32", append).items():
        words += [f"-{option}", str(value)] if option != "cores" else []
    process = subprocess.Popen(words, cwd=TREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        seen = b""
        while b"WRITTEN-0" not in seen:
            piece = process.stdout.read1(4096)
            assert piece, seen
            seen += piece
        if kind != "raw":
            assert server_of(image)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    deadline = time.monotonic() + 20
    while server_of(image) is not None:
        assert time.monotonic() < deadline, "qemu-nbd ends with the VMM"
        time.sleep(0.05)
    if kind != "raw":
        subprocess.run(["qemu-img", "check", image], check=True, capture_output=True)
    raw = image if kind == "raw" else converted(image, kind, "raw")
    expected = (b"acknowledged\n" * (4 * MEGABYTE))[: 4 * MEGABYTE]
    assert raw.read_bytes()[MEGABYTE : 5 * MEGABYTE] == expected


# -- what goes wrong on the host


@pytest.fixture
def linux():
    """A Linux with four CPUs and a shell, and what its machine told: `linux(drives=[..])`."""
    machines = []

    def linux(**more):
        told = []
        chosen = options("k32", "") | {"cores": 4, "serial": [None], "warn": told.append} | more
        machines.append(Machine(**chosen))
        return Guest(machines[-1]), told

    yield linux
    for machine in machines:
        machine.close()


DIRECT = "dd if=/dev/zero of=/dev/vda bs=64k count=1 seek={} oflag=direct"
READ = "dd if=/dev/vda of=/dev/null bs=64k count=1 skip={} iflag=direct"


@needs_qemu
def test_a_disk_whose_server_dies_fails_and_the_machine_lives(linux, tmp_path):
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], check=True)
    guest, told = linux(drives=[f"file={image},format=qcow2"])
    guest(DIRECT.format(1))
    guest("(while dd if=/dev/vda of=/dev/null bs=64k iflag=direct; do :; done) >/dev/null 2>&1 & sleep 0.2")
    os.kill(server_of(image), signal.SIGKILL)
    assert "Input/output error" in guest(f"! {READ.format(2)}")
    assert "Input/output error" in guest(f"! {DIRECT.format(3)}")
    guest("echo alive")
    assert len(told) == 1 and "failed (qemu-nbd has ended), " + ONCE in told[0] and str(image) in told[0]


def test_a_disk_that_somebody_removes_goes_on(linux, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(b"x" * MEGABYTE)
    guest, told = linux(drives=[f"file={image},format=raw"])
    image.unlink()
    guest(DIRECT.format(1))
    assert "1+0 records out" in guest(READ.format(1))
    assert not told and not image.exists()


def test_a_disk_that_somebody_cuts_short_reads_as_zeros(linux, tmp_path):
    image = tmp_path / "disk"
    image.write_bytes(b"x" * MEGABYTE)
    guest, told = linux(drives=[f"file={image},format=raw"])
    os.truncate(image, 100_000)
    assert hashlib.md5(bytes(65536)).hexdigest() in guest(
        "dd if=/dev/vda bs=64k count=1 skip=5 iflag=direct 2>/dev/null | md5sum"
    )
    guest(DIRECT.format(5))
    assert not told


@pytest.mark.slow
def test_a_full_disk_of_the_host_is_an_io_error_told_once(tmp_path):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("a mount of one's own needs rights")
    append = shell(
        "dd if=/dev/urandom of=/dev/vda bs=1M count=20 oflag=direct 2>&1",
        "dd if=/dev/urandom of=/dev/vda bs=1M count=20 seek=8 oflag=direct 2>&1",
        "dd if=/dev/vda of=/dev/null bs=1M count=4 iflag=direct 2>&1",
        "echo ALIVE",
    )
    words = [sys.executable, "-m", "powervisor", "run", "-timeout", "200", "-smp", "4"]
    for option, value in options("k32", append).items():
        words += [f"-{option}", str(value)] if option != "cores" else []
    script = 'mount -t tmpfs -o size=6M full "$0" && truncate -s 32M "$0/disk" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, tmp_path, *words, "-drive", f"file={tmp_path}/disk,format=raw"]
    done = subprocess.run(command, cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    output, errors = done.stdout.decode(errors="replace"), done.stderr.decode()
    assert done.returncode == 0, errors
    assert output.count("dd: error writing '/dev/vda': Input/output error") == 2, output[-2000:]
    assert "4+0 records out" in output and "ALIVE" in output
    assert len(errors.splitlines()) == 1 and f"write failed (No space left on device), {ONCE}" in errors
