"""Machine: the one public object behind the command line, the API and the tests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .boards import registry
from .boards.board import SERIAL, Board, Context
from .boards.cpus import CpuTopology
from .boards.hypervisor import has_uarts
from .boot.loader import BootOptions, BootPlan, LoaderDevice, plan_boot
from .console.chardev import BaseChardev
from .console.recorder import Recorder, recorded
from .devices import ns16550_native
from .devices.clock import HostClock
from .devices.device import Device
from .devices.mpic import Mpic, callable_at
from .devices.mpic_native import ENTRY_POINTS
from .devices.ns16550 import Ns16550
from .devices.ns16550_drain import Drain
from .devices.pflash import Pflash
from .devices.spintable import MAP_SIZE, SpinTable
from .errors import PowervisorError, UserError, argument
from .hv.exits import Budget, Checkstop, Exit, Hcall, Kick, Mmio, Reset, Scope
from .hv.vcpu import Vcpu
from .hv.vm import Vm, word_addresses
from .isa import cores as core_models
from .memory.ram import Ram
from .memory.space import BusError, Dma, Memory, PhysicalSpace
from .paravirt.byte_channel import ByteChannel
from .paravirt.hypercalls import Hypercalls

if TYPE_CHECKING:
    from .block.drives import Drives
    from .console.chardev import Chardev, PortChardev
    from .devices.virtio.balloon import VirtioBalloon
    from .fsdev.options import Exports
    from .net.claims import Netdevs

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Outcome:
    """How a machine ended: `kind` is "poweroff", "reset" (under no_reboot), "guest-error" or "stopped"."""

    kind: str
    detail: str = ""
    dump: str = ""


class Machine:
    """A virtual board with its vCPUs. A context manager; `close` frees everything.

    Without kernel, bios and loaders the built-in guest runs. Sizes are in bytes. `board`, `devices`, `drives`,
    `blockdevs`, `fsdevs`, `virtfs`, `netdevs` and `objects` are the words after the options of these names; with
    `snapshot` images stay as they are, and what passes all networks is written to the file `pcap`. `serial` are
    chardevs in order; the first one's output is kept in `console`. `chardevs` are those that devices name. Without
    `cache` no translated code is read from disk or kept there. `warn` gets lines for the user, by default the logger
    "powervisor". Raises UserError for what cannot be had.
    """

    def __init__(
        self,
        board: str = registry.DEFAULT,
        cpu: str | None = None,
        cores: int = 1,
        threads: int = 1,
        memory: int | None = None,
        kernel: Path | None = None,
        bios: Path | None = None,
        initrd: Path | None = None,
        append: str | None = None,
        dtb: Path | None = None,
        loaders: Sequence[LoaderDevice] = (),
        devices: Sequence[str] = (),
        drives: Sequence[str] = (),
        blockdevs: Sequence[str] = (),
        chardevs: Mapping[str, PortChardev] | None = None,
        fsdevs: Sequence[str] = (),
        virtfs: Sequence[str] = (),
        snapshot: bool = False,
        netdevs: Sequence[str] = (),
        objects: Sequence[str] = (),
        pcap: Path | None = None,
        serial: Sequence[Chardev | None] | None = None,
        mem_path: Path | None = None,
        mem_prealloc: bool = False,
        no_reboot: bool = False,
        cache: bool = True,
        progress: Callable[[str], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.board: Board = registry.get(board)
        core = core_models.get(cpu or self.board.default_core)
        size = memory if memory is not None else self.board.ram_default
        self.board.check(core.name, cores, threads, size)
        self.board.check_serials(len(serial or ()))
        if kernel is None and bios is None and not loaders:
            from .guests.builtin import image

            if not has_uarts(self.board):
                raise UserError(f"{argument('board')} {board}: the built-in guest knows UARTs only; add serial=uart")
            kernel = image(core.bits)
        self.no_reboot, self._cache = no_reboot, cache
        self.lock = threading.RLock()
        self._ended = threading.Condition()
        self._outcome: Outcome | None = None
        self._failure: BaseException | None = None
        self._started = False
        self._held = False  # `run` returned and left the vCPUs paused
        self._counting = False
        self._due: list[Callable[[], None]] = []
        self._control: list[threading.Thread] = []
        self._resetting = False
        self._closed = self._gone = False
        self._drains: list[Drain] = []
        self._drives: Drives | None = None
        self._exports: Exports | None = None
        self._netdevs: Netdevs | None = None
        self._vm: Vm | None = None
        self.topology = CpuTopology(core.name, cores, threads, core.line_size, core.pvr, self.board.core(core.name).svr)
        self.ram = Ram(size, mem_path, mem_prealloc)
        try:
            self.space = PhysicalSpace(self.ram)
            self.clock = HostClock(self.lock, self._failed)
            lines = list(serial) if serial is not None else [None]
            self.console = recorded(lines[0]) if lines else Recorder()
            self._chardevs: list[Chardev | None] = [self.console, *lines[1:]]
            self._progress = progress
            self._build()
            if drives or blockdevs:
                from .block.drives import open_drives

                self._drives = open_drives(drives, blockdevs, snapshot)
            if fsdevs or virtfs:
                from .fsdev.options import open_exports

                self._exports = open_exports(fsdevs, virtfs)
            if netdevs or objects or pcap is not None:
                from .devices.services import warn_by_log
                from .net.netdevs import open_netdevs

                file = None if pcap is None else os.fspath(pcap)
                self._netdevs = open_netdevs(netdevs, objects, file, warn or warn_by_log)
            if devices or self._drives or self._exports or self._netdevs:
                self._plug(devices, chardevs, warn)
            options = BootOptions(kernel, bios, initrd, append, dtb, tuple(loaders))
            self.plan: BootPlan = plan_boot(options, size, self.built.tree, core.bits, self.topology.vcpus)
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        mpic_part = self.board.part(self.board.interrupt_parent)
        self.mpic = Mpic(mpic_part.name, self.topology.vcpus, self.clock, self.board.base(mpic_part), self._core_reset)
        self.context = Context(
            self.ram, self.space, Dma(self.space), self.mpic, self.clock, self.topology, self._chardevs,
            poweroff=self._poweroff, reset=self._board_reset, release_cpu=self._release,
        )  # fmt: skip
        self.built = self.board.build(self.context)
        for index, chardev in enumerate(self._chardevs):
            line = self.built.devices.get(f"{SERIAL}{index}")
            if chardev is not None and isinstance(line, Ns16550 | ByteChannel):
                self._connect(chardev, line)
        self._hypercalls = Hypercalls(self.built.devices.values())

    def _plug(
        self, devices: Sequence[str], chardevs: Mapping[str, PortChardev] | None, warn: Callable[[str], None] | None
    ) -> None:
        from .devices.lines import Lines
        from .devices.models import plug
        from .devices.services import Services

        services = Services(self.context.dma, self.lock, self._failed)
        services.lines = Lines(chardevs, self._dispatch)
        if warn is not None:
            services.warn = warn
        if self._drives is not None:
            services.drives = self._drives
        if self._exports is not None:
            services.exports = self._exports
        if self._netdevs is not None:
            services.netdevs = self._netdevs
        plug(
            [*devices, *services.drives.devices, *services.exports.devices],
            self.board.expansion_buses(self.built.devices),
            services,
        )
        services.drives.check_used()
        services.netdevs.check_used()
        services.netdevs.start()

    @property
    def vm(self) -> Vm:
        """The hypervisor half, made when first asked for: a device tree or a mistake in an image needs none."""
        if self._vm is None:
            self._vm = self._new_vm()
            self._power_on()
        return self._vm

    @property
    def vcpus(self) -> list[Vcpu]:
        """The vCPUs in order."""
        return self.vm.vcpus

    def _new_vm(self) -> Vm:
        cpus = self.topology
        vm = Vm(
            core_models.get(cpus.core), cpus.svr, cpus.cores, cpus.threads, self.ram.address, self.ram.size,
            [*ENTRY_POINTS.values(), *ns16550_native.ENTRY_POINTS.values()], self._progress, self.board.clock_hz,
            self._cache, self.board.hypercalls,
        )  # fmt: skip
        symbols = vm.engine.symbols
        self.mpic.bind_addresses(symbols)
        functions = (symbols[ENTRY_POINTS[name].name] for name in ("read", "write", "acknowledge", "proxy"))
        vm.attach_irqchip(self.mpic.state_address, self.mpic.base, self.mpic.size, *functions)
        for vcpu in vm.vcpus:
            self.mpic.attach(vcpu.index, *word_addresses(vcpu))
        self.space.on_write(vm.memory_written)
        fixed = list(self.built.devices.values())  # the windows of others may move
        for window in self.space.windows:
            if isinstance(window.target, Pflash):
                window.target.follow(vm.attach_rom(window.base, window.size, window.target.array_address))
            elif isinstance(window.target, Device) and window.target in fixed:
                vm.attach_registers(window.base, window.size, window.target.plain_registers())
        for index, chardev in enumerate(self._chardevs):
            uart = self.built.devices.get(f"serial{index}")
            if chardev is not None and isinstance(uart, Ns16550):
                self._print_natively(vm, uart)
        return vm

    def _print_natively(self, vm: Vm, uart: Ns16550) -> None:
        read, write, take = (vm.engine.symbols[ns16550_native.ENTRY_POINTS[n].name] for n in ("read", "write", "take"))
        uart.bind(callable_at(ns16550_native.uart_take, take))
        vm.attach_port(uart.transmitter.address, self.board.base(self.board.part(uart.name)), uart.size, read, write)
        self._drains.append(Drain(uart, self._dispatch))

    def _drain(self) -> None:
        """Pass on what the guest printed until now."""
        with self.lock:
            if not self._gone:
                for drain in self._drains:
                    drain.uart.drain()

    def _connect(self, chardev: Chardev, line: Ns16550 | ByteChannel) -> None:
        chardev.on_receive = lambda data: (line.receive(data), None)[1]
        chardev.can_receive = lambda: line.room
        if isinstance(line, ByteChannel):
            port = chardev if isinstance(chardev, BaseChardev) else recorded(chardev)  # which tell of their room
            port.on_room = lambda: self._dispatch(line.has_room)
            line.connect(port)
        chardev.start(self._dispatch)

    def _dispatch(self, call: Callable[[], None]) -> None:
        with self.lock:
            if not self._gone:
                call()

    # ---- power, reset, secondary CPUs --------------------------------------------------------------------------------

    def _power_on(self, scope: int = 0, watchdog: dict[int, int] | None = None) -> None:
        """The state after a reset and loading: CPU 0 (and those a loader names) at their entry, others held.

        `scope` and `watchdog` (by vCPU) are what the guest finds of the reset's cause.
        """
        self.plan.load(self.space)
        self.vm.start_time()
        for vcpu in self.vcpus:
            self._reset_vcpu(vcpu, scope, (watchdog or {}).get(vcpu.index, 0))
        for index in self.plan.entries:
            self._enter(index)

    def _reset_vcpu(self, vcpu: Vcpu, scope: int, watchdog: int) -> None:
        vcpu.reset(scope, watchdog)
        vcpu.regs["pir"] = self.topology.pir(vcpu.index)

    def _enter(self, index: int) -> None:
        """Let a vCPU begin where the loader says."""
        entry = self.plan.entries[index]
        self.vcpus[index].map_initial(0, 0, entry.map_size)
        self.vcpus[index].start(entry.pc, entry.gpr)

    def _release(self, index: int, pc: int, r3: int, map_base: int) -> None:
        vcpu = self.vcpus[index]
        if vcpu.halted:
            vcpu.follow_timebase(self.vcpus[0])  # whoever keeps a spin table synchronises time bases
            vcpu.map_initial(1, map_base, MAP_SIZE, coherent=True)
            vcpu.start(pc, {3: r3, 7: MAP_SIZE})

    def _core_reset(self, index: int, held: bool) -> None:
        """MPIC PIR: a core goes back to its spin-table entry."""
        if held:
            self._later(lambda: self._reset_core(index))

    def _core_of(self, index: int) -> range:
        """The vCPUs that are threads of one core."""
        first = index - index % self.topology.threads
        return range(first, first + self.topology.threads)

    def _reset_core(self, index: int, by_guest: Reset | None = None) -> None:
        """Reset the core of a vCPU, all its threads: they share its TLBs. The others go on, and so does the time base.

        It waits in its spin-table entry. One that boots begins anew where the loader said, if it asked for the reset
        itself; RAM stays as it is.
        """
        spin_table = self.built.devices[self.board.spin_table]
        assert isinstance(spin_table, SpinTable)
        core = self._core_of(index)
        with self.vm.quiet():
            self.vm.flush_code()  # the core's caches hold nothing: new code needs no icbi
            with self.lock:
                if by_guest is not None and not self.vcpus[index].asking:  # another reset came first
                    return
                for thread in core:
                    self._reset_vcpu(self.vcpus[thread], Scope.CORE, by_guest.watchdog if by_guest else 0)
                    self.mpic.attach(thread, *word_addresses(self.vcpus[thread]))  # drives what the reset wiped out
                spin_table.hold(core[0])
                if by_guest is not None and core[0] in self.plan.entries:
                    self._enter(core[0])

    def _later(self, call: Callable[[], None]) -> None:
        """Do something that stops the vCPUs, from a thread that is none of theirs (counting: when the exit is done)."""
        if self._counting:
            self._due.append(call)
            return

        def work() -> None:
            try:
                call()
            except BaseException as error:
                self._failed(error)

        with self._ended:
            if self._outcome is None:
                thread = threading.Thread(target=work, name="machine-control", daemon=True)
                self._control = [t for t in self._control if t.is_alive()] + [thread]
                thread.start()

    def _poweroff(self) -> None:
        self._end(Outcome("poweroff"))

    def _board_reset(self) -> None:
        """GUTS RSTCR: the board pulls HRESET, which looks like power-on to every core."""
        self._reset("board reset", self._reboot)

    def _guest_reset(self, vcpu: Vcpu, reset: Reset) -> None:
        """DBCR0[RST] or the watchdog: of the vCPU's core, or of everything."""
        with self.lock:
            if not vcpu.asking:  # another reset came first
                return
            vcpu.hold()
        if reset.scope == Scope.CORE:
            self._later(lambda: self._reset_core(vcpu.index, reset))
        else:
            watchdog = dict.fromkeys(self._core_of(vcpu.index), reset.watchdog)
            self._reset(f"cpu{vcpu.index}: {reset.cause}", lambda: self._reboot(reset.scope, watchdog))

    def _reset(self, cause: str, reboot: Callable[[], None]) -> None:
        if self.no_reboot:
            self._end(Outcome("reset", cause))
            return
        with self._ended:
            if self._resetting or self._outcome is not None:
                return
            self._resetting = True
        self._later(reboot)

    def _reboot(self, scope: int = 0, watchdog: dict[int, int] | None = None) -> None:
        with self.vm.quiet():
            self.vm.flush_code()  # after a reset no cache holds anything: new code needs no icbi
            with self.lock:
                for device in (*self.built.everything(), self.mpic):
                    device.reset()
                self._power_on(scope, watchdog)
            self._resetting = False

    def _end(self, outcome: Outcome) -> None:
        self._drain()
        with self._ended:
            if self._outcome is None:
                self._outcome = outcome
            self._ended.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self._ended:
            self._failure = self._failure or error
            self._ended.notify_all()

    # ---- running -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let the vCPUs run on their threads."""
        if self._started:
            raise PowervisorError("the machine has been started already")
        self._started = True
        self._start_time = time.monotonic()
        self.vm.start(self._handle, self._failed)

    def _handle(self, vcpu: Vcpu, exit_: Exit) -> bool:
        """Answer an exit, on the vCPU's thread; False ends the thread."""
        if type(exit_) is Mmio:
            self._mmio(vcpu, exit_)
        elif type(exit_) is Hcall:
            with self.lock:
                if vcpu.asking:  # not reset while this thread waited for the lock
                    vcpu.complete_hcall(*self._hypercalls.call(exit_.token, exit_.arguments))
        elif isinstance(exit_, Checkstop):
            with self._ended:
                dump = vcpu.regs.dump()
            self._end(Outcome("guest-error", f"cpu{vcpu.index}: checkstop: {exit_.reason}", dump))
            return False
        elif isinstance(exit_, Reset):
            self._guest_reset(vcpu, exit_)
        elif not isinstance(exit_, (Kick, Budget)):
            raise PowervisorError(f"cpu{vcpu.index}: exit {exit_} has no handler")
        if self.mpic.events:
            with self.lock:
                self.mpic.service()
        return self._outcome is None

    def _mmio(self, vcpu: Vcpu, exit_: Mmio) -> None:
        try:
            with self.lock:
                if not vcpu.asking:  # reset while this thread waited for the lock
                    return
                if exit_.write:
                    self.space.write(exit_.pa, exit_.size, exit_.value, vcpu.index)
                    vcpu.complete_write()
                else:
                    vcpu.complete_read(self.space.read(exit_.pa, exit_.size, vcpu.index))
        except BusError:
            vcpu.fail_access()

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait for the machine to end; None when `timeout` seconds pass first."""
        with self._ended:
            self._ended.wait_for(lambda: self._outcome is not None or self._failure is not None, timeout)
            if self._failure is not None:
                raise self._failure
            return self._outcome

    def run(self, seconds: float | None = None, instructions: int | None = None) -> Outcome | None:
        """Run for a host time, or CPU 0 alone for a number of instructions; None when the guest goes on after it.

        The vCPUs are held until the next `run`. Counting runs on the calling thread.
        """
        if instructions is not None:
            return self._run_counted(instructions)
        if not self._started:
            self.start()
        self._release_vcpus()
        outcome = self.wait(seconds)
        self._hold_vcpus()
        return outcome

    def _hold_vcpus(self) -> None:
        if not self._held:
            self._held = True
            self.vm.pause()
            self._drain()
            self._held_since = time.monotonic_ns()

    def _release_vcpus(self) -> None:
        if self._held:
            self._held = False
            self.vm.state.clock_pause += time.monotonic_ns() - self._held_since  # the time base stood still
            self.vm.resume()

    def _run_counted(self, instructions: int) -> Outcome | None:
        if self._started:
            self._hold_vcpus()
        vcpu = self.vcpus[0]
        end = vcpu.instructions + instructions
        self._counting = True
        try:
            while self._outcome is None and (left := end - vcpu.instructions) > 0:
                if (exit_ := self.vm.run(vcpu, left)) is not None:
                    self._handle(vcpu, exit_)
                while self._due:
                    self._due.pop(0)()
        finally:
            self._counting = False
            self._drain()
        if self._failure is not None:
            raise self._failure
        return self._outcome

    def stop(self) -> None:
        """End the vCPUs' threads; registers and memory stay readable."""
        self._end(Outcome("stopped"))
        if self._vm is not None:
            self._vm.stop()
        self._drain()
        for thread in self._control:
            if thread is not threading.current_thread():
                thread.join()

    def close(self) -> None:
        """Stop and free everything."""
        if self._closed:
            return
        self._closed = True
        self.stop()
        for drain in self._drains:
            drain.close()
        if self._netdevs is not None:
            self._netdevs.close()  # its threads store in guest memory
        if hasattr(self, "built"):
            for device in self.built.everything():
                device.close()
        if self._drives is not None:
            self._drives.close()
        if self._exports is not None:
            self._exports.close()
        if hasattr(self, "clock"):
            self.clock.close()
        with self.lock:  # no call of the clock or a chardev is on its way into what is freed now
            self._gone = True
        if hasattr(self, "console"):
            self.console.close()
        if self._vm is not None:
            self._vm.close()
        self.ram.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- looking -----------------------------------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        """Guest RAM: `machine.memory[a:b]`; writes drop code translated from there."""
        return Memory(self.space)

    @property
    def balloon(self) -> VirtioBalloon:
        """The memory balloon: set its `target`, in bytes, to have the guest make do with that much RAM.

        Raises PowervisorError for a machine without one.
        """
        from .devices.virtio.balloon import VirtioBalloon

        for device in self.built.everything():
            if isinstance(device, VirtioBalloon):
                return device
        raise PowervisorError(f"balloon: the machine has none; add {argument('devices')} virtio-balloon-pci")

    @property
    def device_tree_blob(self) -> bytes:
        """The flattened device tree the guest gets."""
        return self.plan.device_tree

    def statistics(self) -> dict[str, Any]:
        """What was counted: seconds since the start, each vCPU's exits by reason and counters by name, tier 1, bytes.

        `code-bytes` is translated code with its page tables, `translation-bytes` all host memory of translation.
        """
        regions = self.vm.engine.regions
        return {
            "seconds": round(time.monotonic() - self._start_time, 6) if self._started else 0.0,
            "vcpus": [{"exits": vcpu.exit_counts(), "counters": vcpu.counters()} for vcpu in self.vcpus],
            "regions": {} if regions is None else regions.statistics.counted(),
            "code-bytes": self.vm.engine.code_bytes(),
            "translation-bytes": self.vm.translation_bytes(),
        }

    def state_text(self) -> str:
        """What Ctrl-A s shows: each vCPU's registers and counters."""
        running = self._started and self._outcome is None
        if running:
            self.vm.pause()
        try:
            parts = []
            for vcpu in self.vcpus:
                exits = {f"exit-{reason}": count for reason, count in vcpu.exit_counts().items()}
                counts = " ".join(f"{k}={v}" for k, v in {**exits, **vcpu.counters()}.items() if v)
                parts.append(f"{vcpu.regs.dump()}\n{counts}{'  (held)' if vcpu.halted else ''}")
            return "\n\n".join(parts)
        finally:
            if running:
                self.vm.resume()


__all__ = ["LoaderDevice", "Machine", "Outcome"]
