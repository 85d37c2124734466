"""-fsdev and -virtfs: what they open, and what cannot be."""

import re

import pytest

from powervisor import Machine
from powervisor.errors import UserError
from powervisor.fsdev.options import open_exports


@pytest.mark.parametrize(
    ("fsdevs", "virtfs", "message"),
    [
        (["loacl,id=a,path=/"], [], "fsdevs loacl,id=a,path=/: no driver 'loacl'; write fsdevs local,path="),
        (["local,id=a"], [], "path= is missing"),
        (["local,path=/"], [], "id= is missing"),
        (["local,id=a,path=/nonexistent"], [], "cannot be opened (No such file or directory); make it with mkdir"),
        (["local,id=a,path=/dev/null"], [], "cannot be opened (Not a directory)"),
        (["local,id=a,path=/"] * 2, [], "the name a is taken"),
        (
            ["local,id=a,path=/,security_model=mapped-xattr"],
            [],
            "security_model=mapped-xattr is not one of none; that is accessmode='squash'",
        ),
        ([], ["local,path=/"], "mount_tag= is missing"),
    ],
)
def test_mistakes_are_one_line(fsdevs, virtfs, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        open_exports(fsdevs, virtfs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("virtio-9p-pci,fsdev=b,mount_tag=t", "fsdev=b: no such fsdev; there is a"),
        (f"virtio-9p-pci,fsdev=a,mount_tag={'t' * 32}", "is too long; write at most 31 bytes"),
        ("virtio-9p-pci,fsdev=a", "mount_tag= is missing"),
    ],
)
def test_devices_that_cannot_be(device, message, tmp_path):
    with pytest.raises(UserError, match=message):
        Machine(fsdevs=[f"local,id=a,path={tmp_path}"], devices=[device])


def test_virtfs_brings_its_device(tmp_path):
    (tmp_path / "a,b").mkdir()
    where = f"{tmp_path}/a,,b"
    with Machine(virtfs=[f"local,path={where},mount_tag=x", f"local,path={where},mount_tag=y,readonly=on"]) as machine:
        devices = [device for device in machine.built.everything() if device.name.startswith("virtio-9p-pci@")]
        tags = [device.configuration("<") for device in devices if hasattr(device, "configuration")]
    assert tags == [b"\1\0x", b"\1\0y"]
