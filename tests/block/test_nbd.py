"""The NBD client against a server of the test's own, which keeps to the protocol and counts, and against qemu-nbd."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from powervisor.block.backend import Do, Job
from powervisor.block.drives import check, open_drives
from powervisor.block.nbd_server import NbdServer, parse_server
from powervisor.block.overlay import Overlay
from powervisor.errors import UserError
from tests.support.nbd_server import Server
from tests.support.waiting import until

SIZE = 1 << 20
REFUSALS = {"no such export": (1 << 31) + 6, "wants TLS": (1 << 31) + 5, "knows no NBD_OPT_GO": (1 << 31) + 1}
needs_qemu = pytest.mark.skipif(not shutil.which("qemu-nbd"), reason="qemu-nbd is not installed (package qemu-utils)")


@pytest.fixture
def nbd(tmp_path):
    """A server and the drive at it: `nbd("cache=writethrough", flags=1)`."""
    opened = []

    def nbd(properties="", **how):
        server = Server(tmp_path / f"nbd{len(opened)}", **how)
        path = server.listener.getsockname()
        drives = open_drives([f"file=nbd+unix:///disk?socket={path},if=none,id=d,{properties}"])
        opened.append(drives)
        return server, drives.by_name["d"].backend

    yield nbd
    for drives in opened:
        drives.close()


def read(disk, offset, length, pieces=3):
    cuts = sorted(random.Random(length).randrange(length + 1) for _ in range(pieces - 1))
    data = bytearray(length)
    disk.readv([memoryview(data)[a:b] for a, b in zip([0, *cuts], [*cuts, length], strict=True)], offset)
    return bytes(data)


def test_reads_and_writes_arrive(nbd):
    server, disk = nbd()
    assert (disk.size, disk.read_only, server.name) == (SIZE, False, "disk")
    assert read(disk, 1536, 70_000) == server.data[1536:71_536]
    data = random.Random(3).randbytes(100_000)
    disk.writev([memoryview(data)[:5], memoryview(b""), memoryview(data)[5:]], 512)
    assert server.data[512 : 512 + len(data)] == data
    disk.flush()
    disk.readv([], 0)
    assert [kind for kind, *_ in server.requests] == [0, 1, 3]
    disk.close()
    assert server.left.wait(5)


def test_zeros_and_discards_are_passed_on(nbd):
    server, disk = nbd("discard=unmap")
    disk.write_zeroes(4096, 8192, unmap=True)
    disk.write_zeroes(0, 512, unmap=False)
    disk.discard(65536, 4096)
    assert server.requests == [(6, 0, 4096, 8192), (6, 2, 0, 512), (4, 0, 65536, 4096)]
    assert server.data[4096:12288] == bytes(8192)
    server, disk = nbd()
    disk.write_zeroes(4096, 8192, unmap=True)
    disk.discard(65536, 4096)
    assert server.requests == [(6, 2, 4096, 8192)], "discard=ignore makes no holes"


def test_a_server_that_can_little_is_asked_for_little(nbd):
    server, disk = nbd("discard=unmap", flags=1)
    disk.write_zeroes(512, 1 << 19, unmap=True)
    disk.flush()
    disk.discard(0, 512)
    assert {kind for kind, *_ in server.requests} == {1} and server.data[512 : 512 + (1 << 19)] == bytes(1 << 19)


def test_cache_modes(nbd):
    server, disk = nbd("cache=writethrough")
    disk.writev([memoryview(bytes(512))], 0)
    disk.write_zeroes(0, 512, unmap=False)
    assert [flags & 1 for _, flags, _, _ in server.requests] == [1, 1]
    server, disk = nbd("cache=unsafe")
    disk.flush()
    disk.writev([memoryview(bytes(512))], 0)
    assert server.requests == [(1, 0, 0, 512)]


def test_large_transfers_are_cut_to_what_the_server_takes(nbd):
    server, disk = nbd(blocks=(1, 4096, 65536))
    data = random.Random(4).randbytes(200_000)
    disk.writev([memoryview(data)[:99], memoryview(data)[99:]], 512)
    assert server.data[512:200_512] == data and read(disk, 512, 200_000) == data
    assert [length for _, _, _, length in server.requests] == [65536, 65536, 65536, 200_000 - 3 * 65536] * 2


def test_many_requests_are_under_way_and_answered_in_any_order(nbd):
    server, disk = nbd()
    server.held = 50
    buffers, done = [bytearray(512) for _ in range(50)], []
    for n, buffer in enumerate(buffers):
        disk.begin(Job(Do.READ, 512 * n, 512, [memoryview(buffer)]), lambda error, n=n: done.append((n, error)))
    deadline = time.monotonic() + 10
    while len(done) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    order = [n for n, error in done if error is None]
    assert sorted(order) == list(range(50)) and order != sorted(order)
    assert b"".join(buffers) == server.data[:25600]


def test_errors_of_the_server_are_the_hosts(nbd):
    server, disk = nbd()
    server.fail = 28
    with pytest.raises(OSError, match="No space left"):
        disk.writev([memoryview(bytes(512))], 0)
    server.fail = 5
    with pytest.raises(OSError, match="Input/output error"):
        read(disk, 0, 512)
    server.fail = 0
    assert read(disk, 0, 512) == server.data[:512]


@pytest.mark.parametrize("how", ["closed", "nonsense", "abandoned"])
def test_a_server_that_has_gone_is_an_error_from_then_on(nbd, how):
    server, disk = nbd()
    server.held = 3
    failed = []
    for n in range(2):
        disk.begin(Job(Do.READ, 512 * n, 512, [memoryview(bytearray(512))]), failed.append)
    while len(server.requests) < 2:
        time.sleep(0.01)
    message = {"closed": "the NBD server has gone", "nonsense": "broke the protocol", "abandoned": "patience"}[how]
    if how == "closed":
        server.gone()
    elif how == "nonsense":
        server.client.sendall(b"?" * 16)
    else:
        disk.abandon("out of patience")
    deadline = time.monotonic() + 10
    while len(failed) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(3):
        with pytest.raises(OSError, match=message):
            disk.flush()
    assert len(failed) == 2 and all(message in str(error) for error in failed)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        *(({"refuse": code}, why) for why, code in REFUSALS.items()),
        ({"hello": b"x" * 16}, "does not speak NBD's fixed newstyle"),
        ({"hello": b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"}, "does not speak NBD's fixed newstyle"),
        ({"size": 1000}, "its export has 1000 bytes, no whole number of sectors"),
        ({"size": 0}, "its export has 0 bytes"),
        ({"flags": 3}, "its export is read-only; add readonly=on"),
        ({"blocks": (3, 3, 3)}, "its answer makes no sense"),
    ],
)
def test_servers_that_cannot_be_used(nbd, how, message):
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match=message) as error:
        nbd(**how)
    assert str(error.value).startswith("drives file=nbd+unix:///disk?socket=") and "\n" not in str(error.value)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_without_fua_writes_cannot_be_stable_at_once(nbd):
    with pytest.raises(UserError, match=r"cannot make single writes stable \(no FUA\); use cache=writeback"):
        nbd("cache=writethrough", flags=0b101)


def test_read_only_and_snapshots(nbd):
    assert nbd("readonly=on", flags=3)[1].read_only
    server, disk = nbd("snapshot=on", flags=3)
    assert isinstance(disk, Overlay)
    disk.writev([memoryview(b"x" * 512)], 512)
    assert read(disk, 0, 1536) == bytes(server.data[:512]) + b"x" * 512 + bytes(server.data[1024:1536])
    assert {kind for kind, *_ in server.requests} == {0}


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("nbd://host/disk", NbdServer("host", 10809, export="disk")),
        ("nbd+tcp://host:1234", NbdServer("host", 1234)),
        ("nbd://[::1]:1234/a%20b", NbdServer("::1", 1234, export="a b")),
        ("nbd+unix:///disk?socket=/tmp/x y", NbdServer(path="/tmp/x y", export="disk")),
        ("nbd+unix:///?socket=/tmp/nbd", NbdServer(path="/tmp/nbd")),
        ("nbd:host:1234:exportname=disk", NbdServer("host", 1234, export="disk")),
        ("nbd:127.0.0.1:1234", NbdServer("127.0.0.1", 1234)),
        ("nbd:[::1]:1234", NbdServer("::1", 1234)),
        ("nbd:unix:/tmp/nbd:exportname=a:b", NbdServer(path="/tmp/nbd", export="a:b")),
        ("disk.img", None),
        ("/tmp/nbd:x", None),
    ],
)
def test_ways_to_write_a_server(text, server):
    assert parse_server(text, "-drive") == server
    if server:
        assert parse_server(str(server), "-drive") == server


@pytest.mark.parametrize(
    "text", ["nbd:", "nbd://", "nbd://host:0/x", "nbd://host:99999", "nbd:host", "nbd+unix:///x", "nbd://h/x?socket=y"]
)
def test_servers_that_are_none(text):
    with pytest.raises(UserError, match="-drive: does not name an NBD server; write for example nbd://"):
        parse_server(text, "-drive")


def test_nobody_listens(tmp_path):
    with pytest.raises(UserError, match=r"cannot connect \(Connection refused\); start the server first"):
        open_drives(["file=nbd://127.0.0.1:1/x"])
    with pytest.raises(UserError, match=r"cannot connect \(No such file or directory\)"):
        open_drives([f"file=nbd+unix:///x?socket={tmp_path}/none"])
    with pytest.raises(UserError, match="NBD with TLS is not supported"):
        open_drives(["file=nbds://127.0.0.1/x"])


def test_blockdevs_name_servers_too(tmp_path):
    for words in (
        "driver=nbd,node-name=d,server.type=unix,server.path={},export=disk",
        "driver=raw,node-name=d,file.driver=nbd,file.server.type=unix,file.server.path={},file.export=disk",
    ):
        server = Server(tmp_path / "socket")
        drives = open_drives((), [words.format(tmp_path / "socket")])
        assert list(drives.by_name) == ["d"] and server.name == "disk"
        drives.close()
        (tmp_path / "socket").unlink()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("driver=nbd,node-name=d", "no server; add server.type=inet,server.host=HOST"),
        ("driver=raw,node-name=d,file.driver=nbd,file.server.type=unix", "no server; add file.server.path=SOCKET"),
        ("driver=qcow2,node-name=d,file.driver=raw,file.filename=x", "its file is a raw, which has a file itself"),
        ("driver=file,node-name=d,filename=y,file.driver=file,file.filename=x", "a file has no file"),
        ("driver=qcow2,node-name=d,file.driver=file,file.fliename=x", "file: unknown property 'fliename'"),
    ],
)
def test_blockdevs_that_cannot_be(node, message):
    with pytest.raises(UserError, match=message):
        check((), [node])


# -- qemu-nbd


@pytest.fixture
def create(tmp_path):
    """An image of 8 MiB in a format."""

    def create(image_format, name="disk", *more):
        path = tmp_path / f"{name}.{image_format}"
        subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *more, path, "8M"], check=True)
        return path

    return create


def as_raw(path, image_format):
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", path, raw], check=True)
    return raw.read_bytes()


def processes(path):
    """qemu-nbd processes that serve an image."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if os.fsencode(path) in file.read():
                    found.append(int(entry))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


