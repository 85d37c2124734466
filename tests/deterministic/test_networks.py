"""Networks of deterministic machines: frames come again from a recording, with nobody at the other end."""

from __future__ import annotations

import re
import socket
from contextlib import closing
from pathlib import Path

import pytest

from powervisor import Outcome
from powervisor.debug.control import Control
from powervisor.debug.monitor import Monitor
from powervisor.errors import UserError
from powervisor.hv.stops import Breakpoint
from powervisor.machine.cables import Host
from powervisor.machine.digest import digest
from powervisor.machine.inputs import TIME, Input
from powervisor.machine.recording import Writer, load
from powervisor.machine.timing import Timing
from tests.deterministic.programs import ANSWERS
from tests.net.test_backends import records
from tests.support.waiting import until
from tests.system.bare import bare_machine, results

FRAMES = [bytes.fromhex("525400123456 525400abcdef 0800") + bytes([n]) * (46 + 31 * n) for n in range(40)]
ALONE = "nobody is at the other end of its networks"


class Peer:
    """The other end of a -netdev dgram."""

    def __init__(self, directory: Path) -> None:
        self._guest, self._own = directory / "guest", directory / "peer"
        where = ((name, path) for name, path in (("local", self._guest), ("remote", self._own)))
        self.netdev = "dgram,id=n0," + ",".join(f"{name}.type=unix,{name}.path={path}" for name, path in where)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self._own))
        self.socket.settimeout(20)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.socket.sendto(frame, str(self._guest))

    def receive(self, count: int) -> list[bytes]:
        return [self.socket.recv(1 << 16) for _ in range(count)]

    @property
    def silent(self) -> bool:
        self.socket.settimeout(0.05)
        try:
            return not self.socket.recv(1 << 16)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(20)

    def close(self) -> None:
        self.socket.close()
        self._own.unlink()


@pytest.fixture
def peer(tmp_path):
    with closing(Peer(tmp_path)) as found:
        yield found


def answering(peer, **options):
    """A machine that sends back what `peer` sends."""
    chosen = {"netdevs": [peer.netdev], "devices": ["eTSEC,netdev=n0"], **options}
    return bare_machine(ANSWERS, **chosen)


def outcome_of(machine):
    return machine.statistics()["deterministic"]


@pytest.fixture(scope="module", params=[1, 2])
def recorded(request, tmp_path_factory):
    """A recording of a conversation with a peer that has gone: (netdev, CPUs, file, outcome, capture)."""
    directory = tmp_path_factory.mktemp("recorded")
    path, capture = directory / "recording", directory / "capture"
    with closing(Peer(directory)) as peer, answering(peer, cores=request.param, record=path, pcap=capture) as machine:
        machine.start()
        for at in range(0, len(FRAMES), 10):  # more at once than there are descriptors
            peer.send(*FRAMES[at : at + 10])
            assert peer.receive(10) == FRAMES[at : at + 10]
        machine.backends.all_netdevs()[0].set_link(False)
        until(lambda: not machine.backends.all_netdevs()[0].link_up)
        machine.stop()
        return peer.netdev, request.param, path, outcome_of(machine), capture.read_bytes()


def replaying(recorded, path=None, **options):
    netdev, cores, recording, _, _ = recorded
    chosen = {"netdevs": [netdev], "devices": ["eTSEC,netdev=n0"], "cores": cores, **options}
    return bare_machine(ANSWERS, replay=path or recording, **chosen)


def test_a_replay_needs_nobody_and_has_the_same_capture(recorded, tmp_path):
    again, copy, part, warnings = tmp_path / "capture", tmp_path / "copy", tmp_path / "part", []
    words = [f"filter-dump,id=f,netdev=n0,file={part},maxlen=20"]
    with replaying(recorded, pcap=again, objects=words, record=copy, warn=warnings.append) as machine:
        machine.start()
        assert machine.wait(30) == Outcome("replayed")
        machine.stop()
        assert outcome_of(machine) == recorded[3] and results(machine, 1) == (len(FRAMES),)
        assert not machine.backends.all_netdevs()[0].link_up
    assert again.read_bytes() == recorded[4]
    assert sorted(data for _, data in records(again)) == sorted([*FRAMES, *FRAMES])
    assert [length for length, _ in records(part)] == [length for length, _ in records(again)]
    assert not warnings
    with closing(load(recorded[2])) as first, closing(load(copy)) as second:
        assert list(first.inputs()) == list(second.inputs()) and first.end == second.end


def test_an_unfinished_replay_goes_on_with_nobody_at_the_other_end(recorded, tmp_path):
    path, warnings = tmp_path / "part", []
    path.write_bytes(recorded[2].read_bytes()[:-3])
    with replaying(recorded, path, warn=warnings.append) as machine:
        machine.start()
        until(lambda: not machine.lockstep.inputs.repeating)
        (netdev,) = machine.backends.all_netdevs()
        netdev.set_link(True)
        until(lambda: netdev.link_up)
    assert ["was not finished" in line or ALONE in line for line in warnings] == [True, True]


@pytest.mark.parametrize(
    ("source", "data", "message"),
    [
        ("netdev n0", bytes((68 << 10) + 1), "netdev n0 cannot have a frame of 69633 bytes; record again"),
        ("netdev n0", b"", "netdev n0 cannot have a frame of 0 bytes"),
        ("link of netdev n0", b"\2", "link of netdev n0 cannot have a link that is neither up nor down: 02"),
        ("netdev n1", b"", "it has input for netdev n1, which is not there"),
        (TIME, b"123", "time cannot have a time of 3 bytes"),
    ],
)
def test_input_that_cannot_be_is_refused(recorded, tmp_path, source, data, message):
    path = tmp_path / "forged"
    with closing(load(recorded[2])) as recording, closing(Writer(path)) as writer:
        writer.begin(recording.identity)
        writer.input(Input(3, source, data, [1] * recorded[1]))
    with pytest.raises(UserError, match=re.escape(message)), replaying(recorded, path) as machine:
        machine.start()


