"""A virtual machine: vCPUs on their threads, guest RAM, the native interrupt controller."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..isa.cores import Core
from ..native.lang import NativeFunction
from ..translate.engine import Engine
from ..translate.sharing import Coming
from ..vcpu.build import new_core_config, new_vcpu, new_vm
from ..vcpu.locks import BILLION
from ..vcpu.state import CONTEXTS, Bank, Context, PlainRegister, Port, Rom, Tlb
from ..vcpu.state import Vcpu as State
from .exits import CodeFull, Exit, Hot, Kick, NoHandler
from .observer import Observer
from .resident import resident_bytes
from .stops import Breakpoint, Stops, Watchpoint
from .tracing import Tracing
from .vcpu import UNLIMITED, Vcpu

SWITCH_INTERVAL = 5e-5
"""Seconds a Python thread keeps the GIL while another waits: an exit must not wait 5 ms for a busy console."""
MANY = 64 << 20
"""Bytes of RAM that changed at once, from which on all translated code is dropped."""


class Vm:
    """vCPUs over guest RAM. `handle(vcpu, exit)` answers exits, on the vCPU's thread."""

    def __init__(
        self, core: Core, svr: int, cores: int, threads: int, ram_address: int, ram_size: int,
        natives: Iterable[NativeFunction] = (), progress: Callable[[str], None] | None = None,
        timebase_hz: int = 400_000_000, cache: bool = True, hypercalls: bool = False,
    ) -> None:  # fmt: skip
        """With `hypercalls` the guest has no category E.HV, and sc 1 is exit Hcall."""
        self.core = core
        self.state: Any = new_vm(ram_address, ram_size)
        self.state.timebase_hz = timebase_hz
        self.start_time()
        self.engine = Engine(core, self.state, natives, progress, background=True, cache=cache)
        seen = core.virtual() if hypercalls else core
        config = new_core_config(seen, svr, threads)
        self.vcpus: list[Vcpu] = []
        for number in range(cores):
            tlb = Tlb.new()
            for thread in range(threads):
                index = number * threads + thread
                processor = new_vcpu(self.state, seen, config, index, tlb, thread, self.engine.reset_contexts)
                self.vcpus.append(Vcpu(self.engine, processor, seen))
            if threads == 2:
                first, second = self.vcpus[-2:]
                first.state.sibling, second.state.sibling = second.address, first.address
        self.observers: tuple[Observer, ...] = ()
        """Told of every exit. Setting it takes effect with each vCPU's next exit."""
        self.tracing = Tracing(self)
        """Events of native code, for those who ask for them."""
        self._ports: list[Any] = []
        self._counted: list[tuple[int, Any, int | None]] = []
        """What counts accesses that native code answers: address, Port with the offset or PlainRegister."""
        self._served: list[tuple[int, int, Any, str]] = []
        """What native code answers for: physical base, bytes, the struct and its field that says how many."""
        self._stops = Stops(self.state)
        self._gate = threading.Condition()
        self._alone = threading.RLock()
        self._life = threading.Lock()
        """Held while an image is loaded, so that its memory is not freed meanwhile."""
        self._paused = 0
        self._stopping = self._closed = False
        self._workers: list[threading.Thread] = []

    def start_time(self) -> None:
        """Power-on: the time base is 0 now. No vCPU may run."""
        self.state.timebase_start, self.state.clock_pause = self._now(), 0

    @property
    def elapsed_ns(self) -> int:
        """How long the time bases have run, without the time they stood still."""
        return self._now() - int(self.state.timebase_start) - int(self.state.clock_pause)

    @elapsed_ns.setter
    def elapsed_ns(self, ns: int) -> None:
        """No vCPU may run."""
        self.state.timebase_start, self.state.clock_pause = self._now() - ns, 0

    def keep_step(self) -> None:
        """Lockstep, from power-on: vCPUs run by `take_turns`, and time is what `set_time` says."""
        self.state.lockstep, self.state.clock_gettime, self.state.fixed_ns = 1, 0, 0
        self.start_time()

    def set_time(self, ns: int, left: int) -> None:
        """What the time is in lockstep, and how long turns that begin now may last. No vCPU may run."""
        self.state.fixed_ns = ns
        end = ns + left - int(self.state.timebase_start)
        self.state.round_end = end * int(self.state.timebase_hz) // BILLION

    def _now(self) -> int:
        """What vCPUs take for the host's clock."""
        return time.monotonic_ns() if int(self.state.clock_gettime) else int(self.state.fixed_ns)

    def attach_irqchip(
        self, state: int, base: int, size: int, read: int, write: int, ack: int, proxy: int, taken: int
    ) -> None:
        """Let accesses to an interrupt controller run natively; addresses of its state and its functions."""
        vm = self.state
        vm.irqchip, vm.irqchip_pa, vm.irqchip_size = state, base, size
        vm.irqchip_read, vm.irqchip_write, vm.irqchip_ack, vm.irqchip_proxy = read, write, ack, proxy
        vm.irqchip_taken = taken
        self._served.append((base, size, vm, "irqchip_size"))

    def attach_port(self, state: int, base: int, size: int, read: int, write: int) -> None:
        """Let native code try byte accesses to a device before they leave; see vcpu.state.Port."""
        port = Port.new()
        port.pa, port.length, port.state, port.read, port.write = base, size, state, read, write
        port.next, self.state.ports = self.state.ports, port.address
        self._ports.append(port)
        self._counted += [(base + n, port, n) for n in range(min(size, len(port.reads)))]
        self._served.append((base, size, port, "length"))

    def attach_registers(self, base: int, size: int, registers: Iterable[tuple[int, int, Any]]) -> None:
        """Let native code answer for registers that only hold bits: offset in a device's window, bytes, the Reg."""
        found = list(registers)
        if not found:
            return
        table = (ctypes.c_uint64 * size)()
        for offset, length, register in found:
            plain, value = PlainRegister.new(), register.share()
            plain.value, plain.mask, plain.length = ctypes.addressof(value), register.plain_mask, length
            table[offset] = plain.address
            self._ports += plain, value
            self._counted.append((base + offset, plain, None))
        bank = Bank.new()
        bank.pa, bank.length, bank.registers = base, size, ctypes.addressof(table)
        bank.next, self.state.banks = self.state.banks, bank.address
        self._ports += bank, table
        self._served.append((base, size, bank, "length"))

    def attach_rom(self, base: int, size: int, host: int) -> Callable[[bool], None]:
        """Let native code read a device's memory at a host address, while it is shown: call what is answered.

        It is at first. The memory has to be there until the vCPUs have ended.
        """
        rom = Rom.new()
        rom.pa, rom.length, rom.host, rom.open = base, size, host, 1
        rom.next, self.state.roms = self.state.roms, rom.address
        self._ports.append(rom)
        self._served.append((base, size, rom, "length"))

        def show(shown: bool) -> None:
            rom.open = shown

        return show

    def memory_replaced(self, runs: Sequence[tuple[int, int]]) -> None:
        """Much of RAM (offsets, lengths) is other than it was: drop code translated from there. No vCPU may run."""
        if sum(length for _, length in runs) > MANY:
            self.flush_code()
        else:
            for pa, length in runs:
                self.memory_written(pa, length)

    def measure(self, on: bool) -> None:
        """Let native code measure waits and latencies (`Vcpu.timing`), and count what it answers for devices.

        Every vCPU leaves native code once, so that observers that were set before know all that comes.
        """
        if on:
            for _, counter, n in self._counted:
                if n is None:
                    counter.reads = counter.writes = 0
                else:
                    counter.reads[n] = counter.writes[n] = 0
        with self.quiet():  # native code looks at `Vcpu.timing` more than once, and relies on it
            for vcpu in self.vcpus:
                vcpu.measure(on)

    def native_accesses(self) -> dict[int, tuple[int, int]]:
        """Reads and writes of devices that native code has answered since `measure`, by address; not the irqchip's."""
        found: dict[int, tuple[int, int]] = {}
        for pa, counter, n in self._counted:
            counts = counter.reads, counter.writes
            reads, writes = (int(count if n is None else count[n]) for count in counts)
            if reads or writes:
                found[pa] = reads, writes
        return found

    def memory_written(self, pa: int, length: int) -> None:
        """RAM was changed by something other than a vCPU: drop code translated from it."""
        self.engine.drop_range(self.state.address, pa, length)

    # ---- threads ---------------------------------------------------------------------------------------------------

    def start(self, handle: Callable[[Vcpu, Exit], bool], failed: Callable[[BaseException], None]) -> None:
        """Run every vCPU on a thread of its own; `handle` returns False to end its vCPU's thread."""
        self._begin(failed)
        for vcpu in self.vcpus:
            self._hire(f"cpu{vcpu.index}", self._work, vcpu, handle, failed)

    def take_turns(self, turn: Callable[[], bool], failed: Callable[[BaseException], None]) -> None:
        """Lockstep: a thread calls `turn` while the gate is open, until it answers False. It uses `admit`."""
        self._begin(failed)
        self._hire("lockstep", self._take_turns, turn, failed)

    def _begin(self, failed: Callable[[BaseException], None]) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        if self.engine.coming is not None:
            coming = self.engine.coming
            threading.Thread(target=self._upgrade, args=(coming, failed), name="upgrade", daemon=True).start()
        self.engine.start()

    def _hire(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        worker = threading.Thread(target=work, args=arguments, name=name, daemon=True)
        self._workers.append(worker)
        worker.start()
        with contextlib.suppress(OSError):  # for `top -H`; Python itself names threads from 3.14 on
            Path(f"/proc/self/task/{worker.native_id}/comm").write_text(name)

    def _take_turns(self, turn: Callable[[], bool], failed: Callable[[BaseException], None]) -> None:
        try:
            while self._await_open() and turn():
                pass
        except BaseException as error:  # as in `_work`
            failed(error)

    def _await_open(self) -> bool:
        """Wait before the gate; False when the machine is stopping."""
        if self._paused or self._stopping:
            with self._gate:
                while self._paused and not self._stopping:
                    self._gate.wait()
        return not self._stopping

    @property
    def open(self) -> bool:
        """Whether the gate lets vCPUs in."""
        return not (self._paused or self._stopping)

    def admit(self, vcpu: Vcpu, budget: int) -> tuple[bool, Exit | None]:
        """Run a vCPU if the gate is open, and say whether it was; the exit as `run` has it."""
        vcpu.inside = True
        if self._paused or self._stopping:
            self._leave(vcpu)
            return False, None
        return True, self._run(vcpu, budget)

    def _work(self, vcpu: Vcpu, handle: Callable[[Vcpu, Exit], bool], failed: Callable[[BaseException], None]) -> None:
        try:
            while self._enter(vcpu):
                exit_ = self._run(vcpu, UNLIMITED)
                if exit_ is not None and not handle(vcpu, exit_):
                    return
        except BaseException as error:  # handed to whoever waits for the machine; a vCPU thread has no caller
            failed(error)

    def _run(self, vcpu: Vcpu, budget: int) -> Exit | None:
        """The exit of a vCPU that was let in; None when it is to go on."""
        vcpu.entered = time.monotonic_ns() if self.observers else 0
        try:
            exit_ = vcpu.run(budget)
        finally:
            if vcpu.entered:
                vcpu.left = time.monotonic_ns()
            self._leave(vcpu)
        if isinstance(exit_, CodeFull):
            self.flush_code()
        elif isinstance(exit_, Hot):
            self.engine.hot(vcpu.state)
        elif isinstance(exit_, NoHandler):
            self.engine.compile_handler(exit_.word)
        else:
            return exit_
        self.answered(vcpu, exit_)
        return None

    def observe(self, observer: Observer) -> None:
        """Tell one more of exits; from any thread."""
        with self._gate:
            self.observers += (observer,)

    def unobserve(self, observer: Observer) -> None:
        """Tell it of no more exits."""
        with self._gate:
            self.observers = tuple(other for other in self.observers if other is not observer)

    def answered(self, vcpu: Vcpu, exit_: Exit) -> None:
        """Tell observers that the last exit was answered, on the vCPU's thread."""
        if vcpu.entered:
            now = time.monotonic_ns()
            for observer in self.observers:
                observer.exit(vcpu, exit_, vcpu.entered, vcpu.left, now)

    def run(self, vcpu: Vcpu, budget: int) -> Exit | None:
        """Run a vCPU on the calling thread, even while the others are paused; None when nothing is to be answered."""
        self.engine.start()
        with self._gate:
            if self._stopping:
                return Kick()
            vcpu.inside = True
        return self._run(vcpu, budget)

    def _enter(self, vcpu: Vcpu) -> bool:
        """Pass the gate into native code; False when the machine is stopping.

        An open gate takes no lock: who enters sets `inside`, then looks at the gate; who closes it does the opposite.
        """
        vcpu.inside = True
        while self._paused or self._stopping:
            self._leave(vcpu)
            if not self._await_open():
                return False
            vcpu.inside = True
        return True

    def _leave(self, vcpu: Vcpu) -> None:
        vcpu.inside = False
        if self._paused or self._stopping:
            with self._gate:
                self._gate.notify_all()

    def _empty(self) -> None:
        """Wait, with the closed gate's lock, until no vCPU is inside."""
        while any(vcpu.inside for vcpu in self.vcpus):
            for vcpu in self.vcpus:
                vcpu.kick()
            self._gate.wait(0.05)

    def pause(self) -> None:
        """Bring every vCPU out of native code and keep it out until `resume`; may be nested."""
        with self._gate:
            self._paused += 1
            self._empty()

    def resume(self) -> None:
        """Undo one `pause`."""
        with self._gate:
            self._paused -= 1
            self._gate.notify_all()

    def stop_clock(self) -> None:
        """Let the time bases stand still, if they do not in any case. No vCPU may run."""
        if self.state.lockstep:
            return
        self.state.fixed_ns = time.monotonic_ns()
        self._clock, self.state.clock_gettime = int(self.state.clock_gettime), 0

    def move_clock(self, ns: int) -> None:
        """Let time pass that stands still."""
        self.state.fixed_ns += ns

    def start_clock(self) -> None:
        """Let it go on where it was stopped."""
        if self.state.lockstep:
            return
        self.state.clock_pause += time.monotonic_ns() - int(self.state.fixed_ns)
        self.state.clock_gettime = self._clock

    def _upgrade(self, coming: Coming, failed: Callable[[BaseException], None]) -> None:
        """Take over the translator's image when it has been built."""
        try:
            coming.wait()
            with self._life:
                if self._stopping:
                    return
                image = coming.result()
                with self.quiet():
                    self.engine.upgrade(image)
                    self.engine.start()
                    self._forget_all()
        except BaseException as error:  # as for the vCPU threads: somebody waits for the machine
            failed(error)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """No vCPU is in native code meanwhile, and nobody else changes what they share."""
        with self._alone:
            self.pause()
            try:
                yield
            finally:
                self.resume()

    def _forget_all(self) -> None:
        for vcpu in self.vcpus:
            self.engine.forget_all(vcpu.address)

    def flush_code(self) -> None:
        """Forget all translated code, if there still is any: debuggers may leave after `close`."""
        with self.quiet():
            if not self._closed:
                self.engine.flush()
                self._forget_all()

    def set_stops(self, breakpoints: Iterable[Breakpoint], watchpoints: Iterable[Watchpoint]) -> None:
        """Stop vCPUs there from now on, and nowhere else."""
        with self.quiet():
            self._stops.set(breakpoints, watchpoints)
            self.flush_code()

    def hook_interrupts(self, numbers: Iterable[int]) -> None:
        """Have vCPUs leave with exit Interrupt at these interrupts' vectors from now on, and at no other's."""
        mask = 0
        for number in numbers:
            mask |= 1 << number
        self.state.hooked_interrupts = mask

    def hook_accesses(self, ranges: Iterable[range]) -> None:
        """Have every access to devices at these physical addresses leave with exit Mmio, and no other needlessly."""
        hooked = list(ranges)
        with self.quiet():
            for base, size, struct, field in self._served:
                ours = any(place.start < base + size and base < place.stop for place in hooked)
                setattr(struct, field, 0 if ours else size)

    @property
    def thread_ids(self) -> list[int]:
        """The host's number of each vCPU's thread, as in /proc/PID/task; empty before `start`."""
        return [worker.native_id or 0 for worker in self._workers]

    def translation_bytes(self) -> int:
        """Host memory that translation takes: the image, translated code with its tables, soft TLBs."""
        space, code_map = self.engine.space, int(self.state.code_map)
        total = resident_bytes(space.base, space.size)
        total += resident_bytes(code_map, (int(self.state.ram_size) >> 12) * 8)
        return total + sum(resident_bytes(int(v.state.contexts), CONTEXTS * Context.size) for v in self.vcpus)

    def stop(self) -> None:
        """End every vCPU's thread."""
        with self._gate:
            self._stopping = True
            self._gate.notify_all()
            self._empty()
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join()
        self._workers = []

    def close(self) -> None:
        """Free the native memory; the machine is stopped."""
        self.tracing.end()
        with self._life, self._alone:
            self._closed = True
            self.engine.close()


def word_addresses(vcpu: Vcpu) -> tuple[int, int, int]:
    """Host addresses of a vCPU's `lines`, `requests` and `asleep` words, for the interrupt controller."""
    base = vcpu.address
    return base + State.offset("lines"), base + State.offset("requests"), base + State.offset("asleep")
