"""What came in comes again from a file; files that are not what they should be are told in one line."""

from __future__ import annotations

import random
import re
import resource
import time
from contextlib import closing

import pytest

from powervisor import Outcome
from powervisor.debug.control import Control
from powervisor.debug.monitor import Monitor
from powervisor.errors import UserError
from powervisor.machine.inputs import TIME, Inputs
from powervisor.machine.recording import load
from powervisor.machine.timing import Timing
from tests.deterministic.programs import BUSY, ECHO
from tests.deterministic.test_deterministic import SECOND, sleeper
from tests.support.waiting import until
from tests.system.bare import RESULTS, bare_machine


def outcome_of(machine):
    return machine.statistics()["deterministic"]


@pytest.fixture
def recorded(tmp_path):
    """A recording of a conversation, and what the machine came to."""
    path = tmp_path / "recording"
    with bare_machine(ECHO, serial=[None], record=path) as machine:
        machine.start()
        for text in ("first\n", "second\n", "third\n"):
            machine.console.send(text)
            machine.console.expect(text, timeout=20)
        machine.stop()
        return path, outcome_of(machine), machine.console.text


def test_a_replay_does_the_same_and_ends_there(recorded):
    path, statistics, text = recorded
    with bare_machine(ECHO, serial=[None], replay=path) as machine:
        machine.start()
        machine.console.send("this is not taken in")
        assert machine.wait(30) == Outcome("replayed")
        machine.stop()
        assert (outcome_of(machine), machine.console.text) == (statistics, text)


def test_a_machine_that_ended_by_itself_ends_again(tmp_path):
    path = tmp_path / "recording"
    source = BUSY.replace("release 1, other", "release 1, other\n load32 r30, DEVICES + 0xE00B0")
    source = source.replace("msgsnd r5 ", "cmpwi r10, 6400\n beq off\n msgsnd r5")
    source += "off: li r4, 2\n stw r4, 0(r30)\n b off"  # GUTS RSTCR
    with bare_machine(source, cores=2, no_reboot=True, record=path, deterministic=Timing(quantum=3000)) as machine:
        machine.start()
        ended = machine.wait(30)
        assert ended.kind == "reset"
        machine.stop()
        statistics = outcome_of(machine)
    with bare_machine(source, cores=2, no_reboot=True, replay=path) as machine:
        machine.start()
        assert machine.wait(30) == ended
        machine.stop()
        assert outcome_of(machine) == statistics


def test_what_is_typed_between_the_last_input_and_the_end_of_a_replay_is_lost(recorded):
    path, statistics, text = recorded
    with bare_machine(ECHO, serial=[None], replay=path) as machine:
        while machine.lockstep.inputs.repeating:
            machine.run(instructions=10_000)
        machine.console.send("this is not taken in")
        machine.start()
        assert machine.wait(30) == Outcome("replayed")
        machine.stop()
        assert (outcome_of(machine), machine.console.text) == (statistics, text)


def test_a_recording_may_end_where_a_turn_was_about_to_begin(tmp_path):
    path = tmp_path / "recording"
    for _ in range(8):
        with bare_machine(BUSY, cores=2, record=path) as machine:
            machine.start()
            until(lambda machine=machine: machine.lockstep.round > 4)
            with machine.holding():
                machine.lockstep.rest()
                machine.lockstep.advance(held=False)  # the gate is closed
            machine.stop()
            statistics = outcome_of(machine)
        with bare_machine(BUSY, cores=2, replay=path) as machine:
            machine.start()
            assert machine.wait(30) == Outcome("replayed")
            machine.stop()
            assert outcome_of(machine) == statistics


def test_a_sleep_that_input_ended_is_as_long_again_but_nobody_waits_for_it(tmp_path, monkeypatch):
    path, timing = tmp_path / "recording", Timing(sleep=True)
    with bare_machine(sleeper(3 * SECOND), serial=[None], record=path, deterministic=timing) as machine:
        machine.start()
        for count in range(1, 4):
            time.sleep(0.1)
            machine.console.send("x")
            until(lambda count=count: machine.lockstep.inputs.position == 2 * count)
        machine.stop()  # while it sleeps
        statistics = outcome_of(machine)
        assert 300_000_000 <= statistics["guest-ns"] < 2_000_000_000
    with closing(load(path)) as recording:
        assert [input_.source for input_ in recording.inputs()] == [TIME, "serial0"] * 3
    with bare_machine(sleeper(3 * SECOND), serial=[None], replay=path) as machine:
        naps = []
        monkeypatch.setattr(Inputs, "await_news", lambda _, seconds: naps.append(seconds))
        machine.start()
        assert machine.wait(30) == Outcome("replayed") and not naps
        machine.stop()
        assert outcome_of(machine) == statistics


@pytest.mark.parametrize("by", ["python", "the monitor", "a hook"])
def test_a_machine_that_was_changed_ends_its_recording_and_says_so(tmp_path, by):
    path, warnings = tmp_path / "recording", []
    with bare_machine(BUSY, cores=2, record=path, warn=warnings.append) as machine:
        machine.run(instructions=10_000)
        machine.cpus[0].regs["r3"], machine.memory.read32(0x40000)
        assert not warnings
        if by == "python":
            machine.cpus[0].regs["r20"] ^= 1
        elif by == "the monitor":
            control = Control(machine, lambda: None)
            Monitor(control).execute("nmi")
            control.close()
        else:
            machine.hooks.access(RESULTS + 16, 4, lambda access: access.cpu.regs.__setitem__("r21", 1), reads=False)
        machine.run(instructions=40_000)
        machine.stop()
        assert warnings == ["the recording ends here, for the machine was changed from outside"]
    with closing(load(path)) as recording:
        assert recording.end is None


