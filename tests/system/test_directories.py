"""Directories of the host under unmodified Linux's v9fs."""

import re
from hashlib import md5

import pytest

from tests.system.booting import boot, check_linux, needs
from tests.system.test_devices import shell

MOUNT = "mkdir /mnt", "mount -t 9p -o trans=virtio,version=9p2000.L share /mnt"


@pytest.mark.slow
@pytest.mark.parametrize("guest", ["k32", "k64"])
@pytest.mark.parametrize("properties", ["", "packed=on", "disable-modern=on"])
def test_linux_works_in_a_directory_and_does_not_leave_it(tmp_path, guest, properties):
    needs(guest, "CONFIG_9P_FS", "CONFIG_NET_9P_VIRTIO")
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("SECRET")
    (inside / "out").symlink_to(tmp_path)
    (inside / "given").write_bytes(bytes(range(256)) * 80_000)
    append = shell(
        *MOUNT,
        "ls -la /mnt",
        "md5sum /mnt/given",
        "dd if=/dev/urandom of=/mnt/made bs=1M count=20 2>/dev/null",
        "md5sum /mnt/made",
        "mkdir /mnt/d && mv /mnt/made /mnt/d/moved && ln -s moved /mnt/d/link && ln /mnt/d/moved /mnt/d/hard",
        "md5sum /mnt/d/link",
        "cat /mnt/../secret /mnt/d/../../secret /mnt/out/secret",
        "mknod /mnt/null c 1 3; mkfifo /mnt/pipe; echo MADE-$(ls /mnt | wc -l)",
        "for n in $(seq 300); do echo $n >/mnt/d/$n; done; rm /mnt/d/1*; ls /mnt/d | wc -l | sed s/^/LEFT-/",
        "umount /mnt",
    )
    words = "-fsdev", f"local,id=f,path={inside}", "-device", f"virtio-9p-pci,fsdev=f,mount_tag=share,{properties}"
    done = boot(guest, "-smp", "4", *words, append=append)
    check_linux(done, 4)
    sums = dict(reversed(pair) for pair in re.findall(r"([0-9a-f]{32})  /mnt/(\S+)", done.output))
    assert sums["given"] == md5((inside / "given").read_bytes()).hexdigest()
    moved = (inside / "d" / "moved").read_bytes()
    assert len(moved) == 20 << 20 and sums["made"] == sums["d/link"] == md5(moved).hexdigest()
    assert (inside / "d" / "hard").samefile(inside / "d" / "moved")
    assert "SECRET" not in done.output
    assert "MADE-3" in done.output and "LEFT-192" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "secret"]


@pytest.mark.slow
def test_a_directory_may_be_read_only(tmp_path):
    needs("k32", "CONFIG_9P_FS", "CONFIG_NET_9P_VIRTIO")
    (tmp_path / "file").write_text("as it was")
    append = shell(*MOUNT, "cat /mnt/file", "echo x >/mnt/file", "mkdir /mnt/new", "rm -f /mnt/file", "umount /mnt")
    done = boot("k32", "-virtfs", f"local,path={tmp_path},mount_tag=share,readonly=on", append=append)
    check_linux(done, 2)
    assert "as it was" in done.output and done.output.count("Read-only file system") == 3
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]