@needs_qemu
@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed"])
def test_every_format_keeps_what_is_written(create, image_format):
    image = create(image_format)
    data = random.Random(5).randbytes(100 << 10)
    drives = open_drives([f"file={image},format={image_format}"])
    disk = drives.by_name["virtio0"].backend
    assert 8 << 20 <= disk.size < 9 << 20
    disk.writev([memoryview(data)], 3 << 20)
    disk.flush()
    disk.write_zeroes(3 << 20, 4096, unmap=True)
    assert read(disk, 3 << 20, 8192) == bytes(4096) + data[4096:8192]
    drives.close()
    assert processes(image) == []
    assert as_raw(image, image_format)[3 << 20 :][: len(data)] == bytes(4096) + data[4096:]
    drives = open_drives([f"file={image},format={image_format},readonly=on"])
    assert drives.by_name["virtio0"].backend.read_only
    assert read(drives.by_name["virtio0"].backend, 3 << 20, 8192) == bytes(4096) + data[4096:8192]
    drives.close()


@needs_qemu
def test_an_image_that_is_written_has_one_user_in_any_format(create):
    image = create("qcow2")
    drives = open_drives([f"file={image},format=qcow2"])
    for more in ("", ",readonly=on", ",snapshot=on"):
        with pytest.raises(UserError, match="another machine uses this image; stop that one, or work on a copy"):
            open_drives([f"file={image},format=qcow2{more}"])
    with pytest.raises(UserError, match="another machine uses this image"):
        open_drives([f"file={image},format=raw"])
    open_drives([f"file={image},format=qcow2,readonly=on,file.locking=off"]).close()
    drives.close()
    both = [open_drives([f"file={image},format=qcow2,readonly=on"]) for _ in range(2)]
    for drives in both:
        drives.close()
    open_drives([f"file={image},format=raw"]).close()