def test_what_came_before_the_recorder_was_killed_is_there(recorded):
    path, _, _ = recorded
    with closing(load(path)) as recording:
        assert recording.end is not None and not recording.note
        whole = list(recording.inputs())
    data = path.read_bytes()
    seen = set()
    for length in range(len(data) - 1, 0, -7):
        path.write_bytes(data[:length])
        try:
            recording = load(path)
        except UserError as error:
            assert re.search("is no recording|is damaged", str(error)) and length < 400
            continue
        with closing(recording):
            assert recording.end is None and "was not finished" in recording.note
            part = list(recording.inputs())
        assert part == whole[: len(part)]
        seen.add(len(part))
    assert seen == set(range(len(whole) + 1))
    warnings = []
    path.write_bytes(data[:-3])
    with bare_machine(ECHO, serial=[None], replay=path, warn=warnings.append) as machine:
        machine.start()
        machine.console.expect("third\n", timeout=20)
        machine.console.send("and on")
        machine.console.expect("and on", timeout=20)
    assert len(warnings) == 1 and warnings[0].endswith("what came in after its last entry is missing")


def test_an_altered_recording_is_refused_in_one_line(recorded):
    path, _, _ = recorded
    data = path.read_bytes()
    dice = random.Random(3)
    for _ in range(300):
        altered = bytearray(data)
        altered[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(altered)
        with pytest.raises(UserError, match=r"^replay \S+: is (no recording|damaged)[^\n]*$"):
            load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cores": 2}, "the recording is of a machine with cores 1, not 2"),
        ({"memory": 128 << 20}, "the recording is of a machine with memory 67108864, not 134217728"),
        ({"deterministic": Timing(ns=2)}, "was recorded with ns=1,quantum=10000"),
        ({"source": "1: b 1b"}, "the recording began with other memory or registers"),
        ({"devices": ["virtio-rng-pci"]}, "the recording is of a machine with devices None, not "),
        ({"no_reboot": True}, "the recording is of a machine with no_reboot None, not True"),
    ],
)
def test_another_machine_is_refused(recorded, options, message):
    path, _, _ = recorded
    given = {"source": ECHO, "serial": [None], **options}
    with pytest.raises(UserError, match=message), bare_machine(replay=path, **given) as machine:
        machine.start()


def test_files_that_cannot_be_had_are_told(tmp_path):
    for option, path, message in (
        ("replay", tmp_path / "none", "cannot be read"),
        ("replay", __file__, "is no recording"),
        ("replay", "/dev/zero", "is no recording"),
        ("replay", "/proc/self/mem", "cannot be read"),
        ("replay", "a\0b", "cannot be read"),
        ("record", __file__, "is something else than a recording"),
        ("record", tmp_path / "no" / "where", "cannot be written"),
    ):
        with pytest.raises(UserError, match=f"{option} .*{message}"), bare_machine("1: b 1b", **{option: path}):
            pass


def test_a_recording_stays_where_no_machine_begins_another(recorded):
    path, _, _ = recorded
    before = path.read_bytes()
    with pytest.raises(UserError, match="bogus"), bare_machine(ECHO, record=path, netdevs=["bogus"]):
        pass
    assert path.read_bytes() == before


def test_a_recording_that_cannot_go_on_is_told_once_and_the_machine_closes(tmp_path):
    path = tmp_path / "recording"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with bare_machine(ECHO, serial=[None], record=path) as machine:
            machine.start()
            until(lambda: path.stat().st_size > 100)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
            machine.console.send("much\n" * 100)
            with pytest.raises(UserError, match=r"record \S+: cannot be written \(File too large\)"):
                machine.wait(20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_machine_that_is_held_while_it_sleeps_does_not_grow_older():
    with bare_machine(sleeper(5 * SECOND), serial=[None], deterministic=Timing(sleep=True)) as machine:
        machine.start()
        until(lambda: machine.lockstep._asleep_since is not None)
        machine.hold()
        time.sleep(0.6)
        machine.release()
        machine.console.send("x")
        time.sleep(0.05)
        machine.hold()
        assert machine.lockstep.clock.now_ns() < 500_000_000


def test_a_replay_can_be_looked_at_backwards(recorded):
    from powervisor.debug.control import Control
    from powervisor.hv.stops import Breakpoint

    path, _, text = recorded
    warnings = []
    with bare_machine(ECHO, serial=[None], replay=path, warn=warnings.append) as machine:
        control = Control(machine, lambda: None)
        control.hold()
        control.keep_history()
        machine.start()
        control.go()
        machine.console.expect("third\n", timeout=20)
        while not warnings:
            machine.wait(0.05)
        control.hold()
        assert "the recording ends here" in warnings[0] and not machine.ended
        control.breakpoints.add(Breakpoint(machine.symbols["got"]))
        for character in reversed(text):
            assert control.go_back() is not None
            control.step(machine.vcpus[0])
            assert chr(machine.vcpus[0].regs["r5"]) == character
            control.step_back(machine.vcpus[0])
        assert control.go_back() is None
        control.close()
