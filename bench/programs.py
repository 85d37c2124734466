"""The benchmark programs: which class of work each is, what it reports, and how its lines are read.

To add a program: its source in bench/programs (bench.h says how one looks), and one line in `_DECLARED`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from powervisor.errors import UserError

DONE = "BENCH-DONE"
_LINE = re.compile(r"^BENCH (\S+)\s+time_s=([\d.]+) score=([\d.]+) (\S+) check=([0-9a-f]+)\s*$")


class Kind(StrEnum):
    """What a program mostly does; geometric means are taken within a kind."""

    INTEGER = "integer"
    FLOAT = "float"
    VECTOR = "vector"
    MEMORY = "memory"
    SYSTEM = "system"
    PARALLEL = "parallel"
    """Two processes at once, in a machine with two CPUs."""
    DISK = "disk"
    """A virtio disk, past the guest's page cache."""
    NETWORK = "network"
    """A virtio network card, and TCP between the guest and its host."""
    BOARD = "board"
    """Devices and interrupts, without an operating system."""
    KVM = "kvm"
    """A virtual machine inside the guest: see `bench.inside`."""


@dataclass(frozen=True)
class Program:
    """A source file: its kind, and the names under which it reports, each with the check of the right result.

    A check of "" depends on the amount of work: it must only be the same everywhere.
    """

    name: str
    kind: Kind
    reports: Mapping[str, str]
    helper: str = ""
    """A second program, whose path this one takes as its second argument."""
    portable: bool = True
    """Whether it can be compiled for the host, to tell the host's own speed."""


HYPERCALL, MONITOR_READ = "hypercall", "monitor_read"
"""The reports of `trips`: from a guest to KVM and back, and to its monitor and back."""

_DECLARED = (
    Program("sort", Kind.INTEGER, {"quicksort": "97983734"}),
    Program("lz", Kind.INTEGER, {"lz_pack": "cd49d752", "lz_unpack": "074c0193"}),
    Program("json", Kind.INTEGER, {"json": "906173ee"}),
    Program("script", Kind.INTEGER, {"script": "004545fd"}),
    Program("bigint", Kind.INTEGER, {"karatsuba": "fd00009e", "schoolbook": "fd00009e"}),
    Program("nbody", Kind.FLOAT, {"nbody": "bc62a8ef"}),
    Program("fft", Kind.FLOAT, {"fft": "a063ef8b", "fft_single": "fb80251d"}),
    Program("lu", Kind.FLOAT, {"lu": "f255b9e6"}),
    Program("single", Kind.FLOAT, {"mandelbrot": "de45d7cc", "filter": "b320bd4f"}),
    Program("vector", Kind.VECTOR, {"vec_matrix": "d67be000", "vec_integer": "1743084c", "vec_permute": "9404454b"}),
    Program("memory", Kind.MEMORY, {
        "memcpy": "a7c99800", "memset": "0f12f01a", "copy": "a7c99800", "scale": "146f3600", "add": "485a0800",
        "triad": "16a04000", "memcpy_alias": "a7c99800", "copy_alias": "a7c99800", "triad_alias": "16a04000",
    }),
    Program("system", Kind.SYSTEM, {
        "syscall": "0000c350", "switch": "0003dd98", "fault": "00000800", "raise": "00001388", "process": "00000032",
        "program": "00000014",
    }),
    Program("parallel", Kind.PARALLEL, {
        "one_cpu": "361215be", "two_cpus": "361215be", "lock": "00061a80", "turns": "00000fa0",
    }),
    Program("disk", Kind.DISK, {"disk_write": "00000040", "disk_read": "00004000", "disk_random": "000007d0"},
            portable=False),
    Program("net", Kind.NETWORK, {"net_receive": "00001000", "net_send": "00001000"}, portable=False),
    Program("board", Kind.BOARD, dict.fromkeys(
        ("device_read", "device_write", "controller_read", "ipi", "decrementer", "call", "tlb_error"), "00000001"
    ), portable=False),
    Program("trips", Kind.KVM, {HYPERCALL: "00000001", MONITOR_READ: "00000001"}, portable=False),
    # Beside the source tree (../shared/bench), where they are.
    Program("cmlike", Kind.INTEGER, {"cmlike": ""}),
    Program("dhry", Kind.INTEGER, {"dhry": ""}),
    Program("sieve", Kind.INTEGER, {"sieve": ""}),
    Program("hash", Kind.INTEGER, {"sha256": "", "crc32": ""}),
    Program("interp", Kind.INTEGER, {"interp": "", "fib": ""}),
    Program("whet", Kind.FLOAT, {"whet": ""}),
    Program("matmul", Kind.FLOAT, {"matmul": ""}),
    Program("avec", Kind.VECTOR, {"av_matmul": "", "av_int": "", "av_perm": ""}, portable=False),
    Program("sysb", Kind.SYSTEM, dict.fromkeys(("getppid", "pipe", "pgfault", "signal", "fork", "forkexec"), ""),
            helper="true"),
)  # fmt: skip
PROGRAMS = {program.name: program for program in _DECLARED}
REPORTS = {report: program for program in _DECLARED for report in program.reports}
SYSTEM_CALL = "syscall"
ONE, OTHER = "one_cpu", "two_cpus"
"""The reports of `parallel` whose ratio is what the second CPU brings."""


