"""What stands between a network device and its backend: bounded whatever the host and the guest do."""

from __future__ import annotations

import pytest

from powervisor.machine.cables import Cables
from powervisor.machine.inputs import Inputs
from powervisor.net.netdev import HEADER
from tests.net.conftest import Card
from tests.support.virtio_driver import Immediate
from tests.support.wire import Wire

MIB = 1 << 20
LONG = [bytes([n]) * 1514 for n in range(250)]


class World:
    """A cable with a backend behind it that a test drives, a card in front, and rounds that end when it says so."""

    def __init__(self, wire):
        self.wire, self.inputs, self.rung = wire, Inputs(), []
        cables = Cables(self.inputs, lambda name, work: Immediate(name, work))
        kind = type("Kind", (Wire,), {"__new__": lambda cls, *_: wire})
        self.cable = cables.plug(kind, type("Options", (), {"id": "n"}), "netdev", lambda text: None)
        self.cables = cables
        self.card = self.cable.nic = Card()
        self.card.netdev = self.cable

    def end_round(self):
        came = self.inputs.deliver([self.inputs.round * 100])
        self.inputs.round += 1
        return came

    def checkpoint(self):
        return self.inputs.position, self.inputs.round, self.cables.save()

    def go_back(self, checkpoint):
        position, round_, saved = checkpoint
        self.inputs.go_back(position, round_)
        self.cables.restore(saved)


@pytest.fixture(params=[False, True], ids=["plain", "headers"])
def world(request):
    return World(Wire("n", headers=request.param))


def deliver(world, *frames):
    before = bytes(HEADER) if world.wire.headers else b""
    return world.wire.deliver(*(before + frame for frame in frames))


def test_frames_come_between_rounds_and_go_at_once(world):
    assert deliver(world, *LONG[:3]) == 3 and world.card.frames == []
    assert world.end_round() and world.card.frames == LONG[:3]
    assert not world.end_round()
    world.cable.send([(LONG[4][:7], LONG[4][7:]), (LONG[5],)])
    before = bytes(HEADER) if world.wire.headers else b""
    assert world.wire.take() == [before + LONG[4], before + LONG[5]]
    assert not world.cable.headers


def test_a_long_transfer_leaves_nothing_behind(world):
    total = 0
    for _ in range(400):
        total += deliver(world, *LONG)
        assert world.inputs.waiting("netdev n") <= MIB
        world.end_round()
        assert world.inputs.kept_bytes == 0
        assert [len(frame) for frame in world.card.frames] == [1514] * len(world.card.frames)
        world.card.frames.clear()
    assert total == 100_000 and world.inputs.position == total


def test_the_host_waits_while_the_machine_takes_nothing(world):
    taken = sum(deliver(world, *LONG) for _ in range(50))
    assert taken == 256
    assert sum(deliver(world, b"x") for _ in range(50)) == 0
    world.wire.resumed = 0
    world.end_round()
    assert world.wire.resumed and deliver(world, *LONG) == 250


def test_frames_without_a_buffer_wait_for_one_and_the_host_for_them(world):
    world.card.room = 2
    taken = 0
    for _ in range(20):
        taken += deliver(world, *LONG)
        world.end_round()
    assert len(world.card.frames) == 2 and 256 <= taken <= 2 + 2 * 256
    world.card.room = 1 << 30
    world.cable.resume()
    for _ in range(3):
        world.end_round()
    assert world.card.frames == [LONG[n % 250] for n in range(taken)]


def test_a_guest_that_sends_to_a_host_that_takes_nothing_loses_what_is_too_much(world):
    world.wire.full = True
    for _ in range(40):
        world.cable.send([(frame,) for frame in LONG])
    assert world.wire.sent == []
    world.wire.full = False
    world.cable.sendable()
    sent = world.wire.take()
    assert 4 * MIB - 1514 < sum(map(len, sent)) - world.wire.headers * HEADER * len(sent) <= 4 * MIB
    skip = HEADER if world.wire.headers else 0
    assert [frame[skip:] for frame in sent] == [LONG[n % 250] for n in range(len(sent))]
    world.cable.send([(LONG[0],)])
    assert len(world.wire.take()) == 1


def test_a_link_that_goes_up_and_down_is_one_input(world):
    for n in range(1000):
        world.wire.pull(n % 2 == 1)
    world.wire.pull(False)
    assert world.inputs.entries("link of netdev n") == 1 and world.cable.link_up
    world.end_round()
    assert world.card.links == [False] and not world.cable.link_up


def test_what_was_had_comes_again_and_what_comes_meanwhile_is_lost_but_for_the_link(world):
    world.inputs.keep(0)
    start = world.checkpoint()
    deliver(world, LONG[1])
    world.end_round()
    world.cable.send([(LONG[2],)])
    world.end_round()
    end = world.inputs.round
    assert world.card.take(1) == [LONG[1]] and len(world.wire.take()) == 1
    world.go_back(start)
    assert deliver(world, LONG[3]) == 1
    world.wire.pull(False)
    world.end_round()
    assert world.inputs.repeating, "the second round had no input, and has none again"
    deliver(world, LONG[4])
    world.cable.send([(LONG[2],)])
    world.end_round()
    assert world.card.take(1) == [LONG[1]] and world.wire.take() == [] and world.cable.link_up
    assert world.inputs.round == end and not world.inputs.repeating
    deliver(world, LONG[5])
    world.end_round()
    assert world.card.take(1) == [LONG[5]] and not world.cable.link_up


def test_what_is_kept_to_go_back_to_is_let_go_of(world):
    world.inputs.keep(0)
    for _ in range(10):
        deliver(world, *LONG)
        world.end_round()
    assert world.inputs.kept_bytes > 10 * sum(map(len, LONG))
    world.inputs.keep(2400)
    assert world.inputs.kept_bytes < 200 * 2000
    world.inputs.keep(None)
    assert world.inputs.kept_bytes == 0


def test_the_link_is_the_hosts_again_where_the_past_is_changed(world):
    world.inputs.keep(0)
    start = world.checkpoint()
    world.wire.pull(False)
    world.end_round()
    world.go_back(start)
    assert world.cable.link_up
    world.inputs.forget_future()
    world.cables.begin_anew()
    world.end_round()
    assert not world.cable.link_up
