"""Who stops a machine where: debuggers, which hold it there, and hooks, which look and let it go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..hv.exits import Debug, Watched
from ..hv.stops import Breakpoint, Watchpoint
from ..hv.vcpu import Vcpu

if TYPE_CHECKING:
    from .machine import Machine


class Stopper:
    """Breakpoints and watchpoints of one who cares; `apply` makes a change of them true.

    `on_stop` is told on the vCPU's thread which one was met there, the machine being held already if the stopper
    `holds`.
    """

    def __init__(self, stops: MachineStops, on_stop: Callable[[Vcpu, Debug | Watched], None], holds: bool) -> None:
        self.breakpoints: set[Breakpoint] = set()
        self.watchpoints: set[Watchpoint] = set()
        self.on_stop, self.holds = on_stop, holds
        self._stops = stops

    def apply(self) -> None:
        """Let vCPUs stop at what is in the sets now."""
        self._stops.apply()

    def close(self) -> None:
        """Stop nobody any more."""
        self.breakpoints.clear()
        self.watchpoints.clear()
        self._stops.remove(self)

    def meant(self, vcpu: Vcpu, exit_: Debug | Watched) -> bool:
        """Whether it asked for this stop."""
        if isinstance(exit_, Watched):
            return any(watch.covers(exit_.address, exit_.write) for watch in self.watchpoints)
        pc, key = int(vcpu.state.pc), int(vcpu.state.context_key)
        return any(stop.address == pc and stop.concerns(key) for stop in self.breakpoints)


class MachineStops:
    """All stoppers of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stoppers: tuple[Stopper, ...] = ()
        self._set: tuple[frozenset[Breakpoint], frozenset[Watchpoint]] = frozenset(), frozenset()

    def open(self, on_stop: Callable[[Vcpu, Debug | Watched], None], holds: bool = True) -> Stopper:
        """A new stopper, which stops nothing yet. `dnh` stops for all those that hold."""
        stopper = Stopper(self, on_stop, holds)
        with self._machine.lock:
            self._stoppers += (stopper,)
        return stopper

    def remove(self, stopper: Stopper) -> None:
        """It is gone, and what it asked for."""
        with self._machine.lock:
            self._stoppers = tuple(other for other in self._stoppers if other is not stopper)
        self.apply()

    def apply(self) -> None:
        """Let vCPUs stop at what is in the sets of all stoppers now."""
        breakpoints = frozenset[Breakpoint]().union(*(stopper.breakpoints for stopper in self._stoppers))
        watchpoints = frozenset[Watchpoint]().union(*(stopper.watchpoints for stopper in self._stoppers))
        if (breakpoints, watchpoints) != self._set:
            self._machine.vm.set_stops(breakpoints, watchpoints)
            self._set = breakpoints, watchpoints

    @property
    def held_by_somebody(self) -> bool:
        """Whether there is a stopper that holds the machine."""
        return any(stopper.holds for stopper in self._stoppers)

    def lift(self) -> None:
        """Let nobody be stopped until the next `apply`."""
        if any(self._set):
            self._machine.vm.set_stops((), ())
            self._set = frozenset(), frozenset()

    def met(self, vcpu: Vcpu, exit_: Debug | Watched) -> None:
        """A vCPU stopped, on its thread: tell whoever asked for it; nobody holds it, so it goes on."""
        stoppers = self._stoppers
        meant = [stopper for stopper in stoppers if stopper.meant(vcpu, exit_)]
        pc = int(vcpu.state.pc)
        for stopper in meant:
            if not stopper.holds:
                stopper.on_stop(vcpu, exit_)
        holders = [stopper for stopper in meant or stoppers if stopper.holds]
        if holders:
            self._machine.hold()
            for stopper in holders:
                stopper.on_stop(vcpu, exit_)
        elif int(vcpu.state.pc) == pc:
            vcpu.pass_stop()
