"""Machine: the one public object behind the command line, the API and the tests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..boards import registry
from ..boards.board import SERIAL, Board, Context
from ..boards.cpus import CpuTopology
from ..boards.hypervisor import has_uarts
from ..boot.loader import BootOptions, BootPlan, LoaderDevice, plan_boot
from ..console.chardev import BaseChardev
from ..console.recorder import Recorder, recorded
from ..devices.clock import HostClock, ManualClock
from ..devices.mpic import Mpic
from ..devices.ns16550 import Ns16550
from ..devices.ns16550_drain import Drain
from ..errors import PowervisorError, UserError, argument
from ..hv.exits import Exit
from ..hv.vcpu import Vcpu
from ..hv.vm import Vm
from ..isa import cores as core_models
from ..memory.ram import Ram
from ..memory.space import Dma, PhysicalSpace
from ..paravirt.byte_channel import ByteChannel
from ..paravirt.hypercalls import Hypercalls
from .backends import BackendOptions, Backends
from .counting import Counting
from .cpu import Cpu
from .deterministic import lockstep_of, refuse_undetermined
from .exits import Answers
from .holding import Holding
from .hooks import Hooks
from .inputs import RESET, Channel
from .life import Finished, Life
from .lockstep import Lockstep
from .native import attach_devices, new_vm, print_natively
from .outcome import STOPPED, Outcome
from .power import Power
from .programs import programs
from .snapshot import Snapshot, check_fork, keywords, put_back, take
from .statistics import Statistics
from .stops import MachineStops
from .timing import Timing
from .unknown import UnknownAccesses
from .until import Until, check_limits, run_until

if TYPE_CHECKING:
    from ..block.drives import Drive
    from ..console.chardev import Chardev, PortChardev

Path = str | os.PathLike[str]


class Machine(Holding):
    """A virtual board with its vCPUs. A context manager; `close` frees everything.

    Without kernel, bios and loaders the built-in guest runs. Sizes are in bytes. `board`, `devices`, `drives`,
    `blockdevs`, `fsdevs`, `virtfs`, `netdevs` and `objects` are the words after the options of these names; with
    `snapshot` images stay as they are, and what passes all networks is written to the file `pcap`. `serial` are
    chardevs in order; the first one's output is kept in `console`. `chardevs` are those that devices name. What a
    `deterministic` machine does follows from these arguments and its input, which the file `record` keeps and has
    come again as `replay`. Without `cache` no translated code is read from disk or kept there. `name` is for
    people. `warn` gets lines for the user, by default the logger "powervisor". With `moment` it goes on from there,
    see `load`. Raises UserError for what cannot be had.
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
        deterministic: bool | Timing = False,
        record: Path | None = None,
        replay: Path | None = None,
        cache: bool = True,
        name: str | None = None,
        progress: Callable[[str], None] | None = None,
        warn: Callable[[str], None] | None = None,
        moment: Snapshot | None = None,
    ) -> None:
        self.board: Board = registry.get(board)
        core = core_models.get(cpu or self.board.default_core)
        size = memory if memory is not None else self.board.ram_default
        self.board.check(core.name, cores, threads, size)
        self.board.check_serials(len(serial or ()))
        self.options: dict[str, Any] = {
            "board": board, "cpu": core.name, "cores": cores, "threads": threads, "memory": size,
            "devices": list(devices), "drives": list(drives), "blockdevs": list(blockdevs), "fsdevs": list(fsdevs),
            "virtfs": list(virtfs), "snapshot": snapshot, "netdevs": list(netdevs), "objects": list(objects),
            "no_reboot": no_reboot,
        }  # fmt: skip
        """What the machine is, as it was given; goes with snapshots."""
        self._moment = moment
        if kernel is None and bios is None and not loaders and moment is None:
            from ..guests.builtin import image

            if not has_uarts(self.board):
                raise UserError(f"{argument('board')} {board}: the built-in guest knows UARTs only; add serial=uart")
            kernel = image(core.bits)
        booted = programs([kernel, bios, *(loader.file for loader in loaders)])
        self.options["programs"] = booted if moment is None else moment.options.get("programs", [])
        self.no_reboot, self._cache = no_reboot, cache
        self.name = name
        self.lock = threading.RLock()
        self._ended = threading.Condition()
        self._outcome: Outcome | None = None
        self._failure: BaseException | None = None
        self.started = False
        """Whether the vCPUs have threads."""
        self._holding = threading.RLock()
        self.stops = MachineStops(self, self._holding)
        self.life = Life(self)
        self.on_end: list[Callable[[], None]] = []
        """Called on any thread when the machine has ended."""
        self._answers = Answers(self)
        self.unknown = UnknownAccesses(self, warn)
        self.counted = Statistics()
        self.hooks = Hooks(self)
        """Functions called when the guest comes to an address, accesses a device, is interrupted ..."""
        self.run_stopped = False
        """Whether the last `run` ended by `stop_run`."""
        self._held = False
        self._control: list[threading.Thread] = []
        self.power = Power(self)
        self._closed = self._gone = False
        self._drains: list[Drain] = []
        self.backends = Backends()
        self._vm: Vm | None = None
        lines = list(serial) if serial is not None else [None]
        self.console = recorded(lines[0]) if lines else Recorder()
        self._chardevs: list[Chardev | None] = [self.console, *lines[1:]]
        self.topology = CpuTopology(core.name, cores, threads, core.line_size, core.pvr, self.board.core(core.name).svr)
        self.ram = Ram(size, mem_path, mem_prealloc)
        self.lockstep: Lockstep | None = None
        """The turns of a deterministic machine's vCPUs."""
        try:
            self.lockstep = lockstep_of(self, deterministic, record, replay, self._answers, self._drain, warn)
            self.counting = self.lockstep or Counting(self, self._answers)
            self.space = PhysicalSpace(self.ram)
            self.clock: HostClock | ManualClock = HostClock(self.lock, self._failed)
            self.chardevs: dict[str, Chardev] = {f"{SERIAL}{n}": c for n, c in enumerate(self._chardevs) if c}
            """Serial lines and those that devices name, by name."""
            self.chardevs |= chardevs or {}
            self.console.attach(lambda: self._check_wait() or self.run_stopped, lambda: self.time)
            if self.lockstep is not None:
                self.clock = self.lockstep.clock
                self._chardevs = self.lockstep.serial_channels(self._chardevs)
                refuse_undetermined(fsdevs, virtfs)
            self._progress = progress
            self._build()
            pcap_file = None if pcap is None else os.fspath(pcap)
            self.backends.open(
                BackendOptions(drives, blockdevs, snapshot, fsdevs, virtfs, netdevs, objects, pcap_file),
                warn,
                self.lockstep,
            )
            if devices or self.backends:
                self._plug(devices, chardevs, warn)
            options = BootOptions(kernel, bios, initrd, append, dtb, tuple(loaders))
            self.plan: BootPlan = (
                plan_boot(options, size, self.built.tree, core.bits, self.topology.vcpus)
                if moment is None
                else moment.plan
            )
            if moment is not None:
                _ = self.vm  # what does not fit is told now
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        mpic_part = self.board.part(self.board.interrupt_parent)
        self.mpic = Mpic(
            mpic_part.name, self.topology.vcpus, self.clock, self.board.base(mpic_part), self.power.core_reset
        )
        self.context = Context(
            self.ram, self.space, Dma(self.space), self.mpic, self.clock, self.topology, self._chardevs,
            poweroff=self._poweroff, reset=self.power.board_reset, release_cpu=self.power.release_cpu,
        )  # fmt: skip
        if self.lockstep is not None:
            self.context.rng_seed, self.context.wall_clock = self.lockstep.seed(), self.lockstep.wall_clock
        self.built = self.board.build(self.context)
        for index, chardev in enumerate(self._chardevs):
            line = self.built.devices.get(f"{SERIAL}{index}")
            if chardev is not None and isinstance(line, Ns16550 | ByteChannel):
                self._connect(chardev, line)
        self._answers.hypercalls = Hypercalls(self.built.devices.values())

    def _plug(
        self, devices: Sequence[str], chardevs: Mapping[str, PortChardev] | None, warn: Callable[[str], None] | None
    ) -> None:
        from ..devices.lines import Lines
        from ..devices.models import plug
        from ..devices.services import Services

        services = Services(self.context.dma, self.lock, self._failed)
        if self.lockstep is not None:
            chardevs = self.lockstep.lend(services, chardevs or {})
        services.lines = Lines(chardevs, self._dispatch)
        if warn is not None:
            services.warn = warn
        self.backends.lend(services)
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
            with self._holding:  # one is enough, whoever else asks for it meanwhile
                if self._vm is None:
                    self._make_vm()
        assert self._vm is not None
        return self._vm

    def _make_vm(self) -> None:
        self._vm = self._new_vm()
        self._cpus = tuple(Cpu(self, vcpu) for vcpu in self._vm.vcpus)
        if self._moment is None:
            self.power.power_on()
        else:
            put_back(self, self._moment)
            self._moment = None
        if self.lockstep is not None:
            self.lockstep.begin()

    def _new_vm(self) -> Vm:
        vm = new_vm(self.board, self.topology, self.ram, self._cache, self._progress)
        attach_devices(vm, self.mpic, self.space, self.built)
        lines = [(self.built.devices.get(f"{SERIAL}{n}"), chardev) for n, chardev in enumerate(self._chardevs)]
        uarts = [line for line, chardev in lines if isinstance(line, Ns16550) and chardev is not None]
        print_natively(vm, self.board, uarts)
        if self.lockstep is not None:
            vm.keep_step()
        self._drains = [Drain(uart, self._dispatch, threaded=self.lockstep is None) for uart in uarts]
        return vm

    @property
    def drives(self) -> list[Drive]:
        """The storage of disks, by name."""
        return self.backends.all_drives()

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
            port = (
                chardev if isinstance(chardev, BaseChardev | Channel) else recorded(chardev)
            )  # which tell of their room
            port.on_room = lambda: self._dispatch(line.has_room)
            line.connect(port)
        chardev.start(self._dispatch)

    def _dispatch(self, call: Callable[[], None]) -> None:
        with self.lock:
            if not self._gone and self._moment is None:  # input that comes before that is restored would be lost
                call()

    # ---- power, reset, secondary CPUs --------------------------------------------------------------------------------

    def later(self, call: Callable[[], None]) -> None:
        """Do something that stops the vCPUs, from a thread that is none of theirs (counting: when the exit is done)."""
        if self.counting.later(call):
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
        self.life.finish(Outcome("poweroff"))

    def end(self, outcome: Outcome) -> None:
        """This is the end, unless there was one: whoever waits is told."""
        self._drain()
        with self._ended:
            if self._outcome is None:
                self._outcome = outcome
            self._ended.notify_all()
        self.console.wake()
        for told in list(self.on_end):
            told()

    def _failed(self, error: BaseException) -> None:
        with self._ended:
            self._failure = self._failure or error
            self._ended.notify_all()
        self.console.wake()
        if self.counting.active:  # whoever counts looks when a vCPU comes back
            for vcpu in self.vcpus:
                vcpu.kick()

    @property
    def failed(self) -> bool:
        """Whether there is an error for those who wait."""
        return self._failure is not None

    # ---- running -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let the vCPUs run on their threads."""
        if self.started:
            raise PowervisorError("the machine has been started already")
        self.started = True
        self.counted.start_time = time.monotonic()
        if self.lockstep is not None:
            self.vm.take_turns(self.lockstep.work, self._failed)
        else:
            self.vm.start(self._answers, self._failed)

    def run(
        self, seconds: float | None = None, instructions: int | None = None, until: Until | None = None
    ) -> Outcome | None:
        """Run for some seconds, or CPU 0 alone for a number of instructions; None when the guest goes on after it.

        The vCPUs are held until the next `run`. Counting runs on the calling thread. `until` ends it early: an
        effective address that a vCPU comes to, text on the console, or a function of the machine that is asked between
        instructions every few milliseconds. Raises NotReached when `seconds` or `instructions` pass before that,
        HookError with what a hook raised. In a deterministic machine all vCPUs run until CPU 0 has executed the number.
        """
        check_limits(seconds, instructions)
        self._check_wait()
        if until is not None:
            return run_until(self, until, seconds, instructions)
        if instructions is not None:
            return self._run_counted(instructions)
        self.go_on()
        try:
            return self.wait(seconds)
        finally:
            self.hold()
            if self.lockstep is not None:
                self.lockstep.rest()

    def go_on(self) -> None:
        """Start the vCPUs, or let them go on."""
        self.release()  # first: what stops the vCPUs from now on is not undone
        if not self.started:
            self.start()

    def run_held(self, vcpu: Vcpu, instructions: int) -> Exit | None:
        """Execute at most so many instructions of one vCPU on the calling thread, while all are held.

        Answers why it came back, devices and resets being served already; time does not pass but for a nanosecond an
        instruction.
        """
        exit_ = self.counting.execute(vcpu, instructions)
        self.life.settle()
        return exit_

    @property
    def ended(self) -> bool:
        """Whether there is an outcome."""
        return self._outcome is not None

    @property
    def resetting(self) -> bool:
        """Whether a thread is about to stop the vCPUs, for a reset mostly."""
        here = threading.current_thread()
        return bool(self.counting.due) or any(t.is_alive() and t is not here for t in self._control)

    def _run_counted(self, instructions: int) -> Outcome | None:
        if self.started:
            self.hold()
        if self._held:
            self.vm.start_clock()
        try:
            self.run_stopped = False
            self.counting.run(instructions)
        finally:
            if self._held:
                self.vm.stop_clock()
            self._drain()
        self._check_wait()
        return self._outcome

    def reset(self) -> None:
        """As the board's reset button, or its end under `no_reboot`; the vCPUs may be held."""
        if self.lockstep is not None:
            self.lockstep.inputs.put(RESET, b"")
        else:
            self.power.button()
        self.life.settle()

    def snapshot(self) -> Snapshot:
        """The whole machine as it is now, in memory; it goes on as before. Costs what changed since the last one.

        Raises PowervisorError for a machine that has ended, and for what cannot be saved of a device.
        """
        return take(self)

    def fork(self, **options: Any) -> Machine:
        """Another machine that goes on from now, as `load` makes it of a snapshot; this one goes on too.

        Raises UserError for what both cannot have: an image the guest writes to, a TAP, a port of the host.
        """
        check_fork(self)
        return Machine.load(self.snapshot(), **options)

    @classmethod
    def load(cls, source: Snapshot | Path, **options: Any) -> Machine:
        """A machine that goes on from a snapshot or its file, when it is started.

        What the machine is comes with the snapshot, whether it is deterministic too. `options` are keywords of
        `Machine`: those about the host (name, serial, chardevs, netdevs, pcap, no_reboot ...), and others
        as far as they say the same. Raises UserError.
        """
        return cls(**keywords(source, options))

    def restore(self, snapshot: Snapshot | Path) -> None:
        """Be as the machine was at a moment, or in a file: this one, or one made alike. Held, it stays so.

        Time goes on where it stood. Input from outside that came since then is lost; what the guest printed stays
        printed. Raises UserError when the machine is another one, saying what differs.
        """
        put_back(self, snapshot)

    def power_down(self) -> None:
        """Press the power button, for guests that switch themselves off then. Raises PowervisorError for others."""
        self.power.press_power_button()

    def quit(self, why: str = "") -> None:
        """End the machine: whoever waits for it gets the outcome "stopped", with `why` as its detail."""
        if not self.ended:
            self.life.tell(Finished(Outcome(STOPPED, why), kept=False, by_guest=False))
        self.end(Outcome(STOPPED, why))

    def revive(self) -> None:
        """Another moment is restored: the end, if there was one, has not come yet."""
        with self._ended:
            if self._outcome is not None and self.started:
                raise PowervisorError("the machine has ended; make another one of the snapshot (fork)")
            self._outcome = self.life.finished = None

    def stop(self) -> None:
        """End the vCPUs' threads; registers and memory stay readable."""
        self.hooks.refuse_end("stop")
        self.quit()
        if self._vm is not None:
            self._vm.stop()
        self._drain()
        if self.lockstep is not None and self._outcome is not None:
            self.lockstep.finish(self._outcome.kind)
        for thread in self._control:
            if thread is not threading.current_thread():
                thread.join()

    def close(self) -> None:
        """Stop and free everything."""
        if self._closed:
            return
        self.hooks.refuse_end("close")
        self._closed = True
        self.stop()
        for drain in self._drains:
            drain.close()
        self.backends.close_networks()
        if hasattr(self, "built"):
            for device in self.built.everything():
                device.close()
        self.backends.close()
        if hasattr(self, "clock"):
            self.clock.close()
        with self.lock:  # no call of the clock or a chardev is on its way into what is freed now
            self._gone = True
            if self._vm is not None:
                self.mpic.unbind()
        self.console.close()
        if self._vm is not None:
            self._vm.close()
        self.ram.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- looking -----------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """What was counted: seconds since the start, each vCPU's exits by reason, interrupts by kind and other
        counters by name, tier 1, bytes. While `analysis.timing` measures also that, see docs/statistics.md.

        `code-bytes` is translated code with its page tables, `translation-bytes` all host memory of translation.
        """
        return self.counted.collect(self)
