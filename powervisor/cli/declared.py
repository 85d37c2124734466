"""What options of the command line take, from their declarations: for clients of QMP, the options' page and `help`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from powervisor.cli.options import HELP, table
from powervisor.properties import listing, properties


class Declared(NamedTuple):
    """Properties of an option, of its kind `kind` where it has several."""

    option: str
    options: type
    kind: str = ""


def declared() -> list[Declared]:
    """Options whose values are properties."""
    from powervisor.block.drives import BlockdevOptions, DriveOptions
    from powervisor.boards.hypervisor import BoardProperties
    from powervisor.cli import objects, qemu_options
    from powervisor.cli.board_options import AccelOptions, HostProperties, MemoryOptions, SmpOptions
    from powervisor.cli.machine_options import NameOptions
    from powervisor.console import named
    from powervisor.fsdev.options import FsdevOptions, VirtfsOptions
    from powervisor.manage.endpoints import MonOptions
    from powervisor.net import netdevs

    return [
        Declared("-machine", BoardProperties, "BOARD"),
        Declared("-machine", HostProperties, "BOARD, about the host"),
        Declared("-accel", AccelOptions),
        Declared("-smp", SmpOptions),
        Declared("-m", MemoryOptions),
        Declared("-name", NameOptions),
        *(Declared("-chardev", kind.options, name) for name, kind in named.KINDS.items()),
        Declared("-mon", MonOptions),
        Declared("-drive", DriveOptions),
        Declared("-blockdev", BlockdevOptions),
        *(Declared("-netdev", one.options_type, name) for name, one in netdevs.TYPES.items()),
        *(Declared("-object", kind.options, name) for name, kind in objects.KINDS.items()),
        *(Declared("-object", options, name) for name, (_, options) in netdevs.OBJECTS.items()),
        Declared("-fsdev", FsdevOptions, "local"),
        Declared("-virtfs", VirtfsOptions, "local"),
        *(Declared(option, options) for option, options in qemu_options.DECLARED.items()),
    ]


LIBVIRT_NAMES = {"-m": "memory", "-smp": "smp-opts", "-boot": "boot-opts"}
"""What QEMU calls these when programs ask."""
UNTOLD = ("-sandbox",)
"""libvirt would use what it is told of."""


def command_line() -> dict[str, tuple[str, ...]]:
    """Options and the names of what they take, as query-command-line-options tells."""
    found: dict[str, dict[str, None]] = {}
    for one in declared():
        if one.option not in UNTOLD:
            names = found.setdefault(LIBVIRT_NAMES.get(one.option, one.option.lstrip("-")), {})
            names |= dict.fromkeys(property.name for property in properties(one.options))
    return {option: tuple(names) for option, names in found.items()}


LISTED = ("-machine", "-accel", "-netdev", "-object")
"""What `list_requested` knows."""


def help_requested(words: Sequence[str]) -> str | None:
    """What an option takes whose value is `help` or KIND,help; of those that `list_requested` does not know."""
    for option, value in pairwise(words):
        kind, _, last = value.rpartition(",")
        name = f"-{option.lstrip('-')}"
        if last not in HELP or name in LISTED or not option.startswith("-"):
            continue
        found = [one for one in declared() if one.option == name]
        if kinds := [one.kind for one in found if one.kind]:
            if not kind:
                return "\n".join(kinds)
            found = [one for one in found if one.kind == kind]
        if found:
            return f"{option} {kind}".rstrip() + ":\n" + table([(f"  {a}", b) for a, b in listing(found[0].options)])
    return None
