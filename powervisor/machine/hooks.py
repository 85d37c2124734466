"""Hooks: functions of the user that are called when a guest comes to an address, accesses a device, and the like."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import PowervisorError, UserError
from ..hv import exits
from ..hv.exits import Debug, Exit, Mmio, Watched
from ..hv.stops import Breakpoint, Watchpoint
from ..hv.vcpu import Vcpu
from ..isa.registers import IVOR
from ..memory.space import BusError
from .cpu import Cpu
from .devices import named, register_ranges, windows_of
from .events import INTERRUPT_NAMES, INTERRUPTS, Access, Accessed, Exited, Interrupt, Syscall

if TYPE_CHECKING:
    from .machine import Machine
    from .stops import Stopper

E = TypeVar("E")
EXITS: dict[str, type] = {
    kind.__name__.lower(): kind
    for kind in (
        exits.Mmio, exits.Kick, exits.Debug, exits.Watched, exits.Interrupt, exits.Reset, exits.Hcall, exits.Checkstop,
        exits.CodeFull, exits.Hot, exits.NoHandler,
    )
}  # fmt: skip
"""Kinds of exits by name."""


class HookError(PowervisorError):
    """A hook raised an exception, which is the `__cause__`; the machine is held and goes on with `run`.

    `cpu` is the number of the vCPU, `pc` the effective address it was at, `instruction` what is there as text.
    """

    def __init__(self, hook: Hook[Any], cpu: int, pc: int, instruction: str, cause: BaseException) -> None:
        what = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        super().__init__(f"cpu{cpu} pc=0x{pc:x} '{instruction}': the hook {hook} raised {what}")
        self.hook, self.cpu, self.pc, self.instruction = hook, cpu, pc, instruction
        self.__cause__ = cause


class Hook(Generic[E]):
    """A function that is called with an event until it is removed: by `remove`, or at the end of a `with` block.

    What `Hooks` makes without a function takes one by being called: as a decorator.
    """

    def __init__(self, hooks: Hooks, description: str, terms: Any, function: Callable[[E], object] | None) -> None:
        self._hooks, self.terms = hooks, terms
        self.description = description
        self.function: Callable[[E], object] | None = None
        self.calls = 0
        """How often it was called."""
        if function is not None:
            self(function)

    def __call__(self, function: Callable[[E], object]) -> Hook[E]:
        """Call `function` from now on; for use as a decorator."""
        if self.function is not None:
            raise PowervisorError(f"the hook {self} has a function already; make another hook")
        self.function = function
        self._hooks.add(self)
        return self

    def remove(self) -> None:
        """Call it no more; without effect when it was removed. A call that is under way on another thread goes on."""
        self._hooks.discard(self)

    def __enter__(self) -> Hook[E]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def __str__(self) -> str:
        return self.description


@dataclass(frozen=True)
class _At:
    breakpoint_: Breakpoint
    cpu: int | None


@dataclass(frozen=True)
class _Mmio:
    ranges: tuple[range, ...]
    reads: bool
    writes: bool

    def concerns(self, access: Mmio) -> bool:
        """Whether it is about an access."""
        wanted = self.writes if access.write else self.reads
        return wanted and any(r.start < access.pa + access.size and access.pa < r.stop for r in self.ranges)


@dataclass(frozen=True)
class _Interrupt:
    number: int
    source: str | None = None
    call: int | None = None
    lpid: int | None = None
    syscall: bool = False


@dataclass(frozen=True)
class _Exit:
    kind: type | None


class Hooks:
    """`machine.hooks`: makes hooks. They run on the thread of the vCPU concerned, which waits for them.

    A hook may read and change registers, memory and devices, make and remove hooks, and stop the machine
    (`cpu.stop()`). It must not wait for vCPUs: `run`, `wait`, `step` and `console.expect` refuse to be called from
    one. What it raises stops the machine and comes to the caller of `run`, `wait` or `expect` as HookError.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._local = threading.local()
        self._changing = threading.RLock()
        self._hooks: tuple[Hook[Any], ...] = ()
        self._stopper: Stopper | None = None
        self._observer = _ExitObserver(self)
        self._errors: deque[HookError] = deque()
        self.mmio_hooks: tuple[Hook[Access], ...] = ()
        """Those on device accesses, for the machine to look at."""

    # ---- making them -----------------------------------------------------------------------------------------------

    def at(
        self, address: int, function: Callable[[Cpu], object] | None = None, *, lpid: int | None = None,
        cpu: int | None = None,
    ) -> Hook[Cpu]:  # fmt: skip
        """Before each execution of the instruction at an effective address: of any program, or of partition `lpid`
        (0: the hypervisor), on any vCPU or number `cpu`.

        Code elsewhere is as fast as without it. If the function changes PC, the instruction is not executed.
        """
        if address & 3:
            raise UserError(f"hooks.at 0x{address:x}: instructions lie at multiples of 4")
        if cpu is not None and not 0 <= cpu < len(self._machine.cpus):
            raise UserError(f"hooks.at cpu={cpu}: there are cpus 0 to {len(self._machine.cpus) - 1}")
        where = f"at 0x{address:x}" + (f" of partition {lpid}" if lpid is not None else "")
        return Hook(self, where, _At(Breakpoint(address, lpid), cpu), function)

    def access(
        self, address: int, length: int, function: Callable[[Accessed], object] | None = None, *,
        reads: bool = True, writes: bool = True,
    ) -> Hook[Accessed]:  # fmt: skip
        """Before each access to the bytes from an effective address on; their pages are slower meanwhile."""
        if length < 1 or not (reads or writes):
            raise UserError(f"hooks.access 0x{address:x}: give a length of 1 or more, and reads or writes")
        return Hook(self, f"on 0x{address:x}", Watchpoint(address, length, reads, writes), function)

    def mmio(
        self, where: str | int | range, register: str | None = None,
        function: Callable[[Access], object] | None = None, *, reads: bool = True, writes: bool = True,
    ) -> Hook[Access]:  # fmt: skip
        """Each access of a guest to a device, or to its register of that name, or to a physical address or range.

        Registers that native code answers for are an exit to Python meanwhile. DMA is not seen, nor RAM. Raises
        UserError for devices and registers that are not there.
        """
        if isinstance(where, str):
            machine = self._machine
            ranges = register_ranges(machine, where, register) if register else windows_of(machine, where)
            name = f"{where}.{register}" if register else where
        else:
            ranges = [where if isinstance(where, range) else range(where, where + 1)]
            name = f"0x{ranges[0].start:x}"
            if ranges[0].start < self._machine.ram.size or not len(ranges[0]) or register:
                raise UserError(f"hooks.mmio {name}: give an address or range above RAM, or a device's name")
        return Hook(self, f"on {name}", _Mmio(tuple(ranges), reads, writes), function)

    def interrupt(
        self, number: int | str | None = None, function: Callable[[Interrupt], object] | None = None, *,
        source: int | str | None = None,
    ) -> Hook[Interrupt]:  # fmt: skip
        """Each interrupt that a vCPU takes: n of IVORn, or its name ("DECREMENTER"); or the external one of a source.

        Sources are inputs of the interrupt controller: 42, "ipi0", "timer3". Guests of a hypervisor that take theirs
        themselves are seen too. Raises UserError for others.
        """
        name = number if isinstance(number, str) else INTERRUPT_NAMES.get(number if source is None else IVOR.EXTERNAL)
        if name is None or name.upper() not in INTERRUPTS:
            have = ", ".join(f"{n} {name}" for name, n in INTERRUPTS.items())
            raise UserError(f"hooks.interrupt {number}: give a source, or the number or name of an interrupt: {have}")
        kind = INTERRUPTS[name.upper()]
        if source is not None and (kind != IVOR.EXTERNAL or number not in (None, kind)):
            raise UserError(f"hooks.interrupt {number}: external interrupts only have a source; leave one of them out")
        what = f"on interrupt {name}" + (f" of source {source}" if source is not None else "")
        return Hook(self, what, _Interrupt(kind, None if source is None else str(source)), function)

    def syscall(
        self, call: int | None = None, function: Callable[[Syscall], object] | None = None, *, lpid: int | None = None
    ) -> Hook[Syscall]:
        """Each system call (`sc`), or those of a number (r0), of any program or of partition `lpid`'s."""
        what = "on system call" + (f" {call}" if call is not None else "s")
        return Hook(self, what, _Interrupt(IVOR.SYSTEM_CALL, None, call, lpid, True), function)

    def exit(self, kind: str | None = None, function: Callable[[Exited], object] | None = None) -> Hook[Exited]:
        """Each time a vCPU came back from native code, or those of a kind ("mmio", "hcall" ...), after the answer."""
        if kind is not None and kind not in EXITS:
            raise UserError(f"hooks.exit {kind}: there are {', '.join(EXITS)}")
        return Hook(self, f"on exit {kind}" if kind else "on exits", _Exit(EXITS[kind] if kind else None), function)

    # ---- keeping them ----------------------------------------------------------------------------------------------

    def add(self, hook: Hook[Any]) -> None:
        """Begin to call a hook."""
        with self._changing:
            self._hooks += (hook,)
            self._install(hook.terms)

    def discard(self, hook: Hook[Any]) -> None:
        """Call a hook no more."""
        with self._changing:
            if hook in self._hooks:
                self._hooks = tuple(other for other in self._hooks if other is not hook)
                self._install(hook.terms)

    def clear(self) -> None:
        """Remove every hook."""
        for hook in self._hooks:
            hook.remove()

    def __len__(self) -> int:
        return len(self._hooks)

    def _terms(self, kind: type) -> Iterable[Any]:
        return (hook.terms for hook in self._hooks if isinstance(hook.terms, kind))

    def _install(self, terms: Any) -> None:
        """Make what vCPUs leave for true after a change of hooks with such terms."""
        machine = self._machine
        if machine.ended:  # the vCPUs run no more
            return
        if isinstance(terms, _At | Watchpoint):
            self._stopper = self._stopper or machine.stops.open(self._stopped, holds=False)
            self._stopper.breakpoints = {at.breakpoint_ for at in self._terms(_At)}
            self._stopper.watchpoints = set(self._terms(Watchpoint))
            self._stopper.apply()
        elif isinstance(terms, _Mmio):
            self.mmio_hooks = tuple(hook for hook in self._hooks if isinstance(hook.terms, _Mmio))
            machine.vm.hook_accesses(r for mmio in self._terms(_Mmio) for r in mmio.ranges)
        elif isinstance(terms, _Interrupt):
            machine.vm.hook_interrupts(interrupt.number for interrupt in self._terms(_Interrupt))
        else:
            machine.vm.unobserve(self._observer)
            if any(self._terms(_Exit)):
                machine.vm.observe(self._observer)

    # ---- calling them ----------------------------------------------------------------------------------------------

    def _call(self, hook: Hook[E], cpu: Cpu, event: E) -> bool:
        """Whether the function returned; what it raised is kept for whoever waits for the machine."""
        outer = getattr(self._local, "hook", None)
        self._local.hook = hook
        hook.calls += 1
        try:
            assert hook.function is not None
            hook.function(event)
        except BaseException as error:  # also what pytest.fail raises: it belongs to whoever called run
            self._errors.append(HookError(hook, cpu.index, cpu.pc, cpu.instruction_text(), error))
            self._machine.stop_run()
            return False
        finally:
            self._local.hook = outer
        return True

    def refuse(self, what: str) -> None:
        """Raise PowervisorError when called from a hook, for what waits for vCPUs."""
        if (hook := getattr(self._local, "hook", None)) is not None:
            raise PowervisorError(
                f"{what}: the hook {hook} must not wait for the machine; call cpu.stop() and do it after run()"
            )

    def refuse_end(self, what: str) -> None:
        """Raise PowervisorError when called from a hook, or where a machine is `lent`, for what ends its threads."""
        self.refuse(what)
        if getattr(self._local, "lent", False):
            raise PowervisorError(f"{what}: others use the machine here; machine.quit() ends it")

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Whoever uses the machine on this thread meanwhile does not own it."""
        before, self._local.lent = getattr(self._local, "lent", False), True
        try:
            yield
        finally:
            self._local.lent = before

    def raise_error(self) -> None:
        """Raise what the oldest hook raised that nobody was told of."""
        if self._errors:
            raise self._errors.popleft()

    @property
    def failed(self) -> bool:
        """Whether a hook raised something that nobody was told of."""
        return bool(self._errors)

    def _stopped(self, vcpu: Vcpu, exit_: Debug | Watched) -> None:
        cpu = self._machine.cpus[vcpu.index]
        pc, key = cpu.pc, int(vcpu.state.context_key)
        for hook in self._hooks:
            terms = hook.terms
            if isinstance(exit_, Watched):
                if isinstance(terms, Watchpoint) and terms.covers(exit_.address, exit_.write):
                    self._call(hook, cpu, Accessed(cpu, exit_.address, exit_.write))
            elif isinstance(terms, _At) and terms.breakpoint_.address == pc and terms.cpu in (None, vcpu.index):
                if terms.breakpoint_.concerns(key):
                    self._call(hook, cpu, cpu)
            if cpu.pc != pc:  # it is somewhere else now
                return

    def interrupted(self, vcpu: Vcpu, exit_: exits.Interrupt) -> None:
        """An interrupt was taken that somebody asked for, on the vCPU's thread."""
        cpu, source = self._machine.cpus[vcpu.index], None
        vector = cpu.pc
        if exit_.number == IVOR.EXTERNAL:
            source = self._machine.mpic.delivering(vcpu.index)
        event, call = Interrupt(cpu, exit_.number, source), Syscall(cpu, exit_.number)
        for hook in self._hooks:
            terms = hook.terms
            if not isinstance(terms, _Interrupt) or terms.number != exit_.number or cpu.pc != vector:
                continue
            if terms.source in (None, source) and terms.call in (None, call.call) and terms.lpid in (None, cpu.lpid):
                self._call(hook, cpu, call if terms.syscall else event)

    def accessed(self, vcpu: Vcpu, exit_: Mmio) -> bool:
        """Whether hooks took care of a device access, on the vCPU's thread; without the machine's lock."""
        hooks = [hook for hook in self.mmio_hooks if hook.terms.concerns(exit_)]
        if not hooks:
            return False
        machine = self._machine
        cpu = machine.cpus[vcpu.index]

        def read() -> int:
            with machine.lock:
                try:
                    return machine.space.read(exit_.pa, exit_.size, vcpu.index)
                except BusError:
                    access.failed = True
                    return 0

        value = exit_.value if exit_.write else None
        access = Access(cpu, exit_.pa, exit_.size, value, named(machine, exit_.pa), read)
        for hook in hooks:
            if not self._call(hook, cpu, access):
                return True  # the access is made when the machine goes on, and the hooks are asked again
        try:
            self._complete(vcpu, exit_, access)
        except BusError:
            exit_.failed = True
            vcpu.fail_access()
        return True

    def _complete(self, vcpu: Vcpu, exit_: Mmio, access: Access) -> None:
        machine = self._machine
        if access.altered:
            machine.changed()
        with machine.lock:
            if not vcpu.asking:  # reset meanwhile
                return
            if access.failed:
                raise BusError(exit_.pa, exit_.size, exit_.write)
            if exit_.write:
                if not access.dropped:
                    machine.space.write(exit_.pa, exit_.size, access.value, vcpu.index)
                vcpu.complete_write()
            else:
                exit_.value = 0 if access.dropped else access.value
                vcpu.complete_read(exit_.value)

    def left(self, vcpu: Vcpu, exit_: Exit, seconds: float) -> None:
        """An exit was answered, on the vCPU's thread."""
        cpu = self._machine.cpus[vcpu.index]
        for hook in self._hooks:
            if isinstance(hook.terms, _Exit) and (hook.terms.kind is None or isinstance(exit_, hook.terms.kind)):
                self._call(hook, cpu, Exited(cpu, exit_, seconds))


class _ExitObserver:
    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        self._hooks.left(vcpu, exit_, (answered - left) / 1e9)
