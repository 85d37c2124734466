"""Programs compiled for a core or this host, and what a guest is given to run them."""

import gzip
import hashlib
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bench.programs import DONE, Core, Program, Score, Sources, score_in
from powervisor.errors import UserError
from powervisor.guests import debian
from powervisor.guests.archive import Cpio
from powervisor.guests.linux import TARGETS
from powervisor.guests.progress import Progress

# No contraction to fused multiply-add, for the check values are the same on every platform only so; and a loop that
# copies stays a loop.
_FLAGS = ("-O2", "-static", "-std=gnu11", "-ffp-contract=off", "-fno-tree-loop-distribute-patterns")
_BARE = (
    "-O2", "-std=gnu11", "-mcpu=e500mc", "-msoft-float", "-ffreestanding", "-fno-stack-protector", "-fno-pic",
    "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000,--build-id=none,-N",
)  # fmt: skip
Compiled = Mapping[str, Path]


def compile_for(core: Core | None, programs: Iterable[Program], sources: Sources, cache: Path) -> Compiled:
    """The compiled programs by name, for a core or (None) for this host; unchanged ones are not compiled again."""
    compiler = f"{TARGETS[core.bits].prefix if core else ''}gcc"
    flags = [*_FLAGS, *(core.flags if core else ())]
    names = [name for program in programs for name in (program.name, program.helper) if name]
    packages = TARGETS[core.bits].packages if core else ("gcc", "libc6-dev")
    jobs = {name: [compiler, *flags, str(_source(name, sources)), "-lm"] for name in names}
    return _compile(jobs, core.name if core else "this host", packages, sources, cache)


def compile_bare(program: Program, percent: int, sources: Sources, cache: Path) -> Path:
    """A program without an operating system, as an ELF file that every core can boot."""
    target = TARGETS[32]
    command = [f"{target.prefix}gcc", *_BARE, f"-DPERCENTAGE={percent}", str(_source(program.name, sources)), "-lgcc"]
    return _compile({program.name: command}, "the bare board", target.packages, sources, cache)[program.name]


def _source(name: str, sources: Sources) -> Path:
    path = sources.find(name)
    if path is None:
        raise UserError(f"{name}.c is neither in {' nor in '.join(map(str, sources.places))}; see -sources")
    return path


def _compile(
    jobs: Mapping[str, Sequence[str]], target: str, packages: Sequence[str], sources: Sources, cache: Path
) -> Compiled:
    made: dict[str, Path] = {}
    for name, command in jobs.items():
        text = " ".join(command).encode() + _source(name, sources).read_bytes()
        for header in sorted(
            (*_source(name, sources).parent.glob("*.h"), *_source(name, sources).parent.glob("*.inc"))
        ):
            text += header.read_bytes()
        made[name] = cache / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}"
    missing = [name for name, path in made.items() if not path.exists()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with Progress(f"bench programs for {target}") as progress:
            debian.require(packages, progress)
            progress.step("compiling", total=len(missing))
            for name in missing:
                partial = made[name].with_suffix(".partial")
                debian.run([*jobs[name], "-o", str(partial)], f"compiling {name}.c")
                partial.replace(made[name])
                progress.advance()
    return made


def command(program: Program, directory: str, compiled: Compiled | None, percent: int) -> list[str]:
    """The words that run a program: from `directory` in a guest, or as compiled for this host."""

    def path(name: str) -> str:
        return str(compiled[name]) if compiled is not None else f"{directory}/{name}"

    return [path(program.name), str(percent), *([path(program.helper)] if program.helper else [])]


def ram_disk(
    initrd: Path, programs: Sequence[Program], compiled: Compiled, percent: int,
    scripts: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:  # fmt: skip
    """A guest's RAM disk with the programs and `scripts` added, and with /bench/run, which runs the programs.

    The kernel unpacks one archive after the other; the second adds to the first.
    """
    cpio = Cpio()
    for name, path in compiled.items():
        cpio.file(f"bench/{name}", path.read_bytes(), 0o755)
    for name, text in scripts.items():
        cpio.file(name, text, 0o755)
    lines = ["#!/bin/sh", *(" ".join(command(program, "/bench", None, percent)) for program in programs)]
    cpio.file("bench/run", "\n".join([*lines, f"echo {DONE}", ""]).encode(), 0o755)
    return initrd.read_bytes() + gzip.compress(cpio.data(), 1, mtime=0)


def run_here(
    programs: Iterable[Program], compiled: Compiled, percent: int, heard: Callable[[Score], None] = lambda score: None
) -> list[Score]:
    """The programs' scores on this host itself. Raises UserError."""
    scores = []
    for program in programs:
        words = command(program, "", compiled, percent)
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise UserError(f"{program.name} on this host: {said[-1] if said else f'status {done.returncode}'}")
        for line in done.stdout.splitlines():
            if (score := score_in(line)) is not None:
                scores.append(score)
                heard(score)
    return scores
