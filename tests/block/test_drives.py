"""-drive and -blockdev: names, what they open, who else may have it open, and one clear line for what cannot be."""

import os
import shutil
import subprocess

import pytest

from powervisor.block.drives import check, open_drives
from powervisor.block.file import RawFile
from powervisor.block.overlay import Overlay
from powervisor.errors import UserError
from powervisor.fdsets import FdSets, opened_from
from powervisor.guests import builtin


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk,1.img"
    path.write_bytes(b"\xaa" * 65536)
    return path


@pytest.fixture
def opened():
    """Like open_drives, and closed at the end."""
    found = []

    def opened(*texts, **more):
        found.append(open_drives(texts, **more))
        return found[-1]

    yield opened
    for drives in found:
        drives.close()


def name(path):
    return str(path).replace(",", ",,")


def test_drives_bring_their_device_unless_somebody_names_them(opened, image, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(bytes(1024))
    drives = opened(f"file={name(image)},format=raw", f"file={other},if=none,id=data")
    assert list(drives.by_name) == ["virtio0", "data"]
    assert drives.devices == ["virtio-blk-pci,drive=virtio0"]
    assert drives.by_name["virtio0"].backend.size == 65536


def test_index_orders_drives(opened, image, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(bytes(1024))
    drives = opened(f"file={name(image)},index=1", f"file={other},index=0")
    assert [drive.backend.size for drive in drives.by_name.values()] == [1024, 65536]


def test_a_drive_has_one_device(opened, image):
    drives = opened(f"file={name(image)},if=none,id=d")
    with pytest.raises(UserError, match=r"no device uses it; add devices virtio-blk-pci,drive=d"):
        drives.check_used()
    drives.claim("d", "-device a")
    drives.check_used()
    with pytest.raises(UserError, match="-device b: drive=d is used by -device a"):
        drives.claim("d", "-device b")
    with pytest.raises(UserError, match="-device b: drive=e: no such drive; there is d"):
        drives.claim("e", "-device b")


@pytest.mark.parametrize("word", ["readonly=on", "read-only=on"])
def test_read_only_drives_are_opened_for_reading(opened, image, word):
    image.chmod(0o400)
    backend = opened(f"file={name(image)},{word}").by_name["virtio0"].backend
    assert backend.read_only
    with pytest.raises(OSError):
        os.write(backend.fd, b"x")


@pytest.mark.parametrize("more", [{"snapshot": True}, {}])
def test_snapshot_of_all_or_of_one(opened, image, more):
    text = f"file={name(image)}" + ("" if more else ",snapshot=on")
    backend = opened(text, **more).by_name["virtio0"].backend
    assert isinstance(backend, Overlay) and not backend.read_only
    backend.writev([memoryview(b"x" * 512)], 0)
    assert image.read_bytes() == b"\xaa" * 65536


def test_cache_modes(opened, image, monkeypatch):
    modes = {}
    real = RawFile.__init__

    def spy(self, fd, read_only=False, sync=False, flushes=True, unmap=False):
        modes[mode] = sync, flushes, unmap
        real(self, fd, read_only, sync, flushes, unmap)

    monkeypatch.setattr(RawFile, "__init__", spy)
    for mode in ("writeback", "none", "writethrough", "directsync", "unsafe"):
        opened(f"file={name(image)},cache={mode},discard=unmap").close()
    assert modes == {
        "writeback": (False, True, True),
        "none": (False, True, True),
        "writethrough": (True, True, True),
        "directsync": (True, True, True),
        "unsafe": (False, False, True),
    }


def test_blockdevs_in_each_of_qemus_ways(opened, image):
    for nodes in (
        [f"driver=file,filename={name(image)},node-name=d"],
        [f"driver=raw,node-name=d,file.driver=file,file.filename={name(image)}"],
        [f"driver=file,filename={name(image)},node-name=f", "driver=raw,file=f,node-name=d"],
    ):
        drives = opened(blockdevs=nodes)
        assert list(drives.by_name) == ["d"] and drives.devices == []
        assert drives.by_name["d"].backend.size == 65536
        drives.close()


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("", "", False),
        ("", "readonly=on", False),
        ("readonly=on", "", False),
        ("", "snapshot=on", False),
        ("readonly=on", "snapshot=on", True),
        ("", "file.locking=off", True),
    ],
)
def test_an_image_that_is_written_has_one_user(opened, image, first, second, together):
    opened(f"file={name(image)},{first}")
    if together:
        opened(f"file={name(image)},{second}")
        return
    with pytest.raises(UserError, match="drives file=.*: another machine uses this image; stop that one"):
        opened(f"file={name(image)},{second}")


def test_the_image_is_free_again_when_it_is_closed(opened, image):
    for _ in range(3):
        opened(f"file={name(image)}").close()


