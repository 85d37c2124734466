"""The 9P server: what v9fs asks for, staying inside the directory, and messages that are none."""

import errno
import os
import random
import struct

import pytest

from powervisor.fsdev import server as module
from powervisor.fsdev.server import Server, Unanswerable
from powervisor.fsdev.tree import Tree
from tests.support.ninep_client import Client, Refused, text


def refused(code):
    return pytest.raises(Refused, match=f"^{code}$")


def test_files_are_written_and_read(client, directory):
    fid = client.create("file", mode=0o640)
    data = random.Random(1).randbytes(150_000)
    for at in range(0, len(data), 60_000):
        assert client.write(fid, data[at : at + 60_000], at) == len(data[at : at + 60_000])
    assert (directory / "file").read_bytes() == data
    assert (directory / "file").stat().st_mode & 0o7777 == 0o640
    assert client.read(fid, 100_000, 1000) == data[100_000:101_000]
    assert client.read(fid, len(data)) == b""
    assert client.call(50, struct.pack("<II", fid, 1)) == client.call(50, struct.pack("<I", fid)) == b""
    assert client.attributes(fid)[4] == len(data)
    client.clunk(fid)
    assert client.read(client.open(client.walk("file")), 5, 10) == data[5:15]


def test_opening_again_truncates_and_appends(client, directory):
    (directory / "file").write_bytes(b"old content")
    client.clunk(client.open(client.walk("file"), 0o1002))
    assert (directory / "file").read_bytes() == b""
    client.write(client.create("file", flags=0o2001), b"abc", 100)
    client.write(client.create("file", flags=0o2001), b"def", 100)
    assert (directory / "file").read_bytes() == b"abcdef"
    with refused(errno.EEXIST):
        client.create("file", flags=0o202)


def test_directories_are_listed_whole_in_pieces(client, directory):
    names = [f"name-{n:03}" for n in range(300)]
    for name in names:
        (directory / name).touch()
    (directory / "link").symlink_to("nowhere")
    (directory / "below").mkdir()
    assert client.list() == {".": 4, "..": 4, "link": 10, "below": 4, **dict.fromkeys(names, 8)}
    assert client.list(count=100).keys() == client.list().keys()


def test_names_come_and_go(client, directory):
    client.call(72, struct.pack("<I", 0) + text("d") + struct.pack("<II", 0o755, 0))
    d = client.walk("d")
    client.clunk(client.create("a", parent=d))
    client.call(16, struct.pack("<I", d) + text("s") + text("../../secret") + struct.pack("<I", 0))
    assert client.call(22, struct.pack("<I", client.walk("d", "s"))) == text("../../secret")
    client.call(70, struct.pack("<II", d, client.walk("d", "a")) + text("b"))
    assert client.attributes(client.walk("d", "b"))[3] == 2
    held = client.open(client.walk("d", "a"))
    client.call(74, struct.pack("<I", d) + text("a") + struct.pack("<I", 0) + text("moved"))
    client.call(20, struct.pack("<II", client.walk("d", "b"), 0) + text("b"))
    assert sorted(os.listdir(directory)) == ["b", "d", "moved"] and client.read(held) == b""
    with refused(errno.ENOTEMPTY):
        client.call(76, struct.pack("<I", 0) + text("d") + struct.pack("<I", 0x200))
    client.call(76, struct.pack("<I", d) + text("s") + struct.pack("<I", 0))
    client.call(76, struct.pack("<I", 0) + text("d") + struct.pack("<I", 0x200))
    client.call(122, struct.pack("<I", client.walk("moved")))
    assert os.listdir(directory) == ["b"]
    assert client.attributes(held)[3] == 1, "the other name of it"
    for fid in (0, client.walk()):
        with refused(errno.EBUSY):
            client.call(122, struct.pack("<I", fid))


def test_attributes_are_set(client, directory):
    (directory / "file").write_bytes(b"0123456789")
    fid = client.walk("file")
    client.set(fid, 1 | 8 | 0x20 | 0x100, mode=0o6751, size=4, mtime=(1_000_000_000, 5))
    found = (directory / "file").stat()
    assert found.st_mode & 0o7777 == 0o751, "no set-user-id"
    assert (found.st_size, found.st_mtime_ns) == (4, 1_000_000_000 * 10**9 + 5)
    client.set(fid, 0x20)
    assert (directory / "file").stat().st_mtime > 1_700_000_000
    with refused(errno.EINVAL):
        client.set(fid, 8, size=1 << 63)
    with refused(errno.EINVAL):
        client.set(0, 8, size=5)
    read_only = client.create("dark", mode=0o400)
    client.write(read_only, b"abc")
    client.set(read_only, 8, size=1)
    assert (directory / "dark").read_bytes() == b"a"


def test_renamed_directories_keep_their_handles(client, directory, monkeypatch):
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "a" / "b" / "file").write_text("here")
    fid, below = client.walk("a", "b", "file"), client.walk("a", "b")
    client.call(74, struct.pack("<I", 0) + text("a") + struct.pack("<I", 0) + text("z"))
    client.server.tree.forget()
    assert client.read(client.open(fid)) == b"here"
    assert list(client.list("z", "b")) == [".", "..", "file"]
    assert client.attributes(client.walk("..", "..", "z", start=below))[0] == client.attributes(client.walk("z"))[0]


