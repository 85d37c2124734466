"""Random programs: translated blocks, regions and the oracle agree at every interrupt, and after every counted run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from powervisor.insns import TABLE, assemble
from powervisor.isa import cores
from powervisor.native.llvm import REGION_PASSES
from powervisor.testing import regions
from powervisor.testing.programs import ProgramMaker
from powervisor.testing.regions import Programs, Trio
from powervisor.testing.words import NOP
from powervisor.translate.tier1.flow import Flow
from powervisor.translate.tier1.options import DEFAULTS, RegionOptions
from powervisor.translate.tier1.shape import Former

CORES = tuple(cores.CORES)
OFF = {
    **{name: replace(DEFAULTS, **{name: 0}) for name in ("near", "cases", "callees", "returns", "frames", "level")},
    "pages": replace(DEFAULTS, pages=1), "entries": replace(DEFAULTS, entries=1),
    **{name: replace(DEFAULTS, without=(name,)) for name in set(REGION_PASSES) - {"always_inliner"}},
}  # fmt: skip
"""Every optimisation that can be turned off, each alone."""


def check(
    seed: str, names: tuple[str, ...], count: int, options: RegionOptions = DEFAULTS, frames: bool = False
) -> None:
    programs = Programs(seed, names, options, frames=frames)
    try:
        for number in range(count):
            if found := programs.check(number):
                pytest.fail(f"seed {seed} case {number} of {', '.join(names)}: {found.report()}", pytrace=False)
        assert programs.total("compiled") > count and programs.total("stops") > count
    finally:
        programs.close()


def test_random_programs_agree() -> None:
    check("tests", CORES, 18)


FRAMES = replace(DEFAULTS, frames=0xFFFF_FFFE)


def test_programs_with_frames_in_two_pages_agree() -> None:
    check("frames", CORES, 15, FRAMES, frames=True)


def test_many_accesses_of_programs_with_frames_lie_together() -> None:
    maker, straddling = ProgramMaker(cores.get("e5500"), frames=True), 0
    table = TABLE.for_core(cores.get("e5500").categories)
    for number in range(10):
        words = dict(enumerate(maker.program(f"frames {number}").case.words))
        region = Former("e5500", table, 1, lambda at, words=words: words.get(at // 4), lambda at: True).form(0)
        assert region is not None
        flow = Flow(region, table, FRAMES)
        straddling += sum(flow.may_straddle(group) for groups in flow.probes.values() for group in groups.values())
    assert straddling > 20


def test_the_program_that_new_gvn_compiled_wrong_is_right() -> None:
    """A CR field that addic. sets and crnor changes, in a loop that is left between them (see `native.llvm`)."""
    programs = Programs("5ff82099", CORES, indirect=False)
    try:
        assert programs.check(447) is None
    finally:
        programs.close()


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_many_random_programs_agree(core: str) -> None:
    check("many", (core,), 300)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OFF))
def test_random_programs_agree_with_an_optimisation_off(name: str) -> None:
    check(f"without {name}", CORES, 60, OFF[name])


def test_a_wrong_region_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install that swaps two words of the guest after a region was made of them: as good as wrong code."""
    maker, trio = ProgramMaker(cores.get("e500mc")), Trio(cores.get("e500mc"))
    real = trio.regions.compile

    def spoil(program: object, heads: object) -> None:
        real(program, heads)  # type: ignore[arg-type]
        trio.regions.cpu.gpr[3] += 1

    monkeypatch.setattr(trio.regions, "compile", spoil)
    try:
        number, found = next((n, f) for n in range(50) if (f := trio.check(maker.program(f"x{n}"), f"x{n}")))
        small = trio.shrink(found, maker.program(f"x{number}"), f"x{number}")
        assert sum(word != NOP for word in small.case.words) < 4
        assert any(line.startswith("r3:") for line in small.details)
    finally:
        trio.close()


def test_programs_loop_and_call() -> None:
    maker = ProgramMaker(cores.get("e5500"))
    programs = [maker.program(f"shape {n}") for n in range(30)]
    words = {word for program in programs for word in program.case.words}
    assert {assemble(word) for word in ("blr", "bctr", "bctrl")} <= words
    assert all(len(program.heads) > 3 for program in programs)
    assert programs[3].case == maker.program("shape 3").case


def test_the_command_repeats_a_program_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert regions.main(["--seed", "s", "--core", "e500mc", "--case", "1", "--set", "near=0"]) == 0
    assert "no mismatch" in capsys.readouterr().out
    for wrong in ("near", "nothing=1", "without=always_inliner", "without=magic"):
        assert regions.main(["--set", wrong]) == 1
        assert "REGION" not in (err := capsys.readouterr().err) and "near" in err and "new_gvn" in err
