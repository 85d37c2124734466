"""Profiles: where time goes, who called, and files that other programs read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from powervisor import Machine
from powervisor.analysis.flamegraph import flame_graph
from powervisor.analysis.profile import EXIT, IDLE, Profile
from powervisor.analysis.symbols import Symbols
from powervisor.errors import UserError
from tests.support.waiting import until
from tests.system.bare import bare_machine

from .programs import compiled, needs_compiler

BUSY = """
static volatile int sink;
void spin(int n) { while (n--) sink++; }
void inner(void) { spin(30000); sink++; }
void outer(void) { inner(); sink++; }
void little(void) { spin(1000); sink++; }
int main(void) { for (;;) { outer(); little(); } return 0; }
"""


@contextmanager
def running(program: Path) -> Iterator[Machine]:
    with Machine(kernel=program, memory=64 << 20, serial=[None]) as machine:
        machine.start()
        yield machine


@needs_compiler
def test_stacks_have_callers_in_order_and_samples_where_time_goes(tmp_path: Path):
    program = compiled(tmp_path, BUSY)
    with running(program) as machine:
        until(lambda: machine.vcpus[0].instructions > 1_000_000_000)  # hot code has been compiled
        with Profile(machine, None, Symbols([program]), hz=500) as profile:
            until(lambda: profile.samples >= 200)
    total = profile.samples
    assert profile.stacks["_start", "main", "outer", "inner", "spin"] > total * 0.8
    assert 0 < profile.stacks["_start", "main", "little", "spin"] < total * 0.2
    name, own, inclusive = profile.top()[0]
    assert name == "spin" and total * 0.9 < own <= inclusive <= total


@needs_compiler
def test_collapsed_stacks_are_lines_with_counts(tmp_path: Path):
    program, path = compiled(tmp_path, BUSY), tmp_path / "profile.txt"
    with running(program) as machine, Profile(machine, path, Symbols([program]), hz=500) as profile:
        until(lambda: profile.samples >= 50)
    rows = [re.fullmatch(r"(\S+(?:;\S+)*) (\d+)", line) for line in path.read_text().splitlines()]
    assert all(rows)
    assert sum(int(row[2]) for row in rows if row) == profile.samples


@needs_compiler
def test_a_flame_graph_is_one_svg_that_needs_nothing_else(tmp_path: Path):
    program, path = compiled(tmp_path, BUSY), tmp_path / "profile.svg"
    with running(program) as machine, Profile(machine, path, Symbols([program]), hz=500) as profile:
        until(lambda: profile.samples >= 50)
    root = ElementTree.fromstring(path.read_text())
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(re.match(r"spin: \d+ samples, [\d.]+ %", title) for title in titles)
    assert "href" not in path.read_text() and f"{profile.samples} samples" in path.read_text()


def test_frames_of_a_flame_graph_lie_within_their_callers():
    svg = flame_graph({("a", "b<>&"): 3, ("a", "c"): 1, ("d",): 4}, "8 samples")
    boxes = {}
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        rect = next(group.iter("{http://www.w3.org/2000/svg}rect"))
        boxes[group.get("data-n")] = tuple(float(rect.get(name) or 0) for name in ("x", "width", "y"))
    assert boxes.keys() == {"all", "a", "b<>&", "c", "d"}
    assert boxes["a"][1] == boxes["d"][1] == boxes["all"][1] / 2
    for callee, caller in (("b<>&", "a"), ("c", "a"), ("a", "all")):
        (x, width, y), (outer, room, below) = boxes[callee], boxes[caller]
        assert outer <= x and x + width <= outer + room + 0.02 and y < below


def test_waiting_cpus_count_only_when_asked_for():
    with bare_machine("again:\n wait\n b again") as machine:
        machine.start()
        until(lambda: bool(machine.vcpus[0].state.asleep))
        with Profile(machine, hz=500) as quiet:
            time.sleep(0.1)
        with Profile(machine, hz=500, idle=True) as asked:
            until(lambda: asked.samples > 10)
        assert quiet.samples == 0
        assert set(asked.stacks) == {("cpu0", IDLE)}


def test_a_guest_with_a_wild_stack_is_sampled_all_the_same():
    source = "lis r1, 0x7000\n ori r1, r1, 0x1230\nagain:\n addi r3, r3, 1\n b again"
    with bare_machine(source) as machine:
        machine.start()
        with Profile(machine, hz=1000) as profile:
            until(lambda: profile.samples > 20)
        assert set(profile.stacks) <= {("[1xxx]",), ("[1xxx]", EXIT)}


def test_a_stack_that_leads_in_circles_ends():
    source = """
    lis   r1, 0x10
    stw   r1, 0(r1)
    load32 r4, 0x100100
    stw   r4, 0(r1)
    stw   r1, 0(r4)
again:
    addi  r3, r3, 1
    b     again
    """
    with bare_machine(source) as machine:
        machine.start()
        with Profile(machine, hz=1000) as profile:
            until(lambda: profile.samples > 20)
        assert all(len(stack) <= 3 for stack in profile.stacks)


@pytest.mark.parametrize("hz", [0, 1_000_000])
def test_absurd_rates_are_refused(hz: int):
    with (
        bare_machine("again:\n b again") as machine,
        pytest.raises(UserError, match=f"{hz} samples a second; it takes 1 to"),
    ):
        Profile(machine, hz=hz)