def test_removed_files_are_read_on_and_give_their_space_back(client, directory):
    fid = client.create("file")
    client.write(fid, b"still there")
    inode = (directory / "file").stat().st_ino
    client.call(76, struct.pack("<I", 0) + text("file") + struct.pack("<I", 0))
    assert client.read(fid) == b"still there" and client.attributes(fid)[3] == 0
    client.clunk(fid)
    client.attributes(0)
    held = {
        os.stat(f"/proc/self/fd/{fd}").st_ino
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }
    assert inode not in held


@pytest.mark.parametrize("path", ["../secret", "../../secret", "d/../../secret", "up/secret"])
def test_walks_stay_inside(client, directory, path):
    (directory / "d").mkdir()
    (directory / "up").symlink_to("..")
    with pytest.raises(Refused) as error:
        client.walk(*path.split("/"))
    assert error.value.code in (errno.ENOENT, errno.ENOTDIR)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../secret", "a\0b", "x" * 256])
def test_names_are_names(client, directory, name):
    others = [
        (14, struct.pack("<I", 0) + text(name) + struct.pack("<III", 0o101, 0o644, 0)),
        (16, struct.pack("<I", 0) + text(name) + text("t") + struct.pack("<I", 0)),
        (18, struct.pack("<I", 0) + text(name) + struct.pack("<IIII", 0o100644, 0, 0, 0)),
        (70, struct.pack("<II", 0, 0) + text(name)),
        (72, struct.pack("<I", 0) + text(name) + struct.pack("<II", 0o755, 0)),
        (74, struct.pack("<I", 0) + text(name) + struct.pack("<I", 0) + text("b")),
        (74, struct.pack("<I", 0) + text("f") + struct.pack("<I", 0) + text(name)),
        (76, struct.pack("<I", 0) + text(name) + struct.pack("<I", 0)),
    ]
    (directory / "f").touch()
    for kind, body in others:
        with pytest.raises(Refused) as error:
            client.call(kind, body)
        assert error.value.code in (errno.EINVAL, errno.ENAMETOOLONG)
    assert os.listdir(directory) == ["f"]


def test_links_of_the_host_are_not_followed(client, directory):
    (directory / "link").symlink_to("../secret")
    fid = client.walk("link")
    for flags in (0, 1, 2, 0o1001):
        with refused(errno.ELOOP):
            client.open(fid, flags)
    with refused(errno.ELOOP):
        client.create("link", flags=0o1001)
    with pytest.raises(Refused):
        client.set(fid, 8, size=0)
    with pytest.raises(Refused):
        client.set(fid, 1, mode=0)
    assert (directory.parent / "secret").read_text() == "of the host"
    assert (directory.parent / "secret").stat().st_mode & 0o777 != 0


def test_what_is_exchanged_on_the_host_is_not_mistaken(client, directory):
    (directory / "d").mkdir()
    (directory / "d" / "file").write_text("ours")
    fid, d = client.walk("d", "file"), client.walk("d")
    client.server.tree.forget()
    (directory / "d").rename(directory / "aside")
    (directory / "d").symlink_to("..")
    for one in (fid, d):
        with pytest.raises(Refused) as error:
            client.open(one)
        assert error.value.code in (errno.ESTALE, errno.ENOTDIR)
    with refused(errno.ESTALE):
        client.create("new", parent=d)
    assert not (directory.parent / "new").exists()


def test_pipes_and_devices_are_neither_made_nor_opened(client, directory):
    os.mkfifo(directory / "pipe")
    with refused(errno.EACCES):
        client.open(client.walk("pipe"))
    with refused(errno.EACCES):
        client.create("pipe", flags=1)
    for mode in (0o010644, 0o020644, 0o060644, 0o140644):
        with refused(errno.EPERM):
            client.call(18, struct.pack("<I", 0) + text("node") + struct.pack("<IIII", mode, 1, 3, 0))
    client.call(18, struct.pack("<I", 0) + text("plain") + struct.pack("<IIII", 0o100600, 0, 0, 0))
    assert sorted(os.listdir(directory)) == ["pipe", "plain"]


def test_read_only_changes_nothing(directory):
    (directory / "f").write_text("as it was")
    server = Server(Tree(str(directory)), True)
    client = Client(server)
    assert client.read(client.open(client.walk("f"))) == b"as it was"
    for flags in (1, 2, 0o1000):
        with refused(errno.EROFS):
            client.open(client.walk("f"), flags)
    number = struct.pack("<I", 0)
    for kind in (14, 16, 18, 20, 26, 70, 72, 74, 76):
        with refused(errno.EROFS):
            client.call(kind, number + bytes(64))
    with refused(errno.EROFS):
        client.call(122, struct.pack("<I", client.walk("f")))
    assert (directory / "f").read_text() == "as it was"
    server.tree.close()