@pytest.mark.parametrize("host", [Host(1 << 16, True), Host(-1, True), Host(1500, 1), Host("1500", True)])
def test_a_network_that_cannot_be_is_a_damage(recorded, tmp_path, host):
    path = tmp_path / "forged"
    with closing(load(recorded[2])) as recording, closing(Writer(path)) as writer:
        writer.begin(recording.identity._replace(networks={"n0": host}))
    with pytest.raises(UserError, match="is damaged"), replaying(recorded, path):
        pass


def test_times_that_were_never_slept_are_taken_for_what_they_are(recorded, tmp_path):
    path, warnings = tmp_path / "forged", []
    with closing(load(recorded[2])) as recording, closing(Writer(path)) as writer:
        writer.begin(recording.identity)
        first = next(recording.inputs())
        writer.input(Input(first.round, TIME, b"\xff" * 8, first.executed))
        writer.input(first)
    with replaying(recorded, path, warn=warnings.append) as machine:
        machine.start()
        until(lambda: results(machine, 1) == (1,))


def test_another_network_is_refused(recorded, peer):
    with pytest.raises(UserError, match="recording is of a machine with netdevs"):
        with replaying(recorded, netdevs=[peer.netdev]) as machine:
            machine.start()
    with bare_machine("1: b 1b", record=peer._own.with_name("plain")) as machine:
        machine.run(instructions=1000)
        machine.stop()
    with pytest.raises(UserError, match=r"recording is of a machine with \w+ None, not"):
        with bare_machine(
            "1: b 1b",
            replay=peer._own.with_name("plain"),
            netdevs=[peer.netdev],
            devices=["virtio-net-pci,netdev=n0"],
            deterministic=True,
        ) as machine:
            machine.start()


def test_a_recording_is_not_written_over_itself(recorded):
    with pytest.raises(UserError, match="is what is replayed"), replaying(recorded, record=recorded[2]):
        pass


def test_frames_come_again_after_going_back_and_nobody_hears_of_it(peer, tmp_path):
    capture = tmp_path / "capture"
    with answering(peer, cores=2, deterministic=True, pcap=capture) as machine:
        control = Control(machine, lambda: None)
        control.hold()
        control.keep_history()
        machine.start()
        control.go()
        peer.send(*FRAMES[:20])
        assert peer.receive(20) == FRAMES[:20]
        until(lambda: results(machine, 1) == (20,))
        control.hold()
        end, hash_ = machine.lockstep.position, digest(machine)
        control.breakpoints.add(Breakpoint(machine.symbols["answered"]))
        for count in range(19, 15, -1):
            assert control.go_back() is not None
            assert results(machine, 1) == (count,)
        machine.stops.lift()
        machine.lockstep.go_to(end)
        assert digest(machine) == hash_
        control.breakpoints.clear()
        assert control.go_back() is None
        assert results(machine, 1) == (0,)
        machine.lockstep.go_to(end)
        assert digest(machine) == hash_ and peer.silent
        control.go()
        peer.send(*FRAMES[20:])
        assert peer.receive(20) == FRAMES[20:]
        control.hold()
        # From the past on, once something is changed there, all is new.
        assert machine.lockstep.inputs.kept_bytes > sum(map(len, FRAMES))
        assert control.go_back() is None
        machine.memory.write32(0x10_0000, 100)
        control.go()
        until(lambda: not machine.lockstep.inputs.repeating)  # until it goes on, frames are lost as in the past
        peer.send(*FRAMES[:3])
        assert peer.receive(3) == FRAMES[:3]
        until(lambda: results(machine, 1) == (103,))
        assert re.search("n0: .* link up .* used by eTSEC", Monitor(control).execute("info network"))
        control.close()
        assert machine.lockstep.inputs.kept_bytes == 0
    assert sorted(data for _, data in records(capture)) == sorted([*FRAMES, *FRAMES[:3]] * 2)


def test_a_snapshot_is_gone_on_from_with_another_network(peer, tmp_path):
    (tmp_path / "other").mkdir()
    with answering(peer, deterministic=True) as machine, closing(Peer(tmp_path / "other")) as other:
        machine.start()
        peer.send(*FRAMES[:4])
        assert peer.receive(4) == FRAMES[:4]
        snapshot = machine.snapshot()
        with machine.fork(netdevs=[other.netdev]) as fork:
            fork.start()
            other.send(*FRAMES[4:8])
            assert other.receive(4) == FRAMES[4:8]
            assert results(fork, 1) in ((7,), (8,))
        machine.restore(snapshot)
        peer.send(*FRAMES[8:12])
        assert peer.receive(4) == FRAMES[8:12]


@pytest.mark.parametrize(
    ("options", "sleeps"), [({}, True), ({"deterministic": Timing(sleep=False)}, False), ({"netdevs": []}, False)]
)
def test_a_machine_with_a_network_sleeps_unless_told_otherwise(peer, options, sleeps):
    chosen = {"deterministic": True, "devices": ["eTSEC,netdev=n0"], **options}
    if chosen.get("netdevs") == []:
        chosen["devices"] = []
    with answering(peer, **chosen) as machine:
        assert machine.lockstep.timing.sleep is sleeps
