"""Byte channels, doorbells and the calls that use them, without a machine."""

from __future__ import annotations

import random

import pytest

from powervisor.isa.epapr import Hcall, Status
from powervisor.paravirt.byte_channel import BACKLOG, ByteChannel
from powervisor.paravirt.doorbell import Doorbell
from powervisor.paravirt.hypercalls import Hypercalls


class Reader:
    """The host's end, which takes so many bytes and no more."""

    def __init__(self, takes: int = 1 << 20) -> None:
        self.takes, self.got = takes, b""

    def room(self) -> int:
        return self.takes - len(self.got)

    def write(self, data: bytes) -> None:
        assert len(data) <= self.room()
        self.got += data


class Line:
    """An interrupt input that remembers its history."""

    def __init__(self) -> None:
        self.history: list[bool] = []

    def set(self, level: bool) -> None:
        self.history.append(level)


@pytest.fixture
def channel():
    channel = ByteChannel("serial0", 1)
    channel.connect(Reader())
    return channel


def send(calls: Hypercalls, handle: int, data: bytes, count: int | None = None):
    padded = data.ljust(16, b"\0")
    words = [int.from_bytes(padded[at : at + 4], "big") for at in range(0, 16, 4)]
    return calls.call(Hcall.BYTE_CHANNEL_SEND, (handle, len(data) if count is None else count, *words))


def receive(calls: Hypercalls, handle: int, count: int = 16):
    status, *rest = calls.call(Hcall.BYTE_CHANNEL_RECEIVE, (handle, count, 0, 0, 0, 0))
    return status, b"".join(word.to_bytes(4, "big") for word in rest[1:])[: rest[0]] if rest else b""


def test_a_full_reader_takes_a_part_then_nothing(channel):
    channel.connect(reader := Reader(20))
    calls = Hypercalls([channel])
    assert send(calls, 1, b"0123456789abcdef") == (Status.SUCCESS, 16)
    assert channel.tx.level
    assert send(calls, 1, b"ghijklmn") == (Status.SUCCESS, 4)
    assert not channel.tx.level
    assert send(calls, 1, b"klmn") == (Status.EAGAIN, 0)
    assert send(calls, 1, b"") == (Status.SUCCESS, 0)
    reader.takes = 24
    channel.has_room()
    assert channel.tx.level
    assert send(calls, 1, b"klmn") == (Status.SUCCESS, 4)
    assert reader.got == b"0123456789abcdefghijklmn"


class Full:
    """A chardev without room, which drops."""

    dropped = b""

    def room(self) -> int:
        return -3

    def write(self, data: bytes) -> None:
        self.dropped += data


def test_a_kernel_that_prints_is_not_held_up_by_its_console():
    channel, reader = ByteChannel("serial0", 1, console=True), Full()
    channel.connect(reader)
    calls = Hypercalls([channel])
    assert calls.call(Hcall.BYTE_CHANNEL_POLL, (1, 0, 0, 0, 0, 0)) == (Status.SUCCESS, 0, 16)
    assert send(calls, 1, b"0123456789abcdef") == (Status.SUCCESS, 16)
    assert channel.tx.level and reader.dropped == b"0123456789abcdef"


def test_input_waits_is_bounded_and_interrupts_while_there_is_any(channel):
    calls = Hypercalls([channel])
    assert channel.room == BACKLOG and not channel.rx.level
    assert channel.receive(bytes(BACKLOG + 5)) == BACKLOG
    assert channel.room == 0 and channel.rx.level
    assert calls.call(Hcall.BYTE_CHANNEL_POLL, (1, 0, 0, 0, 0, 0))[:2] == (Status.SUCCESS, BACKLOG)
    assert receive(calls, 1, 0) == (Status.SUCCESS, b"")
    got = 0
    while channel.rx.level:
        got += len(receive(calls, 1)[1])
    assert got == BACKLOG and receive(calls, 1) == (Status.SUCCESS, b"")


def test_what_was_not_received_is_there_after_a_reset_and_in_a_snapshot(channel):
    channel.receive(b"typed early")
    channel.reset()
    assert channel.rx.level
    other = ByteChannel("serial0", 1)
    other.restore(channel.save())
    assert other.rx.level and other.fetch(16) == b"typed early" and not other.rx.level
    assert bytes(channel.input) == b"typed early"


def test_a_channel_that_leads_nowhere_is_no_channel():
    calls = Hypercalls([ByteChannel("serial0", 1), Doorbell("doorbell0", 2)])
    assert send(calls, 1, b"x") == (Status.EINVAL,)
    assert calls.call(Hcall.BYTE_CHANNEL_POLL, (1, 0, 0, 0, 0, 0)) == (Status.EINVAL,)


def test_a_doorbell_is_an_edge_each_time():
    doorbell = Doorbell("doorbell0", 7)
    doorbell.irq.connect(line := Line())
    calls = Hypercalls([doorbell])
    assert [calls.call(Hcall.DOORBELL_SEND, (7, 0, 0, 0, 0, 0)) for _ in range(2)] == [(Status.SUCCESS,)] * 2
    assert line.history == [False, True, False, True, False]


def test_any_call_has_an_answer_of_a_status_and_words(channel):
    """Whatever a guest puts into its registers."""
    calls = Hypercalls([channel, Doorbell("doorbell0", 2)])
    rng = random.Random(1)
    interesting = [0, 1, 2, 3, 15, 16, 17, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
    seen = set()
    for _ in range(20_000):
        token = rng.choice((1 << 16, 42 << 16, 0)) | rng.randrange(20)
        arguments = [rng.choice((*interesting, rng.getrandbits(32))) for _ in range(6)]
        status, *results = calls.call(token, arguments)
        seen.add(status)
        assert len(results) <= 5 and all(0 <= word < 1 << 32 for word in results)
    assert seen == {Status.SUCCESS, Status.EINVAL, Status.UNIMPLEMENTED}