def test_attributes_beyond_the_basic_ones_are_refused_and_locks_are_the_guests(client):
    with refused(errno.EOPNOTSUPP):
        client.call(30, struct.pack("<II", 0, 99) + text("user.x"))
    with refused(errno.EOPNOTSUPP):
        client.call(32, struct.pack("<I", 0) + text("user.x") + struct.pack("<QI", 1, 0))
    assert client.call(52, struct.pack("<IBIQQI", 0, 1, 0, 0, 0, 5) + text("me")) == b"\0"
    assert client.call(54, struct.pack("<IBQQI", 0, 1, 3, 4, 5) + text("me")) == struct.pack(
        "<BQQI", 2, 3, 4, 5
    ) + text("me")
    assert struct.unpack_from("<I", client.call(8, struct.pack("<I", 0)))[0] == 0x0102_1997


def test_handles_are_bounded_and_forgotten(client, directory, monkeypatch):
    before = len(os.listdir("/proc/self/fd"))
    (directory / "f").touch()
    monkeypatch.setattr(module, "MOST_FIDS", 300)
    with refused(errno.ENFILE):
        for _ in range(301):
            client.walk("f")
    Client(client.server)
    client.server._most_files = 10
    with refused(errno.EMFILE):
        for n in range(11):
            client.create(f"g{n}")
    client.server.reset()
    assert len(os.listdir("/proc/self/fd")) == before


def test_deep_trees_do_not_use_up_descriptors(client, directory):
    fid = 0
    for _ in range(400):
        client.call(72, struct.pack("<I", fid) + text("d") + struct.pack("<II", 0o755, 0))
        fid = client.walk("d", start=fid)
    assert len(client.server.tree._open) <= 70
    client.server.tree.forget()
    with refused(errno.ENAMETOOLONG):
        client.attributes(fid)
    assert client.attributes(1)[3] == 3


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (struct.pack("<IBH", 7, 200, 7), errno.EOPNOTSUPP),
        (struct.pack("<IBH", 7, 24, 7), errno.EINVAL),
        (struct.pack("<IBH", 6, 24, 7), errno.EMSGSIZE),
        (struct.pack("<IBH", 100, 24, 7), errno.EMSGSIZE),
        (struct.pack("<IBHIQI", 23, 116, 7, 0, 0, 10), errno.EBADF),
        (struct.pack("<IBHIQI", 23, 118, 7, 0, 0, 10), errno.EINVAL),
        (struct.pack("<IBHII", 15, 110, 7, 0, 1), errno.EINVAL),
        (struct.pack("<IBHIIHH", 19, 110, 7, 0, 1, 1, 50), errno.EINVAL),
        (struct.pack("<IBHI", 11, 24, 7, 1000), errno.EINVAL),
        (struct.pack("<IBHIQ", 19, 24, 7, 1000, 0), errno.EINVAL),
        (struct.pack("<IBHI", 13, 100, 7, 100) + b"\0\0", errno.EMSGSIZE),
    ],
)
def test_messages_that_cannot_be(client, message, code):
    kind, body = client.raw(message)
    if kind == 7:
        assert struct.unpack("<I", body)[0] in (code, errno.EBADF)
    else:
        pytest.fail("it was taken")


def test_no_message_at_all(server):
    for request, reply in ((b"", 100), (b"short", 100), (bytes(7), 10)):
        with pytest.raises(Unanswerable):
            server.answer([memoryview(request)], [memoryview(bytearray(reply))])


@pytest.mark.parametrize("seed", range(4))
def test_random_messages_stay_inside_and_never_raise(client, directory, seed):
    rng = random.Random(seed)
    (directory / "a").mkdir()
    (directory / "up").symlink_to("..")
    kinds = [
        8,
        12,
        14,
        16,
        18,
        20,
        22,
        24,
        26,
        30,
        32,
        40,
        50,
        52,
        54,
        70,
        72,
        74,
        76,
        102,
        104,
        108,
        110,
        116,
        118,
        120,
        122,
    ]
    names = ["a", "b", "c", "up", "..", ".", "secret", "../secret", "", "/", "x" * 300]

    def word():
        return rng.choice(
            (
                struct.pack("<I", rng.randrange(6)),
                struct.pack("<I", rng.choice((0, 1, 2, 0o101, 0o1002, 0x200, 0xFFFF_FFFF))),
                text(rng.choice(names)),
                struct.pack("<Q", rng.choice((0, 1, 5, 1 << 63, rng.getrandbits(64)))),
                rng.randbytes(rng.randrange(4)),
            )
        )

    for _ in range(3000):
        body = struct.pack("<I", rng.randrange(6)) + b"".join(word() for _ in range(rng.randrange(6)))
        body += bytes(rng.choice((0, 0, 40)))
        client.raw(struct.pack("<IBH", 7 + len(body), rng.choice(kinds), 7) + body)
    beside = sorted(os.listdir(directory.parent))
    assert beside == ["inside", "secret"] and (directory.parent / "secret").read_text() == "of the host"
