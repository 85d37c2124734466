"""A machine as its managers see it: its run state, who is connected, what they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import PowervisorError, UserError
from ..fdsets import FdSets
from ..machine.life import GUEST_ERROR, Finished, Happening, Held, Released, WasReset, WatchdogExpired
from . import events
from .dump import Dump
from .errors import QmpError
from .migration import Migration
from .objects import Objects
from .throttle import Throttle

if TYPE_CHECKING:
    from ..console.chardev import Chardev
    from ..debug.control import Control
    from ..debug.monitor import Monitor
    from ..devices.virtio.balloon import VirtioBalloon
    from ..devices.virtio.serial import SerialPort, VirtioSerial
    from ..machine.machine import Machine
    from ..machine.stops import Stopper
    from .session import Session

RunStatus = Literal[
    "running", "paused", "debug", "prelaunch", "shutdown", "guest-panicked", "inmigrate", "finish-migrate",
    "postmigrate",
]  # fmt: skip
NAME = "QMP"
"""Who holds the machine, in messages."""
NO_UUID = "00000000-0000-0000-0000-000000000000"
QMP, SIGNAL = "qmp", "signal"
"""Why somebody ends a machine: details of the outcome "stopped"."""
_STOPPED: Mapping[str, events.ShutdownCause] = {QMP: "host-qmp-quit", SIGNAL: "host-signal"}
_RESET_SECONDS = 30.0


@dataclass(frozen=True)
class Identity:
    """What a machine is called. `arch` is QEMU's word for what the program emulates; default what the core is."""

    name: str = ""
    uuid: str = NO_UUID
    arch: str = ""
    chardevs: Mapping[str, Chardev] = field(default_factory=dict)
    """Chardevs by the names users gave them."""
    command_line: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options of the command line and their parameters, as far as they should be known."""
    fd_sets: FdSets = field(default_factory=FdSets)
    """Those there are already; they are closed with the server."""


class NoTerminal:
    """In place of one where lines are typed."""

    def python(self, monitor: Monitor) -> None:
        """Refuse to talk."""
        raise UserError("not over QMP: lines are typed at -monitor, or behind Ctrl-A c")

    def tell(self, text: str) -> None:
        """Drop what is told later: only answers have a way back."""


class Manager:
    """What all sessions share. With `incoming` the machine waits, held, for migrate-incoming.

    Without a machine clients can ask what there could be, and `quit`, which calls `on_quit`.
    """

    def __init__(self, machine: Machine | None, identity: Identity | None = None, incoming: bool = False) -> None:
        self._machine, self.identity = machine, identity or Identity()
        self.on_quit: Callable[[], None] = lambda: None
        self.turn = threading.RLock()
        """Held while a command is executed."""
        self.fd_sets = self.identity.fd_sets
        self.migration = Migration(self, incoming)
        self.dump = Dump(self)
        self._paused: RunStatus = "prelaunch"
        self._reset_done = threading.Event()
        self._stopper: Stopper | None = None
        self._control: Control | None = None
        """Holds the machine in place of `_stopper`, once there is a monitor."""
        self._monitor: Monitor | None = None
        self.objects = Objects(self)
        self._sessions: tuple[Session, ...] = ()
        self._lock = threading.Lock()
        self._balloon_told = Throttle(self.send)
        if machine is not None:
            self._stopper = machine.stops.open(lambda vcpu, exit_: None, holds=False, name=NAME)
            machine.life.listeners += (self._happened,)
        if (balloon := self.balloon) is not None:
            balloon.on_change = lambda size: self._balloon_told.send(events.BalloonChange(actual=size))
        self._ports_told: dict[str, Throttle] = {}
        for serial in self.serials:
            serial.on_open = self._opened

    def close(self) -> None:
        """Give up what is under way; nobody is told anything more."""
        self.migration.close()
        self.dump.close()
        self._balloon_told.close()
        if (balloon := self.balloon) is not None:
            balloon.on_change = None
        for serial in self.serials:
            serial.on_open = None
        for throttle in self._ports_told.values():
            throttle.close()
        if self._machine is not None:
            life = self._machine.life
            life.listeners = tuple(listener for listener in life.listeners if listener != self._happened)
            self._holder.close()
        self.fd_sets.close()

    @property
    def machine(self) -> Machine:
        """The machine. Raises QmpError where there is none."""
        if self._machine is None:
            raise QmpError("there is no machine: this program only tells what there could be (-M none)")
        return self._machine

    @property
    def _holder(self) -> Stopper | Control:
        """What holds the machine for us."""
        holder = self._control or self._stopper
        assert holder is not None
        return holder

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """Tell this one too."""
        with self._lock:
            self._sessions += (session,)

    def remove(self, session: Session) -> None:
        """It has left."""
        with self._lock:
            self._sessions = tuple(other for other in self._sessions if other is not session)

    def send(self, event: Any) -> None:
        """Tell an event to all that have negotiated; from any thread, without waiting."""
        for session in self._sessions:
            session.tell(event)

    # ---- run state ---------------------------------------------------------------------------------------------------

    @property
    def status(self) -> RunStatus:
        """The machine's run state, in QEMU's words."""
        if self._machine is None:
            return "prelaunch"
        machine = self._machine
        if self.migration.incoming:
            return "inmigrate"
        if machine.ended:
            return "shutdown"
        if machine.life.finished is not None:
            return "guest-panicked" if machine.life.finished.kind == GUEST_ERROR else "shutdown"
        if machine.held or not machine.started:
            return "debug" if machine.stops.holding and not self._holder.holding else self._paused
        return "running"

    def stop(self, status: RunStatus = "paused") -> None:
        """Hold the machine; `status` is what it is called then."""
        self.check_alive()
        if self.migration.incoming:
            self.migration.autostart = False
            return
        if self.status in ("running", "debug"):
            self._paused = status
            self._holder.hold()

    def cont(self) -> None:
        """Let it run, for the first time or again."""
        self.check_alive()
        if self.migration.incoming:
            self.migration.autostart = True
            return
        if self.machine.life.finished is not None:
            raise QmpError("the guest has ended; system_reset lets it begin anew")
        if self.migration.running:
            raise QmpError("a migration is under way; wait for its end, or migrate_cancel")
        if not self.machine.started:
            self.machine.start()
            if not self.machine.held:
                self._happened(Released())
        self._release()
        if others := [stopper.name for stopper in self.machine.stops.holding]:
            raise QmpError(f"{' and '.join(others)} still holds the machine; it goes on when continued there too")

    def _release(self) -> None:
        if self._control is not None:
            self._control.go_past()
        elif self._stopper is not None:
            self._stopper.release()

    def go_on(self) -> None:
        """Let a machine run again that was stopped for a while."""
        if not self.machine.ended:
            self._release()

    def leave(self) -> None:
        """Hold the machine no more, which others do."""
        self._holder.leave()

    def reset(self) -> None:
        """The board's reset button; returns when it has been reset."""
        self.check_alive()
        self._reset_done.clear()
        self.machine.reset()
        if not self.machine.no_reboot and not self._reset_done.wait(_RESET_SECONDS):
            raise QmpError(f"the machine was not reset within {_RESET_SECONDS:g} s")

    def quit(self) -> None:
        """End the machine, or what there is without one."""
        if self._machine is None:
            self.on_quit()
        else:
            self._machine.quit(QMP)

    def called(self, status: RunStatus) -> None:
        """From now on this is what the machine, which is held, is called."""
        self._paused = status

    def check_alive(self) -> None:
        """Raise QmpError for a machine that has ended, and where there is none."""
        if self.machine.ended:
            raise QmpError("the machine has ended")

    def _happened(self, happening: Happening) -> None:
        match happening:
            case Held():
                if not self.migration.incoming:
                    self.send(events.Stopped())
            case Released():
                self._paused = "paused"
                self.send(events.Resumed())
            case WasReset(by_guest):
                if self.machine.held and not self.migration.incoming:
                    self._paused = "prelaunch"
                reason: events.ResetCause = "guest-reset" if by_guest else "host-qmp-system-reset"
                self.send(events.WasReset(guest=by_guest, reason=reason))
                self._reset_done.set()
            case WatchdogExpired():
                self.send(events.Watchdog(action="reset"))
            case Finished(outcome, kept, by_guest):
                if outcome.kind == GUEST_ERROR:
                    self.send(events.GuestPanicked(action="pause" if kept else "poweroff"))
                if outcome.kind != GUEST_ERROR or not kept:
                    self.send(events.Shutdown(guest=by_guest, reason=_cause(outcome.kind, outcome.detail, by_guest)))

    # ---- parts of the machine ----------------------------------------------------------------------------------------

    @property
    def balloon(self) -> VirtioBalloon | None:
        """The memory balloon, if there is one."""
        try:
            return self.machine.balloon
        except PowervisorError:
            return None

    @property
    def serials(self) -> list[VirtioSerial]:
        """The devices that have ports."""
        try:
            devices = self.machine.built.everything()
        except PowervisorError:  # there is no machine
            return []
        from ..devices.virtio.serial import VirtioSerial

        return [device for device in devices if isinstance(device, VirtioSerial)]

    def _opened(self, port: SerialPort, opened: bool) -> None:
        if name := port.options.id:
            throttle = self._ports_told.setdefault(name, Throttle(self.send))
            throttle.send(events.PortOpened(id=name, open=opened))

    @property
    def monitor(self) -> Monitor:
        """The monitor, for human-monitor-command; from now on its stop and cont are those of QMP."""
        if self._monitor is None:
            from ..debug.control import Control
            from ..debug.monitor import Monitor

            control = Control(self.machine, self._met, NAME)
            before, self._stopper, self._control = self._stopper, None, control
            assert before is not None
            if before.holding:
                control.hold()
            before.close()
            self._monitor = Monitor(control, NoTerminal())
        return self._monitor

    def _met(self) -> None:
        """A breakpoint of the monitor's was met, or the machine has ended."""
        if not self.machine.ended:
            self._paused = "debug"

    @property
    def arch(self) -> str:
        """QEMU's word for the architecture."""
        return self.identity.arch or ("ppc64" if self.machine.vm.core.bits == 64 else "ppc")


def _cause(kind: str, detail: str, by_guest: bool) -> events.ShutdownCause:
    if kind == "stopped":
        return _STOPPED.get(detail, "host-ui")
    if kind == GUEST_ERROR:
        return "guest-panic"
    if kind == "reset":
        return "guest-reset" if by_guest else "host-qmp-system-reset"
    return "guest-shutdown"
