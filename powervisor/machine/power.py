"""Power-on and resets of a machine: of everything, of a core, of a secondary CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..devices.gpio import POWER_BUTTON_LINE, Gpio
from ..devices.spintable import MAP_SIZE, SpinTable
from ..errors import PowervisorError
from ..hv.exits import Reset, Scope
from ..hv.vcpu import Vcpu
from ..hv.vm import word_addresses
from .inputs import POWER
from .life import WatchdogExpired
from .outcome import Outcome

if TYPE_CHECKING:
    from .machine import Machine

PRESS_NS = 500_000_000
"""How long the power button is pressed: a guest on a busy host still sees it down after its driver's debouncing."""


class Power:
    """What a machine does when it is switched on, and when the guest or a person resets it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._starting = threading.Lock()
        self._resetting = False

    def power_on(self, scope: int = 0, watchdog: dict[int, int] | None = None) -> None:
        """The state after a reset and loading: CPU 0 (and those a loader names) at their entry, others held.

        `scope` and `watchdog` (by vCPU) are what the guest finds of the reset's cause.
        """
        machine = self._machine
        machine.plan.load(machine.space)
        machine.vm.start_time()
        for vcpu in machine.vcpus:
            self._reset_vcpu(vcpu, scope, (watchdog or {}).get(vcpu.index, 0))
        for index in machine.plan.entries:
            self._enter(index)

    def _reset_vcpu(self, vcpu: Vcpu, scope: int, watchdog: int) -> None:
        vcpu.reset(scope, watchdog)
        vcpu.regs["pir"] = self._machine.topology.pir(vcpu.index)

    def _enter(self, index: int) -> None:
        """Let a vCPU begin where the loader says."""
        machine = self._machine
        entry = machine.plan.entries[index]
        machine.vcpus[index].map_initial(0, 0, entry.map_size)
        machine.vcpus[index].start(entry.pc, entry.gpr)

    def release_cpu(self, index: int, pc: int, r3: int, map_base: int) -> None:
        """The spin table lets a CPU go."""
        machine = self._machine
        vcpu = machine.vcpus[index]
        if vcpu.halted:
            vcpu.follow_timebase(machine.vcpus[0])  # whoever keeps a spin table synchronises time bases
            vcpu.map_initial(1, map_base, MAP_SIZE, coherent=True)
            vcpu.start(pc, {3: r3, 7: MAP_SIZE})

    def core_reset(self, index: int, held: bool) -> None:
        """MPIC PIR: a core goes back to its spin-table entry."""
        if held:
            self._machine.later(lambda: self._reset_core(index))

    def _core_of(self, index: int) -> range:
        """The vCPUs that are threads of one core."""
        threads = self._machine.topology.threads
        first = index - index % threads
        return range(first, first + threads)

    def _reset_core(self, index: int, by_guest: Reset | None = None) -> None:
        """Reset the core of a vCPU, all its threads: they share its TLBs. The others go on, and so does the time base.

        It waits in its spin-table entry. One that boots begins anew where the loader said, if it asked for the reset
        itself; RAM stays as it is.
        """
        machine = self._machine
        spin_table = machine.built.devices[machine.board.spin_table]
        assert isinstance(spin_table, SpinTable)
        core = self._core_of(index)
        with machine.vm.quiet():
            machine.vm.flush_code()  # the core's caches hold nothing: new code needs no icbi
            with machine.lock:
                if by_guest is not None and not machine.vcpus[index].asking:  # another reset came first
                    return
                for thread in core:
                    self._reset_vcpu(machine.vcpus[thread], Scope.CORE, by_guest.watchdog if by_guest else 0)
                self.drive_interrupts(core)
                spin_table.hold(core[0])
                if by_guest is not None and core[0] in machine.plan.entries:
                    self._enter(core[0])

    def drive_interrupts(self, vcpus: range | None = None) -> None:
        """Have the interrupt controller drive its outputs to vCPUs (all) whose state is another one now."""
        machine = self._machine
        for index in vcpus if vcpus is not None else range(len(machine.vcpus)):
            machine.mpic.attach(index, *word_addresses(machine.vcpus[index]))

    def board_reset(self) -> None:
        """GUTS RSTCR: the board pulls HRESET, which looks like power-on to every core."""
        self._reset("board reset", self._reboot)

    def guest_reset(self, vcpu: Vcpu, reset: Reset) -> None:
        """DBCR0[RST] or the watchdog: of the vCPU's core, or of everything."""
        machine = self._machine
        with machine.lock:
            if not vcpu.asking:  # another reset came first
                return
            vcpu.hold()
        if reset.watchdog:
            machine.life.tell(WatchdogExpired())
        if reset.scope == Scope.CORE:
            machine.later(lambda: self._reset_core(vcpu.index, reset))
        else:
            watchdog = dict.fromkeys(self._core_of(vcpu.index), reset.watchdog)
            self._reset(f"cpu{vcpu.index}: {reset.cause}", lambda: self._reboot(reset.scope, watchdog))

    def button(self) -> None:
        """The board's reset button."""
        self._reset("reset button", self._reboot, by_guest=False)

    def press_power_button(self) -> None:
        """Ask the guest to switch itself off: the board's power button, for `PRESS_NS`.

        Raises PowervisorError where nothing in the guest listens to it.
        """
        machine = self._machine
        gpio = machine.built.devices.get("gpio")
        with machine.lock:
            if not isinstance(gpio, Gpio) or not gpio.listened_to(POWER_BUTTON_LINE):
                raise PowervisorError(
                    "nothing in the guest listens to the power button; Linux does with CONFIG_KEYBOARD_GPIO"
                )
            if machine.lockstep is not None:
                machine.lockstep.inputs.put(POWER, b"")
            else:
                self.push_power_button()

    def push_power_button(self) -> None:
        """Press the power button now, whoever listens; under the machine's lock."""
        machine = self._machine
        gpio = machine.built.devices.get("gpio")
        if isinstance(gpio, Gpio):
            gpio.drive(POWER_BUTTON_LINE, True)
            machine.clock.call_at(machine.clock.now_ns() + PRESS_NS, self.let_go_of_buttons)

    def let_go_of_buttons(self) -> None:
        """Nobody presses one any more, or whoever did, did so at another time than the one the machine is put to; under
        its lock."""
        gpio = self._machine.built.devices.get("gpio")
        if isinstance(gpio, Gpio):
            gpio.drive(POWER_BUTTON_LINE, False)

    def _reset(self, cause: str, reboot: Callable[[], None], by_guest: bool = True) -> None:
        machine = self._machine
        if machine.no_reboot:
            machine.life.finish(Outcome("reset", cause), by_guest)
            return
        with self._starting:
            if self._resetting or machine.ended:
                return
            self._resetting = True

        def reset() -> None:
            reboot()
            machine.life.was_reset(by_guest)

        machine.later(reset)

    def _reboot(self, scope: int = 0, watchdog: dict[int, int] | None = None) -> None:
        machine = self._machine
        with machine.vm.quiet():
            machine.vm.flush_code()  # after a reset no cache holds anything: new code needs no icbi
            with machine.lock:
                for device in (*machine.built.everything(), machine.mpic):
                    device.reset()
                self.power_on(scope, watchdog)
            self._resetting = False
