"""Commands and events as a page: `python -m powervisor.manage.document > docs/qmp.md`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from . import commands
from .command import COMMANDS, Command
from .events import EVENTS
from .requests import MOST_BYTES
from .server import MOST_CLIENTS
from .session import MISSING
from .types import Member, label, members

_INTRODUCTION = f"""\
# QMP

Written by `python -m powervisor.manage.document` from the declarations in `powervisor/manage`; do not edit.

Programs manage a machine by QEMU's protocol, QMP: JSON objects over a socket. A command of QEMU's that is here means
here what it means there; what is not here is refused. `query-qmp-schema` tells the same as this page.

    powervisor run -guest linux -qmp unix:/tmp/qmp,server=on,wait=off
    qmp-shell /tmp/qmp                                    # pip install qemu.qmp

- `-qmp unix:PATH,server=on[,wait=off]`, `tcp:HOST:PORT,server=on[,wait=off]`, `stdio`, `pty`, or `chardev:ID` with a
  `-chardev`; the latter also as `-mon chardev=ID,mode=control[,pretty=on]`. Without `wait=off` the machine starts when
  a client has come. The socket is its owner's only (mode 0600), a TCP port without a host this machine's only: whoever
  gets there has the machine, and files of whoever runs it.
- `-S`: held until `cont`. `-no-shutdown`: when the guest ends the machine stands still, and can be reset.
- `-incoming defer`: wait for `migrate-incoming`.

From Python, `QmpServer(machine, [open_endpoint("unix:/tmp/qmp,server=on")])` of `powervisor.manage` does it for any
`Machine`.

## Rules

- The server greets, then takes `qmp_capabilities`, then the rest. Requests are
  `{{"execute": NAME, "arguments": {{...}}, "id": ...}}`; the answer to each has `return` or `error`, and the same `id`.
- Messages of the server end in CR LF. Those of clients need no line ends. What is no JSON gets an error, and the rest
  of its line is passed over; a byte 0xFF gives up what came before it.
- A message has up to {MOST_BYTES >> 20} MiB. Up to {MOST_CLIENTS} clients come at a time; all are told events. The
  requests of one that does not read its answers are not executed; when very much is unread it is let go.
- Errors have the classes GenericError, CommandNotFound, DeviceNotFound and DeviceNotActive, and say what to do.
- File descriptors come with a request over a Unix socket (SCM_RIGHTS): `getfd`, `add-fd`.
"""
_MIGRATION = """
Streams are compressed and checked, and hold the whole machine but its disks: a machine made alike, with the same images
as they were, goes on from one (`-incoming defer`, then `migrate-incoming`). `fd:NAME` may be a pipe, a socket, or a
file after somebody else's bytes.
"""
_MEMORY = """
Dumps are ELF cores, with one thread for each vCPU: `gdb-multiarch -c DUMP`. With `paging` addresses are those that
cpu0's TLBs translate at that moment, so that `gdb-multiarch vmlinux DUMP` shows a kernel; without it they are physical.
"""
_MORE = {"migration": _MIGRATION, "memory": _MEMORY}


def _cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"


def _table(heading: str, declared: Iterable[Member]) -> Iterator[str]:
    yield "\n" + _cells(heading, "Type", "Meaning") + _cells(*["---"] * 3)
    for member in declared:
        note = " (optional)" if member.optional else ""
        yield _cells(f"`{member.name}`{note}", _linked(member.type), member.help)


def _linked(kind: Any) -> str:
    """A type, with a link to the struct in it."""
    if get_origin(kind) is list:
        return f"list of {_linked(get_args(kind)[0])}"
    return f"[{kind.__name__}](#{kind.__name__.lower()})" if _is_struct(kind) else label(kind)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _command(one: Command) -> Iterator[str]:
    yield f"\n### {one.name}\n\n{one.help}\n"
    if one.arguments:
        yield from _table("Argument", one.arguments)
    if one.returns is not type(None):
        yield f"\nReturns: {_linked(one.returns)}\n"


def _structs() -> list[type]:
    """All that commands and events mention, and what those mention, by name."""
    found: dict[str, type] = {}
    kinds = [one.returns for one in COMMANDS.values()]
    kinds += [member.type for one in COMMANDS.values() for member in one.arguments]
    kinds += [member.type for event in EVENTS.values() for member in members(event)]
    for kind in kinds:  # grows while it is walked
        if get_origin(kind) is list:
            kinds.append(get_args(kind)[0])
        elif _is_struct(kind) and kind.__name__ not in found:
            found[kind.__name__] = kind
            kinds += [member.type for member in members(kind)]
    return [found[name] for name in sorted(found)]


def _doc(declared: type) -> str:
    return " ".join((declared.__doc__ or "").split())


def document() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for family in commands.FAMILIES:
        name = family.__name__.rpartition(".")[2]
        parts.append(f"\n## {(family.__doc__ or '').strip().rstrip('.')}\n{_MORE.get(name, '')}")
        for one in COMMANDS.values():
            if one.family == name:
                parts += _command(one)
    names: dict[str, list[str]] = {}
    for name, why in MISSING.items():
        names.setdefault(why, []).append(f"`{name}`")
    refused = "\n".join(f"- {', '.join(those)}: {why}." for why, those in names.items())
    parts.append(f"\n## Not here\n\n{refused}\n\n## Events\n")
    parts.append("\nEach has a `timestamp` of `seconds` and `microseconds`.\n")
    for name, event in EVENTS.items():
        parts.append(f"\n### {name}\n\n{_doc(event)}\n")
        if members(event):
            parts += _table("Datum", members(event))
    parts.append("\n## Objects\n")
    for declared in _structs():
        parts.append(f"\n### {declared.__name__}\n\n{_doc(declared)}\n")
        parts += _table("Member", members(declared))
    return "".join(parts)


def main() -> None:
    """Print the page."""
    sys.stdout.write(document())


if __name__ == "__main__":
    main()