@needs_qemu
def test_a_snapshot_leaves_an_image_of_any_format(create):
    image = create("qcow2", "a,b=c:d")
    before = image.read_bytes()
    name = str(image).replace(",", ",,")
    drives = open_drives([f"file={name},format=qcow2"], snapshot=True)
    disk = drives.by_name["virtio0"].backend
    disk.writev([memoryview(b"x" * 512)], 512)
    disk.flush()
    assert read(disk, 0, 1536) == bytes(512) + b"x" * 512 + bytes(512)
    drives.close()
    assert image.read_bytes() == before


@needs_qemu
def test_a_qcow2_image_as_a_blockdev(create):
    image = create("qcow2")
    for nodes in (
        [f"driver=qcow2,node-name=d,file.driver=file,file.filename={image}"],
        [f"driver=file,filename={image},node-name=f", "driver=qcow2,file=f,node-name=d"],
    ):
        drives = open_drives((), nodes)
        assert list(drives.by_name) == ["d"] and drives.by_name["d"].backend.size == 8 << 20
        drives.close()


@needs_qemu
def test_a_format_may_lie_on_a_server(create, tmp_path):
    image = create("qcow2", "disk", "-o", "preallocation=metadata")  # an export does not grow
    path = tmp_path / "nbd"
    server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-k", path, "-x", "e", "-t", image])
    try:
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        drives = open_drives([f"file=nbd+unix:///e?socket={path},format=qcow2"])
        disk = drives.by_name["virtio0"].backend
        disk.writev([memoryview(b"y" * 512)], 0)
        drives.close()
    finally:
        server.terminate()
        server.wait(20)
    assert as_raw(image, "qcow2")[:1024] == b"y" * 512 + bytes(512)


