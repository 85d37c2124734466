"""-object: what devices and the board refer to by id. What passes a network is captured by those of `net`."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from powervisor.cli.options import nearest
from powervisor.errors import UserError
from powervisor.memory.ram import describe_size
from powervisor.properties import SIZE, check_known, choice, listing, number, parse, prop

KEY_BYTES = 32
"""Of AES-256, which secrets are encrypted with."""


@dataclass(frozen=True)
class ObjectOptions:
    """Every object."""

    id: str = prop("", "its name", required=True)


@dataclass(frozen=True)
class SecretOptions(ObjectOptions):
    """A secret. No device here wants one, so that all are keys: of libvirt's master key, mostly."""

    file: str = prop("", "the file that holds it")
    data: str = prop("", "what it is, for all who look at the processes of the host")
    format: str = prop("raw", "how it is written", choice("raw", "base64"))


@dataclass(frozen=True)
class MemoryOptions(ObjectOptions):
    """RAM."""

    size: int = prop(0, "bytes, as many as -m says", SIZE, required=True)
    prealloc: bool = prop(False, "commit all of it before the start")
    prealloc_threads: int = prop(1, "the host's kernel does it", number(1, 1024))
    share: bool = prop(False, "it is shared with nobody, either way")
    dump: str = prop("off", "it is not in core files of this program", choice("off"))
    merge: str = prop("off", "its pages are not merged with those of others", choice("off"))


@dataclass(frozen=True)
class MemoryFileOptions(MemoryOptions):
    """RAM out of huge pages."""

    mem_path: str = prop("", "a directory of a hugetlbfs", required=True)
    discard_data: bool = prop(False, "the file has no name, and is gone at the end")


@dataclass(frozen=True)
class MemoryMemfdOptions(MemoryOptions):
    """RAM, as it is by default."""

    hugetlb: str = prop("off", "huge pages are those of memory-backend-file", choice("off"))
    seal: bool = prop(True, "nobody else has the file")


@dataclass(frozen=True)
class RngRandomOptions(ObjectOptions):
    """Random bytes of the host."""

    filename: str = prop("/dev/urandom", "both are the kernel's generator", choice("/dev/urandom", "/dev/random"))


class Kind(NamedTuple):
    """A type of object."""

    summary: str
    options: type[ObjectOptions]


KINDS: Mapping[str, Kind] = {
    "memory-backend-ram": Kind("RAM, for -M memory-backend=ID", MemoryOptions),
    "memory-backend-file": Kind("RAM out of huge pages", MemoryFileOptions),
    "memory-backend-memfd": Kind("RAM in a file without a name", MemoryMemfdOptions),
    "rng-builtin": Kind("random numbers of the host, for virtio-rng-pci", ObjectOptions),
    "rng-random": Kind("the same", RngRandomOptions),
    "secret": Kind("a key of 32 bytes, which libvirt hands over", SecretOptions),
}


@dataclass
class Objects:
    """What -object options say."""

    memory: dict[str, MemoryOptions] = field(default_factory=dict)
    rngs: list[str] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    """The words of those that `net` makes."""


def parse_objects(texts: Sequence[str]) -> Objects:
    """Look at all; secrets are read, and forgotten. Raises UserError."""
    from powervisor.net import netdevs

    found, names = Objects(), set[str]()
    for text in texts:
        name, _, rest = text.partition(",")
        if name in netdevs.OBJECTS:
            found.captures.append(text)
            continue
        if name not in KINDS:
            near = nearest(name, (*KINDS, *netdevs.OBJECTS))
            raise UserError(f"-object {name}: there is no such type; there is {near} (-object help)")
        options: Any = parse(KINDS[name].options, rest, f"-object {name}")
        where = f"-object {name},id={options.id}"
        if options.id in names:
            raise UserError(f"{where}: the id is taken; give each its own")
        names.add(options.id)
        if isinstance(options, MemoryOptions):
            found.memory[options.id] = options
        elif isinstance(options, SecretOptions):
            _check_secret(options, where)
        else:
            found.rngs.append(options.id)
    return found


def _check_secret(options: SecretOptions, where: str) -> None:
    if bool(options.file) == bool(options.data):
        raise UserError(f"{where}: what is it? give either file= or data=")
    try:
        if options.file:
            with open(options.file, "rb") as file:
                secret = file.read(os.sysconf("SC_PAGESIZE"))
        else:
            secret = os.fsencode(options.data)
        if options.format == "base64":
            secret = base64.b64decode(secret, validate=False)
    except OSError as error:
        remedy = "give whoever runs this the right to it"
        raise UserError(f"{where}: {options.file} cannot be read ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{where}: not base64 ({error}); write it so, or say format=raw") from None
    if len(secret) != KEY_BYTES:
        raise UserError(f"{where}: {len(secret)} bytes, and a key of AES-256 has {KEY_BYTES}; give one of that length")


def memory_arguments(objects: Objects, backend: str, size: int | None) -> dict[str, Any]:
    """Keyword arguments for `Machine` of RAM that is the object `backend`; `size` is -m's. Raises UserError."""
    if unused := objects.memory.keys() - {backend}:
        raise UserError(f"-object memory-backend-...,id={min(unused)}: nothing uses it; add memory-backend= to -M")
    if not backend:
        return {}
    check_known(objects.memory, "memory-backend", backend, "-M", f"add -object memory-backend-ram,id={backend},size=..")
    options = objects.memory[backend]
    if size not in (None, options.size):
        wanted = f"-m says {describe_size(size or 0)}"
        raise UserError(
            f"-object ...,id={backend}: size={describe_size(options.size)}, and {wanted}; make them the same"
        )
    found: dict[str, Any] = {"memory": options.size}
    if isinstance(options, MemoryFileOptions):
        found["mem_path"] = options.mem_path
    if options.prealloc:
        found["mem_prealloc"] = True
    return found


def summaries() -> list[tuple[str, str]]:
    """All types with what they are."""
    from powervisor.net import netdevs

    return [*netdevs.object_summaries(), *((name, kind.summary) for name, kind in KINDS.items())]


def help_rows(name: str) -> list[tuple[str, str]]:
    """The properties of a type. Raises UserError."""
    from powervisor.net import netdevs

    return listing(KINDS[name].options) if name in KINDS else netdevs.object_help_rows(name)
