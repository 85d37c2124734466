"""The benchmark's arithmetic, and its dealings with VMMs, without booting anything."""

import sys

import pytest

from bench import machines, programs, report
from bench.machines import Job, Run, Vmm
from bench.programs import Kind, Score
from powervisor.errors import UserError

JOB = Job("e500mc", "2", "512", "uImage", "rd", "console=ttyS0 stop ")


def score(name: str, value: float, kind: Kind = Kind.INTEGER, check: str = "0000beef") -> Score:
    return Score(name, kind, 1.0, value, "x/s", check)


def fake(script: str) -> Vmm:
    """A VMM that is a Python program; it sees the machine's options as arguments."""
    return Vmm("fake", (sys.executable, "-u", "-c", script))


def test_score_lines_are_read_from_a_console_and_others_are_not():
    text = "[    1.0] boot\r\nBENCH sieve      time_s=1.250 score=10.50 sieves/s check=00abcdef\r\nBENCH nonsense\n"
    text += "BENCH matmul time_s=0.1 score=55 MFLOPS check=12345678\nBENCH avec not built with AltiVec\n"
    assert programs.scores_in(text) == [
        Score("sieve", Kind.INTEGER, 1.25, 10.5, "sieves/s", "00abcdef"),
        Score("matmul", Kind.FLOAT, 0.1, 55.0, "MFLOPS", "12345678"),
    ]


def test_medians_ratios_and_means():
    result = report.CoreResult("e500mc", ["qemu", "powervisor"])
    result.runs["qemu"] = [Run(1.0, [score("a", v), score("b", 10), score("f", 1, Kind.FLOAT)]) for v in (9, 10, 200)]
    result.runs["powervisor"] = [Run(1.0, [score("a", 20), score("b", 80), score("f", 5, Kind.FLOAT)])]
    assert result.score("qemu", "a") == 10
    assert result.ratio("a", "powervisor", "qemu") == 2
    assert result.mean(Kind.INTEGER, "powervisor", "qemu") == pytest.approx(4)
    assert result.mean(Kind.FLOAT, "powervisor", "qemu") == pytest.approx(5)
    assert result.mean(Kind.VECTOR, "powervisor", "qemu") is None
    assert result.json()["ratios"] == {"a": 2, "b": 8, "f": 5}
    assert report.differences([result]) == []


def test_different_results_are_told_and_system_programs_may_differ_from_the_host():
    result = report.CoreResult("e5500", ["qemu", "powervisor"])
    result.runs["qemu"] = [Run(1.0, [score("a", 1), score("s", 1, Kind.SYSTEM)])]
    result.runs["powervisor"] = [Run(1.0, [score("a", 1, check="0badbad0"), score("s", 1, Kind.SYSTEM)])]
    result.native = [score("a", 1), score("s", 1, Kind.SYSTEM, check="00004000")]
    assert report.differences([result]) == ["e5500 a: 0000beef (native qemu), 0badbad0 (powervisor)"]


def test_every_vmm_gets_the_same_options_and_is_ended_when_the_text_has_come():
    vmm = fake("import sys, time; print('BOOT-OK', *sys.argv[1:]); "
               "print('BENCH sieve time_s=1 score=2 x check=0'); print('BENCH-DONE'); time.sleep(60)")  # fmt: skip
    run = machines.run(vmm, JOB, programs.DONE)
    assert 0 < run.boot < 10
    assert [s.name for s in run.scores] == ["sieve"]
    assert JOB.options()[:4] == ["-M", "ppce500", "-cpu", "e500mc"]


def test_a_boot_that_fails_shows_its_last_lines():
    with pytest.raises(UserError, match="fake: BOOT-OK did not come(.|\n)*Kernel panic"):
        machines.run(fake("print('Kernel panic')"), JOB, machines.BOOTED)


def test_a_cold_start_begins_with_an_empty_cache(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "old").write_text("")
    script = "import os; print('BOOT-OK' if not os.path.exists(os.environ['POWERVISOR_CACHE']) else 'warm')"
    vmm = Vmm("fake", (sys.executable, "-u", "-c", script), {"POWERVISOR_CACHE": str(cache)}, caches=True)
    assert machines.run(vmm, JOB, machines.BOOTED, cold=True).boot > 0


def test_vmms_by_name_and_twice_the_same():
    with machines.vmms(["powervisor", "powervisor"]) as vmms:
        assert [vmm.label for vmm in vmms] == ["powervisor", "powervisor#2"]
        assert vmms[0].environment["POWERVISOR_CACHE"] != vmms[1].environment["POWERVISOR_CACHE"]
    with pytest.raises(UserError, match="-vmms bochs: known are"), machines.vmms(["bochs"]):
        pass


def test_the_overlay_runs_the_programs_with_their_share_of_work(tmp_path):
    for name in ("sieve", "sysb", "true"):
        (tmp_path / name).write_bytes(b"\x7fELF")
    data = programs.overlay({name: tmp_path / name for name in ("sieve", "sysb", "true")}, 25)
    assert b"#!/bin/sh\n/bench/sieve 25\n/bench/sysb 25 /bench/true\necho BENCH-DONE\n" in data


def test_vector_programs_run_only_where_there_is_a_vector_unit():
    assert "avec" not in programs.suite(programs.CORES["e500mc"], [])
    assert "avec" in programs.suite(programs.CORES["e6500"], [])
    with pytest.raises(UserError, match="-only siev: no such program"):
        programs.suite(None, ["siev"])
