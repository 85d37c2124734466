"""powervisor run: boot a machine on this terminal and report how it ended."""

import argparse
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from powervisor.cli.analysis import analysis_help, check_analysis, start_analyses, symbols_of
from powervisor.cli.board_options import NO_BOARD, parse_board
from powervisor.cli.declared import help_requested
from powervisor.cli.events import (
    Broken,
    Ended,
    Events,
    Expected,
    Failed,
    Interrupted,
    Overdue,
    Quit,
    Signalled,
    interruptible,
    overdue_at,
)
from powervisor.cli.machine_options import add_guest_options, list_requested, machine_arguments
from powervisor.cli.main import Status
from powervisor.cli.monitor import RunMonitor, open_port, share
from powervisor.cli.options import Parser, parse_seconds
from powervisor.cli.process import Process
from powervisor.cli.qmp import SIGNAL, Qmp, without_machine
from powervisor.cli.run_options import add_run_options
from powervisor.console import ExpectError, Recorder, open_chardev, open_named, recorded
from powervisor.console.chardev import BaseChardev
from powervisor.console.stdio import Command, Stdio, complain
from powervisor.errors import UserError

if TYPE_CHECKING:
    from powervisor import Machine
    from powervisor.analysis.record import StatisticsFile

LABEL = "powervisor run"
DESCRIPTION = "Run a virtual machine on this terminal; Ctrl-A x leaves it, Ctrl-A h helps."
STATUSES = """exit status:
  0    the guest powered off, or the -expect text came, or you left with Ctrl-A x
  1    a mistake in what was asked for; or the guest ended before the -expect text came
  2    a command line that does not parse
  3    a guest fault that cannot be delivered (the registers are printed)
  4    the guest reset, under -no-reboot
  124  -timeout is over, even before the guest has started
  128+N  ended by signal N
"""


def main(words: list[str]) -> int:
    """Run a machine until it ends; returns the exit status."""
    begin = time.monotonic()
    if (found := help_requested(words)) is not None:
        print(found)
        return Status.OK
    parser = Parser("run", DESCRIPTION, epilog=STATUSES)
    add_guest_options(parser)
    add_run_options(parser)
    return run(parser.parse(words), LABEL, begin)


def run(options: argparse.Namespace, label: str, begin: float) -> int:
    """Do what a parsed command line asks for; messages begin with `label`. `begin` is when the command began."""
    if (listing := list_requested(options) or analysis_help(options)) is not None:
        print(listing)
        return Status.OK
    deadline = None if options.timeout is None else begin + parse_seconds(options.timeout, "-timeout")
    if options.expect == "":
        raise UserError("-expect: there is no text to wait for")
    check_analysis(options)
    try:
        with interruptible(), ExitStack() as stack:
            process = Process(options, stack)
            if options.usb:
                complain(f"{label}: -usb: the board has no USB; the guest finds none")
            if has_no_board(options):
                return without_machine(options, process, stack)
            with overdue_at(deadline):
                arguments = machine_arguments(options)
            return _Run(options, arguments, deadline, process, label).status()
    except Overdue:
        complain(f"{label}: the machine was not ready after {options.timeout} s (-timeout)")
        return Status.TIMEOUT
    except Interrupted as signalled:
        return Status.SIGNALLED + signalled.number


def has_no_board(options: argparse.Namespace) -> bool:
    """Whether there is to be no machine: -M none."""
    return options.board is not None and parse_board(options.board).board == NO_BOARD