@dataclass(frozen=True)
class Core:
    """What is compiled and booted for a core."""

    name: str
    guest: str
    bits: int
    flags: tuple[str, ...]
    vector: bool = False


CORES = {
    core.name: core
    for core in (
        Core("e500mc", "k32", 32, ("-mcpu=e500mc",)),
        Core("e5500", "k64", 64, ("-mcpu=e5500",)),
        Core("e6500", "k64av", 64, ("-mcpu=e6500", "-maltivec"), vector=True),
    )
}


@dataclass(frozen=True)
class Score:
    """One measurement: work per second, and a check of the work's result."""

    name: str
    kind: Kind
    seconds: float
    score: float
    unit: str
    check: str

    @property
    def expected(self) -> str:
        """The check of the right result, or "" where there is none."""
        return REPORTS[self.name].reports[self.name] if self.name in REPORTS else ""

    @property
    def wrong(self) -> bool:
        """Whether the check is not that of the right result."""
        return self.expected not in ("", self.check)


class Sources:
    """Where the programs' sources are: ours, and a directory with more of them."""

    def __init__(self, more: str | None = None) -> None:
        here = Path(__file__).resolve().parent
        self.places = [here / "programs", Path(more) if more else here.parent.parent / "shared" / "bench"]
        if more and not self.places[1].is_dir():
            raise UserError(f"-sources {more}: no such directory")

    def find(self, name: str) -> Path | None:
        """The source of a program, or None."""
        return next((path for place in self.places if (path := place / f"{name}.c").is_file()), None)

    def available(self) -> list[Program]:
        """The programs whose sources are there."""
        return [program for program in _DECLARED if self.find(program.name) is not None]


def suite(core: Core | None, programs: Iterable[Program], kinds: Sequence[Kind] | None = None) -> list[Program]:
    """Those of `programs` that run on a core (None: this host), restricted to `kinds` if given."""

    def fits(program: Program) -> bool:
        runs = program.portable if core is None else core.vector or program.kind is not Kind.VECTOR
        return runs and (kinds is None or program.kind in kinds)

    return [program for program in programs if fits(program)]


def score_in(line: str) -> Score | None:
    """The score that a line of a console tells, if it does."""
    if (match := _LINE.match(line)) is None or match[1] not in REPORTS:
        return None
    name, seconds, score, unit, check = match.groups()
    return Score(name, REPORTS[name].kind, float(seconds), float(score), unit, check)


def scores_in(text: str) -> list[Score]:
    """The scores among the lines of a console."""
    return [score for line in text.splitlines() if (score := score_in(line)) is not None]
