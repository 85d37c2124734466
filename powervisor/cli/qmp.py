"""QMP of `powervisor run`: -qmp, and -chardev with -mon."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import UUID

from powervisor.cli.declared import command_line
from powervisor.cli.events import Events, Quit, Signalled
from powervisor.cli.main import Status
from powervisor.cli.options import Parser
from powervisor.cli.process import Process
from powervisor.console.chardev import BaseChardev
from powervisor.errors import UserError
from powervisor.fdsets import FdSets

if TYPE_CHECKING:
    from powervisor import Machine
    from powervisor.manage import QmpServer
    from powervisor.manage.endpoints import Endpoint

_DEFER = "defer"
SIGNAL = "signal"
"""Why a machine ended, see manage.manager."""


def add_qmp_options(parser: Parser) -> None:
    """-qmp -mon -incoming -no-shutdown -uuid."""
    parser.option(
        "-qmp",
        action="append",
        metavar="WHERE",
        help="let programs manage the machine: unix:PATH,server=on,wait=off, tcp:HOST:PORT,server=on,wait=off, stdio, "
        "pty, chardev:ID (docs/qmp.md)",
    )
    parser.option("-mon", action="append", metavar="MONITOR", help="the same at a -chardev: chardev=ID,mode=control")
    parser.option(
        "-incoming", metavar="WHENCE", help="defer: wait for migrate-incoming, which brings another machine's state"
    )
    parser.option(
        "-no-shutdown", dest="no_shutdown", action="store_true", help="keep the machine, stopped, when the guest ends"
    )
    parser.option("-uuid", metavar="UUID", type=_uuid, help="what query-uuid tells")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UserError(f"-uuid {text}: write 32 hexadecimal digits, with - between them or without") from None


class Qmp:
    """The endpoints that were asked for, and the server when there is a machine."""

    def __init__(self, options: argparse.Namespace, fd_sets: FdSets, stack: ExitStack) -> None:
        """Opens them; `options.chardevs` loses those that are for QMP. Raises UserError."""
        self.endpoints: list[Endpoint] = []
        self._name: str = options.machine_name.guest if options.machine_name is not None else ""
        self._arch, self._fd_sets = options.arch, fd_sets
        self._incoming = options.incoming is not None
        self._autostart: bool = not options.held
        self._keeps: bool = options.no_shutdown or (options.action is not None and options.action.shutdown == "pause")
        self._uuid: UUID = options.uuid or UUID(int=0)
        if options.incoming not in (None, _DEFER):
            raise UserError(f"-incoming {options.incoming}: write -incoming {_DEFER}; migrate-incoming says whence")
        if not options.qmp and not options.mon:
            for given, name in (
                (self._incoming, "-incoming"),
                (self._keeps, "-no-shutdown" if options.no_shutdown else "-action shutdown=pause"),
            ):
                if given:
                    raise UserError(f"{name}: nothing could let the machine go on; add -qmp")
            return
        from powervisor.manage import named_endpoint, open_endpoint, parse_mon

        named = {_id(text): text for text in options.chardevs or ()}
        for text in options.qmp or ():
            kind, _, name = text.partition(":")
            if kind == "chardev":
                self._add(named_endpoint(_taken(named, name, f"-qmp {text}")), f"-qmp {text}", stack)
            else:
                self._add(open_endpoint(text), f"-qmp {text}", stack)
        for text in options.mon or ():
            monitor = parse_mon(text)
            spec = _taken(named, monitor.chardev, f"-mon {text}")
            self._add(named_endpoint(spec, monitor.pretty), f"-mon {text}", stack)
        options.chardevs = list(named.values())

    def _add(self, endpoint: Endpoint, where: str, stack: ExitStack) -> None:
        stack.callback(endpoint.close)
        if endpoint.is_terminal and self.takes_terminal:
            raise UserError(f"{where}: only one can have the terminal; use a socket for the other")
        self.endpoints.append(endpoint)

    @property
    def takes_terminal(self) -> bool:
        """Whether standard input and output are QMP's."""
        return any(endpoint.is_terminal for endpoint in self.endpoints)

    def serve(self, machine: Machine | None, chardevs: Mapping[str, BaseChardev], stack: ExitStack) -> QmpServer | None:
        """Let clients come, before the machine runs; it is held where it is to wait for another's state."""
        if not self.endpoints:
            return None
        from powervisor.manage import Identity, QmpServer

        if machine is not None and self._keeps:
            machine.life.on_shutdown = "pause"
        if machine is not None and self._incoming:
            machine.hold()
        identity = Identity(self._name, str(self._uuid), self._arch, chardevs, command_line(), self._fd_sets)
        server = QmpServer(machine, self.endpoints, identity, self._incoming)
        server.manager.migration.autostart = self._autostart
        stack.callback(server.close)
        return server


def without_machine(options: argparse.Namespace, process: Process, stack: ExitStack) -> int:
    """-M none: let clients ask what there could be, until a signal or `quit`; returns the exit status."""
    events = Events()
    stack.callback(events.close)
    qmp = Qmp(options, process.fd_sets, stack)
    if not qmp.endpoints:
        raise UserError("-M none: nothing could be done with it; add -qmp, or name a board (-M help)")
    stack.enter_context(events.signals(None))
    server = qmp.serve(None, {}, stack)
    assert server is not None
    server.manager.on_quit = lambda: events.put(Quit())
    process.ready()
    event = events.get(None)
    return Status.SIGNALLED + event.number if isinstance(event, Signalled) else Status.OK


def _id(text: str) -> str:
    """The id of a -chardev, which is checked when it is opened."""
    from powervisor.console.named import parse_named

    name: str = parse_named(text)[1].id
    return name


def _taken(named: dict[str, str], name: str, where: str) -> str:
    if name not in named:
        raise UserError(f"{where}: no such chardev is left; there is {', '.join(named) or 'none'}")
    return named.pop(name)
