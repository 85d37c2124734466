"""powervisor run -trace, -trace-json, -profile, -coverage, -symbols, with the built-in guest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from .test_coverage import read_drcov
from .test_timeline import check

SECONDS = 120


def run(*words: str) -> SimpleNamespace:
    """The command in a process of its own, until the guest's prompt."""
    command = [sys.executable, "-m", "powervisor", "run", "-timeout", "100", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    return SimpleNamespace(status=done.returncode, out=done.stdout, err=done.stderr)


def test_everything_at_once(tmp_path: Path):
    files = {name: tmp_path / name for name in ("t.txt", "t.json", "p.svg", "c.drcov")}
    done = run(
        "-expect", "> ", "-trace", f"irq,wait,file={files['t.txt']}", "--trace", "mmio,device=mpic", "-trace-json",
        str(files["t.json"]), "-profile", str(files["p.svg"]), "-profile-hz", "500", "-coverage", str(files["c.drcov"]),
    )  # fmt: skip
    assert done.status == 0, done.err
    assert re.search(r" cpu0 +irq +SYSTEM_CALL at [0-9a-f]+ <\w+", files["t.txt"].read_text())
    assert " mpic.EOI" in done.err and "serial0" not in done.err
    events = json.loads(files["t.json"].read_text())
    check(events)
    assert any(event["name"].startswith("mmio serial0.") for event in events)
    assert "samples" in files["p.svg"].read_text()
    modules, blocks = read_drcov(files["c.drcov"].read_bytes())
    assert len(blocks) > 500 and all(number == 0 for _, _, number in blocks), modules


def test_events_of_one_partition(tmp_path: Path):
    path = tmp_path / "t.txt"
    done = run("hypervisor-demo", "-trace", f"irq,tlb,lpid=1,file={path}")
    assert done.status == 0, done.err
    lines = path.read_text().splitlines()
    assert lines
    assert all("lpid 1 " in line for line in lines if " irq " in line)
    everything = tmp_path / "all.txt"
    assert run("hypervisor-demo", "-trace", f"irq,file={everything}").status == 0
    partitions = set(re.findall(r"lpid (\d+) ", everything.read_text()))
    assert {"1", "2"} <= partitions


def test_help_lists_events_and_filters():
    done = run("-trace", "help")
    assert done.status == 0
    assert re.search(r"mmio=on\|off +device registers", done.out) and "lpid=number" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-trace", "mmoi"], "-trace mmoi: unknown property 'mmoi'; did you mean mmio?"),
        (["-trace", "cpu=0"], "-trace cpu=0: it says nothing of what to trace; name some of insn, irq"),
        (["-trace", "irq,cpu=9"], "-trace irq: cpu=9: there are cpus 0 to 0"),
        (["-trace", "insn,address=no_such"], "-trace insn: address=no_such: no such symbol"),
        (["-trace-json", "/none/t.json"], "-trace-json /none/t.json: cannot be written (No such file or directory)"),
        (["-profile", "/none/p.svg"], "-profile /none/p.svg: cannot be written"),
        (["-profile-hz", "10"], "-profile-hz: there is nothing to sample for; add -profile FILE"),
        (["-profile", "/dev/null", "-profile-hz", "x"], "-profile-hz: 'x' is not a number"),
        (["-profile", "/dev/null", "-profile-hz", "0"], "-profile: 0 samples a second; it takes 1 to 10000"),
        (["-coverage", "/dev/null", "-symbols", "/none"], "/none: cannot be read"),
        (["-coverage", "/tmp/x.info"], "-coverage /tmp/x.info: no program with a line table"),
    ],
)
def test_mistakes_are_told_in_one_line_before_the_start(words, message):
    done = run(*words)
    assert (done.status, done.out) == (1, "")
    complaints = [line for line in done.err.splitlines() if "building the" not in line]
    assert len(complaints) == 1 and message in complaints[0], done.err


@pytest.mark.parametrize("words", [["-profile", "/dev/null", "-profile-hz", "0"], ["-coverage", "/tmp/x.info"]])
def test_a_mistake_elsewhere_leaves_the_file_of_a_timeline_alone(tmp_path, words):
    kept = tmp_path / "timeline.json"
    kept.write_text("of yesterday")
    assert run("-trace-json", str(kept), *words).status == 1
    assert kept.read_text() == "of yesterday"