@needs_qemu
@pytest.mark.parametrize("content", [b"no image at all" * 100, b""])
def test_what_is_no_such_image_is_told_in_a_line(tmp_path, content):
    image = tmp_path / "disk"
    image.write_bytes(content)
    with pytest.raises(UserError, match="see whether it is a qcow2 image") as error:
        open_drives([f"file={image},format=qcow2"])
    assert str(error.value).startswith(f"drives file={image}: qemu-nbd cannot open it (")
    assert "\n" not in str(error.value) and processes(image) == []


def test_a_missing_image_and_a_missing_program_have_remedies(tmp_path, monkeypatch):
    (tmp_path / "disk").write_bytes(b"QFI\xfb" + bytes(508))
    with pytest.raises(UserError, match="make one with qemu-img create -f qcow2 none 1G"):
        open_drives(["file=none,format=qcow2"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="qcow2 images need qemu-nbd, which is not installed; apt install qemu-utils"):
        open_drives([f"file={tmp_path}/disk,format=qcow2"])


@needs_qemu
def test_qemu_nbd_that_is_killed_is_an_io_error(create):
    image = create("qcow2")
    drives = open_drives([f"file={image},format=qcow2"])
    disk = drives.by_name["virtio0"].backend
    (server,) = processes(image)
    os.kill(server, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(OSError, match="qemu-nbd has ended"):
            read(disk, 0, 512)
    drives.close()


HOLDER = """
import sys, time
from powervisor.block.drives import open_drives
drives = open_drives([sys.argv[1]])
print("open", flush=True)
time.sleep(100)
"""


def killed(drive, ready):
    """Kill a process that has opened a drive, or is about to, when `ready` says so."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, drive], stdout=subprocess.PIPE)
    try:
        ready(process)
    finally:
        process.kill()
        process.communicate()


@needs_qemu
def test_qemu_nbd_ends_with_a_process_that_is_killed(create):
    image = create("qcow2")
    killed(f"file={image},format=qcow2", lambda process: process.stdout.readline())
    until(lambda: not processes(image))
    open_drives([f"file={image},format=qcow2"]).close()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed (package util-linux)")
def test_qemu_nbd_ends_with_a_process_that_is_killed_before_they_have_met(tmp_path, monkeypatch):
    image, program = tmp_path / "disk", tmp_path / "qemu-nbd"
    image.write_bytes(bytes(512))
    program.write_text("#!/bin/sh\nexec tail -f /dev/null $*\n".replace("$*", str(image)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    killed(f"file={image},format=qcow2", lambda _: until(lambda: any(is_tail(pid) for pid in processes(image))))
    until(lambda: not processes(image))


def is_tail(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read() == "tail\n"
