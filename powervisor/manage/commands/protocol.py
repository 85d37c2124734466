"""The protocol itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ..command import COMMANDS, command
from ..errors import QmpError
from ..events import EVENTS
from ..session import Session
from ..types import struct
from ..version import VERSION, VersionInfo


@struct
class Name:
    """A name."""

    name: str


@struct
class OptionParameter:
    """A parameter of a command-line option."""

    name: str
    type: Literal["string"]


@struct
class CommandLineOption:
    """An option of the command line."""

    option: str
    parameters: list[OptionParameter]


@command("qmp_capabilities", early=True)
def qmp_capabilities(session: Session, *, enable: Annotated[list[str] | None, "none are offered"] = None) -> None:
    """Begin: after it commands are taken and events are told."""
    if enable:
        raise QmpError(f"qmp_capabilities: {enable[0]!r} was not offered; leave it out")
    session.negotiated = True


@command("query-version")
def query_version(session: Session) -> VersionInfo:
    """The QEMU whose protocol this is, and whose it is really."""
    return VERSION


@command("query-commands")
def query_commands(session: Session) -> list[Name]:
    """All commands."""
    return [Name(name=name) for name in COMMANDS]


@command("query-events")
def query_events(session: Session) -> list[Name]:
    """All events."""
    return [Name(name=name) for name in EVENTS]


@command("query-qmp-schema")
def query_qmp_schema(session: Session) -> list[Any]:
    """All commands, events and types, as QEMU describes its own (docs/devel/qapi-code-gen, "Client JSON Protocol
    introspection"); names of types mean nothing."""
    from ..schema import schema

    return list(schema())


@command("query-command-line-options")
def query_command_line_options(
    session: Session, *, option: Annotated[str | None, "this one only"] = None
) -> list[CommandLineOption]:
    """Options of the command line that clients should know of."""
    known = session.manager.identity.command_line
    return [
        CommandLineOption(option=name, parameters=[OptionParameter(name=word, type="string") for word in words])
        for name, words in known.items()
        if option in (None, name)
    ]


@command("human-monitor-command")
def human_monitor_command(
    session: Session,
    *,
    command_line: Annotated[str, "a line for the monitor"],
    cpu_index: Annotated[int | None, "the vCPU that it is about"] = None,
) -> str:
    """Execute a command of the monitor; `help` lists those. Errors come back as text too."""
    manager = session.manager
    vcpus = manager.machine.vcpus
    if cpu_index is not None and not 0 <= cpu_index < len(vcpus):
        raise QmpError(f"human-monitor-command: cpu-index {cpu_index}: there are vCPUs 0 to {len(vcpus) - 1}")
    monitor = manager.monitor
    if cpu_index is not None:
        monitor.vcpu = vcpus[cpu_index]
    return monitor.execute(command_line)
