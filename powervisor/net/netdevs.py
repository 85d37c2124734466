"""-netdev, -object filter-dump and -pcap: what a user says of a machine's networks, and opening them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from powervisor.errors import UserError, argument
from powervisor.net.capture import MAX_LENGTH, Capture
from powervisor.net.claims import Netdevs
from powervisor.net.datagrams import DgramNetdev
from powervisor.net.netdev import Netdev, Port
from powervisor.net.passt import UserNetdev
from powervisor.net.sockets import SocketNetdev, StreamNetdev
from powervisor.net.tap import TapNetdev
from powervisor.properties import check_known, listing, number, parse, prop

TYPES: Mapping[str, Any] = {one.kind: one for one in (UserNetdev, TapNetdev, SocketNetdev, StreamNetdev, DgramNetdev)}
"""Backends by the word after -netdev."""


@dataclass(frozen=True)
class FilterDumpOptions:
    """-object filter-dump."""

    id: str = prop("", "its name", required=True)
    netdev: str = prop("", "the id of the -netdev", required=True)
    file: str = prop("", "the file, which is made anew", required=True)
    maxlen: int = prop(MAX_LENGTH, "bytes that are kept of a frame", number(1, MAX_LENGTH))


OBJECTS: Mapping[str, tuple[str, type]] = {
    "filter-dump": ("what passes a -netdev, in pcap's format", FilterDumpOptions)
}
"""What -object makes: a line about it, and its properties."""


def describe(text: str) -> tuple[type[Any], Any, str]:
    """The backend that `TYPE,property=value,...` asks for, its options, the words for messages. Raises UserError."""
    option = argument("netdevs")
    name, _, rest = text.partition(",")
    found = _known(TYPES, name, option)
    options = parse(found.options_type, rest, f"{option} {name}")
    return found, options, f"{option} {name},id={options.id}"


def describe_object(text: str) -> FilterDumpOptions:
    """What `filter-dump,property=value,...` asks for. Raises UserError."""
    option = argument("objects")
    name, _, rest = text.partition(",")
    _, options = _known(OBJECTS, name, option)
    found: FilterDumpOptions = parse(options, rest, f"{option} {name}")
    return found


def _known(table: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in table:
        raise UserError(f"{option} {name}: there is no such type; write {', '.join(table)} ({option} help)")
    return table[name]


def check(netdevs: Sequence[str], objects: Sequence[str] = ()) -> None:
    """Raise UserError for what cannot be understood, before anything is opened."""
    names: set[str] = set()
    for text in netdevs:
        _, options, where = describe(text)
        if options.id in names:
            raise UserError(f"{where}: the id is taken; give each its own")
        names.add(options.id)
    taken: set[str] = set()
    for text in objects:
        wanted = describe_object(text)
        where = f"{argument('objects')} filter-dump,id={wanted.id}"
        if wanted.id in taken:
            raise UserError(f"{where}: the id is taken; give each its own")
        taken.add(wanted.id)
        check_known(names, "netdev", wanted.netdev, where, f"add {argument('netdevs')} user,id={wanted.netdev}")


def summaries() -> list[tuple[str, str]]:
    """The backends with what they are."""
    return [(name, found.summary) for name, found in TYPES.items()]


def object_summaries() -> list[tuple[str, str]]:
    """The objects with what they are."""
    return [(name, summary) for name, (summary, _) in OBJECTS.items()]


def help_rows(name: str) -> list[tuple[str, str]]:
    """The properties of a backend. Raises UserError."""
    return listing(_known(TYPES, name, argument("netdevs")).options_type)


def object_help_rows(name: str) -> list[tuple[str, str]]:
    """The properties of an object. Raises UserError."""
    return listing(_known(OBJECTS, name, argument("objects"))[1])


def plug(kind: type[Netdev], options: Any, where: str, warn: Callable[[str], None]) -> Port:
    """What a network device is plugged into: the backend itself."""
    return kind(options, where, warn)


def open_netdevs(
    netdevs: Sequence[str], objects: Sequence[str], pcap: str | None, warn: Callable[[str], None],
    plug: Callable[[type[Netdev], Any, str, Callable[[str], None]], Port] = plug,
    now_ns: Callable[[], int] = time.time_ns,
) -> Netdevs:  # fmt: skip
    """Open what -netdev, -object and -pcap say; `plug` may put something before a backend, and captures have times
    from `now_ns`. Raises UserError, with nothing left open."""
    check(netdevs, objects)
    found = Netdevs()
    try:
        for text in netdevs:
            kind, options, where = describe(text)
            found.by_name[options.id] = plug(kind, options, where, warn)
        if pcap is not None:
            where = f"{argument('pcap')} {pcap}"
            if not netdevs:
                raise UserError(
                    f"{where}: there is no network; add {argument('netdevs')} user,id=n0 and a device for it"
                )
            found.capture(list(found.by_name), Capture(pcap, where, warn, now_ns=now_ns))
        for text in objects:
            wanted = describe_object(text)
            where = f"{argument('objects')} filter-dump,id={wanted.id}: file={wanted.file}"
            found.capture([wanted.netdev], Capture(wanted.file, where, warn, wanted.maxlen, now_ns))
    except BaseException:
        found.close()
        raise
    return found
