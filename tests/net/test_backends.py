"""Backends between two ends: sockets of every kind, what the peer does wrong, waiting, captures."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import struct
import subprocess

import pytest

from powervisor.errors import UserError
from powervisor.net.capture import Capture
from powervisor.net.netdev import MAX_FRAME
from powervisor.net.netdevs import open_netdevs
from tests.support.waiting import until

FRAMES = [random.Random(n).randbytes(60 + 97 * n) for n in range(40)] + [bytes(MAX_FRAME)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pieces(frame):
    """As a device gives it: in parts, views among them."""
    return [frame[:14], memoryview(frame)[14:20], frame[20:]]


def framed(*frames):
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


def pair(kind, tmp_path):
    """The words for two ends that meet."""
    port, other = free_port(), free_port()
    first, second = tmp_path / "a", tmp_path / "b"
    return {
        "socket": (f"socket,id=a,listen=127.0.0.1:{port}", f"socket,id=b,connect=127.0.0.1:{port}"),
        "stream-inet": (
            f"stream,id=a,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port={port}",
            f"stream,id=b,server=off,addr.type=inet,addr.host=localhost,addr.port={port}",
        ),
        "stream-unix": (
            f"stream,id=a,server=on,addr.type=unix,addr.path={first}",
            f"stream,id=b,addr.type=unix,addr.path={first}",
        ),
        "dgram-unix": tuple(
            f"dgram,id={name},local.type=unix,local.path={mine},remote.type=unix,remote.path={theirs}"
            for name, mine, theirs in (("a", first, second), ("b", second, first))
        ),
        "dgram-inet": tuple(
            f"dgram,id={name},local.type=inet,local.host=127.0.0.1,local.port={mine},"
            f"remote.type=inet,remote.host=127.0.0.1,remote.port={theirs}"
            for name, mine, theirs in (("a", port, other), ("b", other, port))
        ),
    }[kind]


@pytest.mark.parametrize("kind", ["socket", "stream-inet", "stream-unix", "dgram-unix", "dgram-inet"])
def test_frames_come_whole_and_in_order_both_ways(network, tmp_path, warnings, kind):
    first, second = (network(text) for text in pair(kind, tmp_path))
    until(lambda: first.netdev.link_up and second.netdev.link_up)
    frames = FRAMES[:-1] if kind == "dgram-inet" else FRAMES
    for sender, receiver in ((first, second), (second, first)):
        for at in range(0, len(frames), 5):  # a UDP socket's buffer is no queue of any length
            part = frames[at : at + 5]
            sender.netdev.send([pieces(frame) for frame in part])
            assert receiver.take(len(part)) == part
    assert not warnings


def test_framing_is_qemus(network, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        card = network(f"socket,id=n,connect=127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
    with peer:
        card.netdev.send([pieces(FRAMES[3]), pieces(FRAMES[0])])
        expected = framed(FRAMES[3], FRAMES[0])
        assert peer.recv(len(expected), socket.MSG_WAITALL) == expected
        data = framed(*FRAMES)
        for at in range(0, len(data), 4099):
            peer.sendall(data[at : at + 4099])
        assert card.take(len(FRAMES)) == FRAMES


class Calls:
    """A socket that notes how much each call sent."""

    def __init__(self, inner):
        self.inner, self.sent = inner, []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def sendmsg(self, pieces):
        self.sent.append((sum(map(len, pieces)), len(pieces)))
        return self.inner.sendmsg(pieces)


def test_a_system_call_sends_several_frames_but_no_more_than_the_peer_likes(network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        card = network(f"socket,id=n,connect=127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
    small, long = FRAMES[0], bytes(5000)
    frames = [small] * 40 + [long, small] + [small] * 40
    card.netdev.joined_bytes = 10 * (4 + len(small))
    card.netdev._peer = calls = Calls(card.netdev._peer)
    with peer:
        card.netdev.send([[frame] for frame in frames])
        assert peer.recv(len(framed(*frames)), socket.MSG_WAITALL) == framed(*frames)
        ten = card.netdev.joined_bytes
        assert [sent for sent, _ in calls.sent] == [ten] * 4 + [4 + len(long)] + [ten] * 4 + [4 + len(small)]
        calls.sent.clear()
        card.netdev.joined_bytes = 1 << 20
        cut = [[small[at : at + 1] for at in range(len(small))]] * 40
        card.netdev.send(cut)
        assert peer.recv(len(framed(*frames[:40])), socket.MSG_WAITALL) == framed(*frames[:40])
        assert len(calls.sent) > 1
        assert all(count % (1 + len(small)) == 0 and count <= 1024 for _, count in calls.sent), "frames stay whole"


def test_frames_wait_for_a_device_without_room_and_nothing_is_lost(network, tmp_path):
    ours, theirs = (network(text) for text in pair("stream-unix", tmp_path))
    until(lambda: ours.netdev.link_up)
    theirs.room = 3
    ours.netdev.send([pieces(frame) for frame in FRAMES])
    theirs.until(lambda card: card.room == 0)
    for room in (1, 5, 1000):
        theirs.room = room
        theirs.netdev.resume()
    assert theirs.take(len(FRAMES)) == FRAMES


def test_a_sender_that_is_too_fast_waits_and_hears_of_the_end(network, tmp_path):
    ours, theirs = (network(text) for text in pair("stream-unix", tmp_path))
    until(lambda: ours.netdev.link_up)
    theirs.room, sent = 0, 0
    while not ours.netdev.busy:
        ours.netdev.send([pieces(FRAMES[-1])] * 8)
        sent += 8
    assert ours.sendables == 0
    theirs.room = 1 << 30
    theirs.netdev.resume()
    assert set(theirs.take(sent)) == {FRAMES[-1]}
    ours.until(lambda card: card.sendables)
    assert not ours.netdev.busy


def test_a_listener_lets_one_peer_after_another_in(network, tmp_path, warnings):
    port = free_port()
    card = network(f"socket,id=n,listen=:{port}")
    assert not card.netdev.link_up
    card.netdev.send([pieces(FRAMES[0])])
    for n in range(3):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(framed(FRAMES[n]) + b"\0\0\0")
            assert card.take(1) == [FRAMES[n]]
        card.until(lambda card, n=n: len(card.links) == 2 * n + 2)
    assert card.links == [True, False] * 3
    assert len(warnings) == 3 and "has gone; the link is down until another connects" in warnings[0]


def test_a_peer_that_leaves_takes_the_link_along_once(network, warnings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        card = network(f"socket,id=n,connect=127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
    peer.close()
    card.until(lambda card: card.links == [False])
    card.netdev.send([pieces(FRAMES[0])])
    assert len(warnings) == 1
    assert warnings[0] == "netdevs socket,id=n: the peer has gone; the link is down from now on"


def test_a_peer_that_leaves_while_frames_wait_costs_nothing(network, tmp_path, warnings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        card = network(f"socket,id=n,connect=127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
    card.room = 1
    peer.sendall(framed(*FRAMES[:3]))
    peer.close()
    card.until(lambda card: card.room == 0)
    before = os.times().user
    card.netdev._thread.join(0.3)
    assert os.times().user - before < 0.2, "the thread turns in a circle"
    card.room = 5
    card.netdev.resume()
    card.until(lambda card: card.links == [False])
    assert card.take(3) == FRAMES[:3]


def test_a_peer_that_talks_nonsense_is_let_go(network, warnings):
    port = free_port()
    card = network(f"socket,id=n,listen=127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(framed(FRAMES[0]) + b"GET / HTTP/1.0\r\n\r\n")
        assert card.take(1) == [FRAMES[0]]
        assert peer.recv(1) == b""
    card.until(lambda card: card.links == [True, False])
    assert "sent a frame of 1195725856 bytes and was let go" in warnings[0]


def test_datagrams_to_nobody_are_lost_in_silence(network, tmp_path, warnings):
    card = network(pair("dgram-unix", tmp_path)[0])
    card.netdev.send([pieces(FRAMES[0])] * 5)
    assert not card.netdev.busy and card.netdev.link_up and not warnings


def test_sockets_in_the_file_system_go_with_their_owner(tmp_path):
    for text in (*pair("dgram-unix", tmp_path), pair("stream-unix", tmp_path)[0]):
        for _ in range(2):
            found = open_netdevs([text], (), None, print)
            assert list(tmp_path.iterdir())
            found.close()
            assert not list(tmp_path.iterdir())


def test_a_socket_that_was_left_behind_is_no_obstacle(network, tmp_path):
    for kind, name in ((socket.SOCK_STREAM, "stream-unix"), (socket.SOCK_DGRAM, "dgram-unix")):
        path = tmp_path / name
        path.mkdir()
        with socket.socket(socket.AF_UNIX, kind) as left:
            left.bind(str(path / "a"))
        network(pair(name, path)[0])


@pytest.mark.parametrize("kind", ["stream-unix", "dgram-unix"])
def test_a_file_that_is_no_socket_stays(tmp_path, kind):
    file = tmp_path / "a"
    file.write_text("dear to somebody")
    with pytest.raises(UserError, match="Address already in use"):
        open_netdevs([pair(kind, tmp_path)[0]], (), None, print)
    assert file.read_text() == "dear to somebody"


# -- captures


def records(path):
    data = path.read_bytes()
    magic, major, minor, _, _, limit, link = struct.unpack("=IHHiIII", data[:24])
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 1)
    at, found = 24, []
    while at < len(data):
        seconds, micro, kept, length = struct.unpack_from("=IIII", data, at)
        assert seconds > 1_700_000_000 and micro < 1_000_000 and kept == min(length, limit)
        found.append((length, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def test_captures_have_what_passed_in_both_directions(network, tmp_path, warnings):
    a, b = pair("stream-unix", tmp_path)
    short = f"filter-dump,id=f,netdev=a,file={tmp_path}/short,maxlen=64"
    first, second = network(a, short, pcap=str(tmp_path / "all")), network(b)
    until(lambda: first.netdev.link_up)
    first.netdev.send([pieces(FRAMES[1]), pieces(FRAMES[2])])
    second.take(2)
    second.netdev.send([pieces(FRAMES[5])])
    first.take(1)
    expected = [FRAMES[1], FRAMES[2], FRAMES[5]]
    until(lambda: len(records(tmp_path / "all")) == 3)
    assert records(tmp_path / "all") == [(len(frame), frame) for frame in expected]
    assert records(tmp_path / "short") == [(len(frame), frame[:64]) for frame in expected]
    if tcpdump := shutil.which("tcpdump"):
        read = subprocess.run(
            [tcpdump, "-r", tmp_path / "all", "-e"], capture_output=True, text=True, check=True
        ).stdout
        lengths = re.findall(r"^\S+ [0-9a-f:]{17} .* > .*?length (\d+)", read, re.MULTILINE)
        assert [int(length) for length in lengths] == [len(frame) for frame in expected], read


def test_a_full_disk_ends_the_capture_and_nothing_else(network, tmp_path, warnings):
    a, b = pair("stream-unix", tmp_path)
    with pytest.raises(UserError, match="id=f: file=/nowhere/x: cannot be written .No such file"):
        open_netdevs([a], ["filter-dump,id=f,netdev=a,file=/nowhere/x"], None, print)
    first, second = network(a, pcap="/dev/full"), network(b)
    until(lambda: first.netdev.link_up)
    for _ in range(3):
        first.netdev.send([pieces(FRAMES[1])])
    assert second.take(3) == [FRAMES[1]] * 3
    assert warnings == ["pcap /dev/full: cannot be written any more (No space left on device); the capture ends here"]


def test_a_capture_overwrites_captures_only(tmp_path):
    disk, old = tmp_path / "disk.img", tmp_path / "old.pcap"
    disk.write_bytes(bytes(4096))
    with pytest.raises(UserError, match="disk.img is there and no capture; remove it, or name another file"):
        Capture(str(disk), "pcap", print)
    assert disk.read_bytes() == bytes(4096)
    for _ in range(2):
        Capture(str(old), "pcap", print).close()
    assert records(old) == []


# -- what cannot be


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("usre,id=n", "netdevs usre: there is no such type; write user, tap, socket, stream, dgram"),
        ("socket", "netdevs socket: id= is missing"),
        ("socket,id=n", "needs one of listen=:PORT and connect=HOST:PORT"),
        ("socket,id=n,listen=:1,connect=a:2", "needs one of listen"),
        ("socket,id=n,listen=1234", "listen=1234: not an address; write HOST:PORT"),
        ("socket,id=n,connect=localhost:0", "not an address"),
        ("socket,id=n,connect=127.0.0.1:1", "cannot connect to 127.0.0.1:1 .Connection refused.; start first"),
        ("socket,id=n,listen=192.0.2.99:1", "cannot listen at 192.0.2.99:1 "),
        ("stream,id=n", "addr.type= is missing"),
        ("stream,id=n,addr.type=unix", "addr.type=unix takes addr.path=PATH and nothing else"),
        ("stream,id=n,addr.type=inet,addr.port=http", "addr.port=http is not a port"),
        ("stream,id=n,addr.type=inet,addr.path=/x", "addr.type=inet takes addr.host=HOST and addr.port=PORT"),
        ("stream,id=n,addr.type=unix,addr.path=/" + 120 * "x", "is too long; write at most 107 bytes"),
        ("dgram,id=n,local.type=unix,local.path=/x,remote.type=inet", "local.type and remote.type differ"),
        ("tap,id=n", "needs one of ifname=NAME and fd=N"),
        ("tap,id=n,fd=0", "fd=0 is no TAP interface"),
        ("tap,id=n,ifname=a123456789012345", "is too long; write at most 15"),
        ("tap,id=n,ifname=x,script=/etc/qemu-ifup", "script=/etc/qemu-ifup is not one of no"),
        ("user,id=n,hostfwd=tcp:22:22", "hostfwd=tcp:22:22 is no forwarding; write for example tcp::2222-:22"),
        ("user,id=n,hostfwd=tcp::0-:22", "no forwarding of IPv4 addresses and ports"),
        ("user,id=n,hostfwd=tcp::2222-10.0.2.99:22", "hostfwd leads to 10.0.2.99; leave that out"),
        ("user,id=n,net=10.0.2.0", "net=10.0.2.0 is too small a network"),
        ("user,id=n,dns=1.1.1.1", "dns=1.1.1.1 is not in 10.0.2.0/24"),
        ("user,id=n,host=10.0.2.3", "host, dns and dhcpstart are not three addresses"),
        ("user,id=n,ipv4=off,ipv6=off", "leave nothing"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(text, message):
    with pytest.raises(UserError, match=message) as error:
        open_netdevs([text], (), None, print)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("netdevs", "objects", "message"),
    [
        (["socket,id=n,listen=:1", "tap,id=n,ifname=x"], [], "tap,id=n: the id is taken"),
        ([], ["filter-dump,id=f,netdev=n,file=x"], "netdev=n: no such netdev; there is none; add netdevs user,id=n"),
        ([], ["filter-dmp"], "objects filter-dmp: there is no such type; write filter-dump"),
        ([], ["filter-dump,id=f"], "objects filter-dump: netdev= is missing"),
    ],
)
def test_combinations_that_cannot_be(netdevs, objects, message):
    with pytest.raises(UserError, match=message):
        open_netdevs(netdevs, objects, None, print)


def test_a_netdev_is_for_one_device_and_needs_one(tmp_path):
    found = open_netdevs([pair("dgram-unix", tmp_path)[0]], (), None, print)
    with pytest.raises(UserError, match="id=a: no device uses it; add devices virtio-net-pci,netdev=a"):
        found.check_used()
    found.claim("a", "first", "devices x", None)
    found.check_used()
    for name, message in (("a", "netdev=a is used by first"), ("b", "netdev=b: no such netdev; there is a")):
        with pytest.raises(UserError, match=message):
            found.claim(name, "second", "devices y", None)
    found.close()


def test_addresses_are_qemus_and_count_up():
    found = open_netdevs((), (), None, print)
    own = bytes.fromhex("525400123457")
    assert found.mac(own) == own
    assert [found.mac(None).hex() for _ in range(2)] == ["525400123456", "525400123458"]