class _Run:
    """One machine with its serial lines, from start to exit status."""

    def __init__(
        self,
        options: argparse.Namespace,
        arguments: dict[str, Any],
        deadline: float | None,
        process: Process,
        label: str,
    ) -> None:
        self.options, self.process, self.label = options, process, label
        self.deadline = deadline
        self.arguments = arguments
        self.events = Events()
        self.expectation: threading.Thread | None = None

    def status(self) -> int:
        """Run to the end. Whatever happens, the terminal is given back."""
        from powervisor import Machine

        with ExitStack() as stack:
            stack.callback(self.events.close)
            starting = stack.enter_context(ExitStack())
            starting.enter_context(overdue_at(self.deadline))
            statistics = self._statistics_file()
            qmp = Qmp(self.options, self.process.fd_sets, stack)
            for endpoint in qmp.endpoints:
                if endpoint.announcement.startswith(("tcp:", "/dev/")):
                    complain(f"qmp: {endpoint.announcement}")
            named = _open_chardevs(self.options.chardevs or (), stack)
            labels = dict(named)
            terminal_taken = qmp.takes_terminal or any(isinstance(chardev, Stdio) for chardev in named.values())
            specs = self.options.serial or self._default_serial(terminal_taken)
            chardevs = _open_serial_lines(specs, named, stack)
            everything = [*chardevs, *named.values()]
            port = open_port(
                self.options.monitor, named, lambda port, where: _opened(port, "monitor", where, everything, stack)
            )
            if port is not None and port not in everything:
                everything.append(port)
            labels |= {f"serial{n}": one for n, one in enumerate(chardevs) if one and one not in labels.values()}
            if qmp.takes_terminal and any(isinstance(chardev, Stdio) for chardev in everything):
                raise UserError("-qmp stdio: the terminal is a serial line's; use a socket for one of them")
            stdio = next((chardev for chardev in everything if isinstance(chardev, Stdio)), None)
            if stdio is None and self.options.monitor in ("stdio", "mon:stdio"):
                stdio = Stdio()
                _opened(stdio, "monitor", "-monitor stdio", everything, stack)
                side = share(stdio, self.options.monitor)
                stdio.start(lambda call: call())
            else:
                side = share(stdio, self.options.monitor)
            serial: list[BaseChardev | Recorder | None] = list(chardevs)
            if self.options.expect is not None:
                if not chardevs:
                    raise UserError("-expect: there is no serial line for text to come on; add -serial")
                serial[0] = recorded(chardevs[0])
            if named:
                self.arguments["chardevs"] = named
            self.arguments.update(serial=serial, progress=self._progress, warn=self._warn)
            machine = stack.enter_context(
                Machine(**self.arguments)
                if self.options.loadvm is None
                else Machine.load(self.options.loadvm, **self.arguments)
            )
            self._prepare(machine)
            if stdio is not None:
                self._bind_keys(stdio, machine)
            for chardev in filter(None, everything):
                chardev.ready()
            stack.enter_context(self.events.signals(stdio.terminal if stdio is not None else None))
            if statistics is not None:
                statistics.follow(machine)
                stack.callback(statistics.close)
            self._listen(machine, stack)
            if self.options.held:
                machine.hold()
            if self.options.gdb is not None:
                from powervisor.debug.gdb.server import GdbServer

                server = GdbServer(machine, self.options.gdb, "-gdb")
                stack.callback(server.close)
            symbols = partial(symbols_of, self.options, machine, self._warn)
            stack.enter_context(closing(RunMonitor(machine, port or side, symbols)))
            analyses = stack.enter_context(ExitStack())
            start_analyses(self.options, machine, complain, analyses)
            if self.options.held:
                machine.start()  # its vCPUs have threads before somebody asks for them
            managed = qmp.serve(machine, labels, stack)
            if managed is not None:
                with interruptible():
                    if not self.events.waiting:
                        managed.ready()
            if not machine.started:
                machine.start()
            starting.close()
            self.process.ready()
            if self.options.loadvm is not None and stdio is not None:
                complain(f"{self.label}: {self.options.loadvm}: the guest goes on; press Enter for its prompt")
            threading.Thread(target=self._wait, args=(machine,), name="outcome", daemon=True).start()
            console = serial[0] if serial else None
            if isinstance(console, Recorder):
                self.expectation = threading.Thread(target=self._expect, args=(console,), name="expect", daemon=True)
                self.expectation.start()
            status, message = self._until_the_end(console)
            if self.options.savevm is not None and status == Status.OK:
                machine.snapshot().save(self.options.savevm, self._progress)
            if managed is not None and status > Status.SIGNALLED:
                machine.quit(SIGNAL)
            machine.stop()
            analyses.close()
        if message:
            complain(f"{self.label}: {message}")
        return status

    def _prepare(self, machine: "Machine") -> None:
        """-action and -overcommit."""
        action, overcommit = self.options.action, self.options.overcommit
        if action is not None:
            machine.no_reboot = machine.no_reboot or action.reboot == "shutdown"
            machine.life.on_panic = action.panic
        if overcommit is not None and overcommit.mem_lock:
            machine.ram.lock()

    def _default_serial(self, terminal_taken: bool) -> list[str]:
        """Serial lines when there is no -serial."""
        if self.options.nodefaults:
            return []
        return ["null" if terminal_taken or self.options.daemonize else "stdio"]

    def _progress(self, what: str) -> None:
        complain(f"{self.label}: {what} ...")

    def _warn(self, text: str) -> None:
        complain(f"{self.label}: {text}")

    def _statistics_file(self) -> "StatisticsFile | None":
        """A file to write; before the machine starts, so that a wrong name costs nothing."""
        if self.options.stat is None:
            return None
        from powervisor.analysis.record import StatisticsFile

        return StatisticsFile(self.options.stat, "-stat", self._warn)

    def _listen(self, machine: "Machine", stack: ExitStack) -> None:
        """Let powervisor stat find the machine; it runs without, where there is no place for that."""
        from powervisor.analysis.control import ControlSocket

        try:
            stack.callback(ControlSocket(machine).close)
        except UserError as error:
            self._warn(f"powervisor stat will not find this machine: {error}")

    def _bind_keys(self, stdio: Stdio, machine: "Machine") -> None:
        stdio.commands["x"] = Command("end the machine and leave", lambda: self.events.put(Quit()))
        stdio.commands["s"] = Command("show the state of the machine", lambda: stdio.message(machine.state_text()))
        stdio.on_broken = lambda error: self.events.put(Broken())

    def _until_the_end(self, console: object) -> tuple[int, str]:
        """The exit status, and what to say about it."""
        event = self.events.get(self.deadline)
        if isinstance(event, Ended) and isinstance(console, Recorder) and self.expectation is not None:
            # The text may have come with the guest's last breath: let the search finish.
            console.end()
            self.expectation.join()
            if isinstance(expected := self.events.get(0), Expected):
                event = expected
        match event:
            case None:
                missing = f"{self.options.expect!r} did not come" if self.options.expect else "the guest still runs"
                return Status.TIMEOUT, f"{missing} after {self.options.timeout} s (-timeout)"
            case Expected() | Quit():
                return Status.OK, ""
            case Signalled(number):
                return Status.SIGNALLED + number, ""
            case Broken():
                return Status.SIGNALLED + 13, ""  # SIGPIPE: as any program whose reader leaves
            case Failed(error):
                raise error
            case Ended(outcome):
                return self._ended(outcome)

    def _ended(self, outcome: Any) -> tuple[int, str]:
        if outcome.kind == "guest-error":
            return Status.GUEST_FAULT, f"{outcome.detail}\n{outcome.dump}".rstrip()
        if outcome.kind == "reset":
            return Status.RESET, f"the guest reset{': ' + outcome.detail if outcome.detail else ''} (-no-reboot)"
        if self.options.expect is not None:
            return Status.USER, f"the guest ended before {self.options.expect!r} came"
        return Status.OK, ""

    def _wait(self, machine: "Machine") -> None:
        try:
            self.events.put(Ended(machine.wait()))
        except BaseException as error:  # told to the main thread, which reports it
            self.events.put(Failed(error))

    def _expect(self, console: Recorder) -> None:
        try:
            console.expect(self.options.expect)
        except ExpectError:
            return  # the guest ended first; that event says so
        self.events.put(Expected())


