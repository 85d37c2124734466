"""What the board is made of, in the words of -M, -cpu, -accel, -smp and -m."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from powervisor.cli.options import nearest, parse_size
from powervisor.errors import UserError
from powervisor.properties import Kind, build, choice, number, parse, prop, properties, words

NO_BOARD = "none"
"""-M none: no machine, only QMP."""
ACCELERATORS = {"translate": "translation to native code, on any host", "tcg": "the same, by QEMU's name for its own"}


@dataclass(frozen=True)
class HostProperties:
    """What -M takes besides the board's own properties: what is about the host."""

    accel: str = prop("", "as -accel; of several, A:B, the first that there is")
    memory_backend: str = prop("", "the id of an -object memory-backend-..., which is the RAM")
    dump_guest_core: str = prop("off", "RAM is not in core files of this program", choice("off"))
    mem_merge: str = prop("off", "pages of RAM are not merged with those of others", choice("off"))
    usb: str = prop("off", "the board has no USB", choice("off"))
    graphics: str = prop("off", "the board has no display", choice("off"))


class BoardChoice(NamedTuple):
    """-M."""

    board: str
    """The board with its own properties."""
    host: HostProperties


def parse_board(text: str) -> BoardChoice:
    """The board of -M and what is about the host apart. Raises UserError."""
    known = {declared.name for declared in properties(HostProperties)}
    own, host = [], {}
    for word in words(text.removeprefix("type=")):
        name, equals, value = word.partition("=")
        if name in known:
            if name in host:
                raise UserError(f"-M {text}: {name} is given twice; leave one of them out")
            host[name] = value if equals else "on"
        else:
            own.append(word.replace(",", ",,"))
    return BoardChoice(",".join(own), build(HostProperties, host, f"-M {text}"))


@dataclass(frozen=True)
class AccelOptions:
    """-accel."""

    thread: str = prop("multi", "each vCPU has a thread of its own", choice("multi"))


def check_accel(text: str, where: str) -> None:
    """Raise UserError unless an accelerator of `A:B,...` is there."""
    names, _, rest = text.partition(",")
    if not any(name in ACCELERATORS for name in names.split(":")):
        raise UserError(f"{where} {names}: no such accelerator; there is {nearest(names, ACCELERATORS)}")
    parse(AccelOptions, rest, f"{where} {names}")


@dataclass(frozen=True)
class Topology:
    """-smp: cores of the machine, threads of each."""

    cores: int
    threads: int


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("not a number above 0; write 4, say")
    return int(text)


_COUNT = Kind("number", _count)


@dataclass(frozen=True)
class SmpOptions:
    """-smp."""

    cpus: int | None = prop(None, "vCPUs", _COUNT)
    maxcpus: int | None = prop(None, "the same: none can be added later", _COUNT)
    sockets: int = prop(1, "the board knows cores only, however many sockets they are said to be in", _COUNT)
    dies: int = prop(1, "as sockets", _COUNT)
    clusters: int = prop(1, "as sockets", _COUNT)
    cores: int | None = prop(None, "cores, of each socket", _COUNT)
    threads: int = prop(1, "of a core; e6500: 1 or 2", _COUNT)


def parse_smp(text: str) -> Topology:
    """QEMU's -smp: what is not given follows from what is. Raises UserError."""
    given = parse(SmpOptions, text, f"-smp {text}", first="cpus")
    groups, threads = given.sockets * given.dies * given.clusters, given.threads
    cpus = given.cpus or given.maxcpus or groups * (given.cores or 1) * threads
    if given.maxcpus not in (None, cpus):
        raise UserError(f"-smp {text}: no CPUs can be added later; leave maxcpus= out")
    cores = -(-cpus // threads) if given.cores is None else groups * given.cores
    if cores * threads != cpus or cores % groups:
        raise UserError(
            f"-smp {text}: sockets, cores and threads do not make {cpus} CPUs; leave one of the numbers out"
        )
    return Topology(cores, threads)


def _size(text: str) -> int:
    try:
        return parse_size(text, "-m")
    except UserError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


@dataclass(frozen=True)
class MemoryOptions:
    """-m."""

    size: int = prop(0, "of RAM, in MiB unless it ends in K, M, G", Kind("size", _size), required=True)
    slots: int = prop(0, "none: no memory can be added later", number(0, 0))
    maxmem: int | None = prop(None, "the same as size", Kind("size", _size))


def parse_memory(text: str) -> int:
    """Bytes of -m SIZE or -m size=SIZE. Raises UserError."""
    given = parse(MemoryOptions, text, f"-m {text}", first="size")
    if given.maxmem not in (None, given.size):
        raise UserError(f"-m {text}: no memory can be added later; leave maxmem= out")
    return given.size


def check_core(name: str, arch: str) -> None:
    """Raise UserError for a core that the program for `arch` does not have."""
    from powervisor.isa import cores

    if arch == "ppc" and cores.get(name).bits == 64:
        raise UserError(f"-cpu {name}: a 64-bit core; take powervisor-system-ppc64 for it")
