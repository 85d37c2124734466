"""Timelines are what Chrome's trace event format asks for, and say what happened."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from powervisor.analysis.timeline import Timeline
from powervisor.errors import UserError
from tests.system.bare import bare_machine

from .programs import until_done
from .test_trace import DEVICES

PHASES = {"X": {"ts", "dur"}, "i": {"ts", "s"}, "M": {"args"}}
"""Kinds of events that are used, and what each must have besides name, pid and tid."""
CALLS = """
    vector 408, handler
    li    r3, 200
    mtctr r3
again:
    sc
    bdnz  again
    b     rest
    .align 4
handler:
    rfi
rest:
"""


def check(events: list[dict[str, Any]]) -> None:
    """What importers require: fields and their types, and slices of one track within each other or apart."""
    slices = defaultdict(list)
    for event in events:
        assert PHASES[event["ph"]] | {"name", "pid", "tid"} <= event.keys()
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["name"], str)
        assert event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
    for found in slices.values():
        ends: list[float] = []
        for begin, duration in sorted(found):
            while ends and ends[-1] <= begin + 0.002:
                ends.pop()
            assert not ends or begin - duration <= ends[-1] + 0.002
            ends.append(begin - duration)


def written(source: str, path: Path, **options: object) -> list[dict[str, Any]]:
    with bare_machine(source, **options) as machine, Timeline(machine, path):
        until_done(machine)
    events = json.loads(path.read_text())
    assert isinstance(events, list)
    check(events)
    return events


def tracks(events: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    return {e["args"]["name"]: (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}


def test_exits_interrupts_and_devices_are_on_their_tracks(tmp_path: Path):
    events = written(CALLS + DEVICES, tmp_path / "t.json")
    where = tracks(events)
    on_cpu = [event for event in events if (event["pid"], event["tid"]) == where["cpu0"]]
    assert sum(event["name"] == "SYSTEM_CALL" for event in on_cpu) == 200
    (access,) = (event for event in on_cpu if event["name"] == "mmio guts.svr")
    assert access["args"]["access"].startswith("read 0x8")
    before = [event for event in on_cpu if event["name"] == "guest" and event["ts"] < access["ts"]]
    assert abs(before[-1]["ts"] + before[-1]["dur"] - access["ts"]) < 0.002
    device = [event for event in events if (event["pid"], event["tid"]) == where["guts"] and event["ph"] == "X"]
    assert [event["name"] for event in device] == ["read guts.svr"]


def test_waiting_is_inside_of_the_guest(tmp_path: Path):
    source = """
    vector 410, handler           # IVOR10
    load32 r4, 0x04000000         # TCR[DIE]
    mtspr 340, r4
    load32 r4, 20000000
    mtspr 22, r4                  # DEC: 50 ms, so that it waits on a busy host too
    lis   r5, 0
    ori   r5, r5, 0x8000
    mtmsr r5
    wait
    .align 4
handler:
    load32 r6, RESULTS
    stw   r5, 0(r6)
end:
    b     end
    """
    events = written(source, tmp_path / "t.json")
    (waiting,) = (event for event in events if event["name"] == "waiting")
    assert waiting["dur"] > 100
    assert any(event["name"] == "DECREMENTER" for event in events)


def test_a_file_that_cannot_be_written_is_refused_at_once():
    with bare_machine(DEVICES) as machine:
        with pytest.raises(UserError, match="/none/t.json: cannot be written"):
            Timeline(machine, "/none/t.json")
        assert not machine.vm.observers


def test_a_full_disk_is_told_at_the_end():
    with bare_machine(DEVICES) as machine:
        timeline = Timeline(machine, "/dev/full")
        until_done(machine)
        with pytest.raises(UserError, match=r"/dev/full: cannot be written \(No space left on device\)"):
            timeline.close()