def _open_chardevs(texts: Sequence[str], stack: ExitStack) -> dict[str, BaseChardev]:
    """A chardev for each -chardev, by name; closed by `stack`."""
    named: dict[str, BaseChardev] = {}
    for text in texts:
        name, chardev = open_named(text)
        _opened(chardev, name, f"-chardev {text}", named.values(), stack)
        if name in named:
            raise UserError(f"-chardev {text}: id={name} is taken; give each its own")
        named[name] = chardev
    return named


def _open_serial_lines(
    specs: Sequence[str], named: dict[str, BaseChardev], stack: ExitStack
) -> list[BaseChardev | None]:
    """A chardev for each -serial, None for `none`; closed by `stack`. Those of -chardev are taken out of `named`."""
    chardevs: list[BaseChardev | None] = []
    for spec in specs:
        kind, _, name = spec.partition(":")
        if kind == "chardev":
            if name not in named:
                raise UserError(f"-serial {spec}: no such chardev is left; there is {', '.join(named) or 'none'}")
            chardevs.append(named.pop(name))
            continue
        chardev = None if spec == "none" else open_chardev(spec)
        if chardev is not None:
            others = [*chardevs, *named.values()]
            _opened(chardev, f"serial{len(chardevs)}", f"-serial {spec}", others, stack)
        chardevs.append(chardev)
    return chardevs


def _opened(
    chardev: BaseChardev, name: str, where: str, others: Iterable[BaseChardev | None], stack: ExitStack
) -> None:
    """What is done with every chardev that was opened."""
    stack.callback(_close, chardev, name)
    if isinstance(chardev, Stdio) and any(isinstance(other, Stdio) for other in others):
        raise UserError(f"{where}: only one line can have the terminal; use pty or a socket for the other")
    if chardev.announcement:
        complain(f"{name}: {chardev.announcement}")


def _close(chardev: BaseChardev, name: str) -> None:
    chardev.close()
    if chardev.dropped:
        complain(f"{name}: {chardev.dropped} bytes of output were not read in time and dropped")
