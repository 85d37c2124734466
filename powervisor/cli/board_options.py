"""What the board is made of, in the words of -M, -cpu, -accel, -smp and -m."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from powervisor.cli.options import nearest, parse_pairs, parse_size
from powervisor.errors import UserError
from powervisor.properties import build, choice, parse, prop, properties, words

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


_LEVELS = ("sockets", "dies", "clusters", "cores", "threads")


def parse_smp(text: str) -> Topology:
    """QEMU's -smp: what is not given follows from what is. The board knows cores only, however many sockets they are
    said to be in. Raises UserError."""
    counts: dict[str, int] = {}
    for key, value in parse_pairs(text, "-smp", ("cpus", "maxcpus", *_LEVELS), first="cpus").items():
        if not value.isdecimal():
            raise UserError(f"-smp {text}: '{value}' is not a number of {key}; write 4, say, or cores=2,threads=2")
        counts[key] = int(value)
        if counts[key] < 1:
            raise UserError(f"-smp {text}: {key} must be at least 1")
    threads = counts.get("threads", 1)
    groups = counts.get("sockets", 1) * counts.get("dies", 1) * counts.get("clusters", 1)
    cpus = counts.get("cpus", counts.get("maxcpus", groups * counts.get("cores", 1) * threads))
    if counts.get("maxcpus", cpus) != cpus:
        raise UserError(f"-smp {text}: no CPUs can be added later; leave maxcpus= out")
    cores = groups * counts["cores"] if "cores" in counts else -(-cpus // threads)
    if cores * threads != cpus or cores % groups:
        product = " x ".join(f"{counts[key]} {key}" for key in _LEVELS if key in counts)
        raise UserError(f"-smp {text}: {product} do not make {cpus} CPUs; leave one of the numbers out")
    return Topology(cores, threads)


def parse_memory(text: str) -> int:
    """Bytes of -m SIZE or -m size=SIZE. Raises UserError."""
    given = parse_pairs(text, "-m", ("size", "slots", "maxmem"), first="size")
    if "size" not in given:
        raise UserError(f"-m {text}: no size; write for example 512, 512M or 2G")
    size = parse_size(given["size"], "-m")
    if given.get("slots", "0") != "0" or ("maxmem" in given and parse_size(given["maxmem"], "-m") != size):
        raise UserError(f"-m {text}: no memory can be added later; leave slots= and maxmem= out")
    return size


def check_core(name: str, arch: str) -> None:
    """Raise UserError for a core that the program for `arch` does not have."""
    from powervisor.isa import cores

    if arch == "ppc" and cores.get(name).bits == 64:
        raise UserError(f"-cpu {name}: a 64-bit core; take powervisor-system-ppc64 for it")
