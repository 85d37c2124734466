"""The programs of this repository: each compiles, and tells the declared results, on this host and on Power."""

import shutil
import subprocess

import pytest

from bench import compiling, programs
from bench.programs import CORES, Kind, Sources
from powervisor.guests.linux import TARGETS

OURS = [program for program in programs.PROGRAMS.values() if all(program.reports.values())]
COMPUTING = [program for program in OURS if program.kind not in (Kind.SYSTEM, Kind.PARALLEL, Kind.BOARD, Kind.KVM)]
QEMU = {"e500mc": "qemu-ppc", "e6500": "qemu-ppc64"}
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


@pytest.fixture
def sources(tmp_path) -> Sources:
    """Ours alone."""
    (tmp_path / "none").mkdir()
    return Sources(str(tmp_path / "none"))


def checks(scores) -> dict[str, str]:
    return {score.name: score.check for score in scores}


def test_the_programs_without_declared_results_are_not_ours(sources):
    assert sources.available() == OURS


def test_reports_are_named_once():
    assert len(programs.REPORTS) == sum(len(program.reports) for program in programs.PROGRAMS.values())


@needs_gcc
@pytest.mark.parametrize("program", [p for p in OURS if p.portable], ids=lambda program: program.name)
def test_results_on_this_host(program, sources, tmp_path):
    compiled = compiling.compile_for(None, [program], sources, tmp_path)
    heard = []
    scores = compiling.run_here([program], compiled, 1, heard.append)
    assert checks(scores) == program.reports
    assert heard == scores
    assert {score.kind for score in scores} == {program.kind}


@pytest.mark.parametrize("core", QEMU)
def test_results_on_power(core, sources, tmp_path):
    core_model = CORES[core]
    if not (shutil.which(f"{TARGETS[core_model.bits].prefix}gcc") and shutil.which(QEMU[core])):
        pytest.skip(f"no cross compiler or no {QEMU[core]}")
    chosen = [p for p in programs.suite(core_model, COMPUTING) if p.name in ("sort", "json", "nbody", "vector")]
    compiled = compiling.compile_for(core_model, chosen, sources, tmp_path)
    for program in chosen:
        command = [QEMU[core], "-cpu", core, str(compiled[program.name]), "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert checks(programs.scores_in(done.stdout)) == program.reports


def test_the_board_program_runs_on_the_bare_machine(sources, tmp_path):
    if shutil.which(f"{TARGETS[32].prefix}gcc") is None:
        pytest.skip("no cross compiler")
    from powervisor import Machine

    board = programs.PROGRAMS["board"]
    elf = compiling.compile_bare(board, 1, sources, tmp_path)
    with Machine(cpu="e500mc", memory=128 << 20, kernel=elf, serial=[None]) as machine:
        machine.start()
        text = machine.console.expect(programs.DONE, timeout=60)
    assert checks(programs.scores_in(str(text))) == board.reports


@needs_gcc
def test_programs_are_compiled_anew_when_their_text_changes(tmp_path):
    directory = tmp_path / "sources"
    directory.mkdir()
    (directory / "bench.h").write_text("")
    (directory / "sieve.c").write_text("int main(void) { return 0; }\n")
    sieve, sources = programs.PROGRAMS["sieve"], Sources(str(directory))
    first = compiling.compile_for(None, [sieve], sources, tmp_path / "cache")
    assert compiling.compile_for(None, [sieve], sources, tmp_path / "cache") == first
    (directory / "bench.h").write_text("#define X\n")
    assert compiling.compile_for(None, [sieve], sources, tmp_path / "cache") != first


def test_the_ram_disk_runs_the_programs_with_their_share_of_work(tmp_path):
    import gzip

    compiled = {}
    for name in ("sort", "sysb", "true"):
        (tmp_path / name).write_bytes(b"\x7fELF")
        compiled[name] = tmp_path / name
    (tmp_path / "initrd").write_bytes(gzip.compress(b"first"))
    chosen = [programs.PROGRAMS[name] for name in ("sort", "sysb")]
    data = gzip.decompress(compiling.ram_disk(tmp_path / "initrd", chosen, compiled, 25))
    assert data.startswith(b"first")
    assert b"#!/bin/sh\n/bench/sort 25\n/bench/sysb 25 /bench/true\necho BENCH-DONE\n" in data