@pytest.mark.skipif(not shutil.which("qemu-system-ppc64"), reason="qemu-system-ppc64 is not installed")
def test_qemu_and_we_respect_each_other(opened, image):
    command = ["qemu-system-ppc64", "-M", "ppce500", "-nodefaults", "-display", "none", "-monitor", "stdio", "-S"]
    command += ["-blockdev", f"driver=file,filename={name(image)},node-name=n", "-device", "virtio-blk-pci,drive=n"]
    command += ["-cpu", "e500mc", "-kernel", str(builtin.image(32))]
    drives = opened(f"file={name(image)}")
    refused = subprocess.run(command, input=b"quit\n", capture_output=True, timeout=60)
    assert refused.returncode and b"lock" in refused.stderr
    drives.close()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(b"info status\n")  # answered when the devices are there
        process.stdin.flush()
        seen = b""
        while b"paused" not in seen:
            piece = process.stdout.read1(4096)
            assert piece, seen
            seen += piece
        with pytest.raises(UserError, match="another machine uses this image"):
            opened(f"file={name(image)}")
    finally:
        process.communicate(b"quit\n", timeout=30)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "drives : file= is missing; add file=TEXT"),
        ("file=none", r"drives file=none: cannot be opened \(No such file or directory\); make one with truncate"),
        ("file=.", "drives file=.: is neither a file nor a block device"),
        ("file=/dev/zero", "is neither a file nor a block device"),
        ("file=empty", "is empty; give it a size with truncate"),
        ("file=qcow", "looks like a qcow2 image; say so with format=qcow2, or add format=raw for its bytes"),
        ("file=full,if=ide", "if=ide is not one of virtio, sd, pflash, none"),
        ("file=full,format=warp", "format=warp is not one of raw, qcow2, vmdk"),
        ("file=full,cache=some", "cache=some is not one of writeback"),
        ("file=full,sanpshot=on", "unknown property 'sanpshot'; did you mean snapshot"),
    ],
)
def test_drives_that_cannot_be(opened, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_bytes(bytes(512))
    (tmp_path / "qcow").write_bytes(b"QFI\xfb" + bytes(508))
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match=message) as error:
        opened("file=full,if=none,id=first", text)
    assert "\n" not in str(error.value)
    assert len(os.listdir("/proc/self/fd")) == descriptors, "what was opened before is closed"


def test_a_snapshot_needs_room(opened, image, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"snapshot: no file .* in .*none \(No such file or directory\); set TMPDIR"):
        opened(f"file={name(image)}", snapshot=True)
    opened(f"file={name(image)}")


def test_bytes_of_any_image_can_be_had_on_request(opened, tmp_path):
    (tmp_path / "qcow").write_bytes(b"QFI\xfb" + bytes(508))
    assert opened(f"file={tmp_path}/qcow,format=raw").by_name["virtio0"].backend.size == 512


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (["driver=file,filename=x"], "node-name= is missing"),
        (["node-name=n,filename=x"], "driver= is missing"),
        (["driver=raw,node-name=n"], "no image; add file.filename=FILE"),
        (["driver=file,node-name=n"], "no image; add filename=FILE"),
        (["driver=raw,node-name=n,file=m"], "file=m is no -blockdev of driver=file"),
        (["driver=file,filename=x,node-name=n"] * 2, "node-name=n is taken"),
    ],
)
def test_blockdevs_that_cannot_be(nodes, message):
    with pytest.raises(UserError, match=message):
        check((), nodes)


def test_names_are_taken_once(opened, image):
    with pytest.raises(UserError, match="the name d is taken"):
        opened(f"file={name(image)},id=d", f"file={name(image)},id=d,readonly=on")


def test_an_image_may_be_a_descriptor_of_a_set(image):
    sets = FdSets()
    sets.add(os.open(image, os.O_RDONLY), 1, None)
    with opened_from(sets):
        with pytest.raises(UserError, match="/dev/fdset/1: the set has no descriptor that is open for this"):
            open_drives([], ["driver=file,node-name=a,filename=/dev/fdset/1"])
        sets.add(os.open(image, os.O_RDWR), 1, None)
        drives = open_drives([], ["driver=file,node-name=a,filename=/dev/fdset/1"])
    assert drives.by_name["a"].backend.size == 65536 and not drives.by_name["a"].backend.read_only
    drives.close()
    sets.close()


def test_a_backing_file_is_no_drive_of_its_own(image):
    base = ["driver=file,node-name=b-file,filename=b", "driver=raw,node-name=b,file=b-file"]
    top = [f"driver=file,node-name=f,filename={name(image)}", "driver=raw,node-name=a,file=f,backing=b"]
    drives = open_drives([], [*base, *top])
    assert list(drives.by_name) == ["a"]
    drives.close()
