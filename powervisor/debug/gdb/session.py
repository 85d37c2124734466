"""What a connected gdb asks for: registers, memory, stops, threads (gdb manual, "Remote Protocol").

Each vCPU is a thread, numbered from 1; `processes` says of which processes. All of them stop together.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ...hv.exits import Watched
from ...hv.stops import Breakpoint, Watchpoint
from ...hv.vcpu import Vcpu
from ...machine.memory import Unmapped
from ..control import Control, Stop
from ..history import Interrupted
from .documents import memory_map, memory_table, processes_table, types_table
from .packets import LONGEST, escaped, unescaped
from .processes import GUEST, Processes, ThreadId
from .target import target_of

INTERRUPTED, TRAPPED = 2, 5
"""SIGINT and SIGTRAP, by which gdb knows why a program stopped."""
_FAULT, _SYNTAX, _UNKNOWN = b"E14", b"E22", b""
_SUPPORTED = (
    b"PacketSize=%x;QStartNoAckMode+;multiprocess+;swbreak+;hwbreak+;vContSupported+;qXfer:features:read+;"
    b"qXfer:memory-map:read+;qXfer:osdata:read+" % LONGEST
)
_REVERSE = b";ReverseStep+;ReverseContinue+"


class Detached(Exception):
    """gdb is done with the machine; `kill` says whether the machine is to end."""

    def __init__(self, kill: bool) -> None:
        super().__init__()
        self.kill = kill


class Session:
    """Answers packets. While `running`, there is no answer before the machine stops."""

    def __init__(self, control: Control, monitor: Callable[[str], str], interrupted: Callable[[], bool]) -> None:
        """`monitor` executes lines; `interrupted` says whether gdb wants to hear at once where the machine is."""
        self.control, self._interrupted = control, interrupted
        self.target = target_of(control.vcpus[0].core)
        self.running = False
        self.no_acknowledge = False
        self._monitor = monitor
        self.processes = Processes(control)
        self._chosen = {b"g": control.vcpus[0], b"c": control.vcpus[0]}
        self._process = GUEST
        """Whose registers, memory and breakpoints gdb means."""
        self._extended = False
        self._last = Stop(control.vcpus[0], None)
        self._multiprocess = False
        self._documents: dict[tuple[bytes, bytes], Callable[[], str]] = {
            (b"features", b"target.xml"): self.target.xml,
            (b"memory-map", b""): lambda: memory_map(control),
            (b"osdata", b""): types_table,
            (b"osdata", b"memory"): lambda: memory_table(control),
            (b"osdata", b"processes"): lambda: processes_table(control, self.processes),
        }
        self._document = b""
        self._inserted: set[Breakpoint] = set()
        """Breakpoints that gdb itself has set, and `monitor break` has not."""

    # ---- stops -----------------------------------------------------------------------------------------------------

    def stopped(self, stop: Stop, signal: int = TRAPPED) -> bytes:
        """The reply that tells where the machine stopped."""
        self.running = False
        self._last = stop
        self._chosen = dict.fromkeys(self._chosen, stop.vcpu)
        self._process = self.processes.of(stop.vcpu)
        reason = b""
        if isinstance(stop.why, Watched):
            kinds = {w for w in self.control.watchpoints if w.address <= stop.why.address < w.address + w.length}
            both = any(w.reads and w.writes for w in kinds)
            word = b"awatch" if both else b"watch" if stop.why.write else b"rwatch"
            reason = b"%s:%x;" % (word, stop.why.address)
        elif stop.why is not None and self._is_own(stop.vcpu):
            reason = b"swbreak:;"
        return b"T%02x%sthread:%s;" % (signal, reason, self._thread(self._process, stop.vcpu))

    def _is_own(self, vcpu: Vcpu) -> bool:
        """Whether gdb knows of a breakpoint where a vCPU is; it goes on from one that it took away itself."""
        pc, key = int(vcpu.state.pc), int(vcpu.state.context_key)
        return any(stop.address == pc and stop.concerns(key) for stop in self._inserted)

    def ended(self) -> bytes:
        """The reply when the machine has ended by itself."""
        self.running = False
        return b"W00"

    @property
    def current(self) -> Vcpu:
        """The vCPU that gdb is looking at."""
        return self._chosen[b"g"]

    def _thread(self, process: int, vcpu: Vcpu) -> bytes:
        return b"p%x.%x" % (process, vcpu.index + 1) if self._multiprocess else b"%x" % (vcpu.index + 1)

    def _find(self, text: bytes) -> tuple[int, Vcpu] | None:
        """Process and vCPU of a thread-id; None for one that is not there. Raises ValueError."""
        return self.processes.find(ThreadId.parse(text), self._chosen[b"g"])

    # ---- packets ---------------------------------------------------------------------------------------------------

    def answer(self, packet: bytes) -> bytes | None:
        """The reply; None when it comes once the machine stops. Raises Detached."""
        for prefix, method in _COMMANDS:
            if packet.startswith(prefix):
                try:
                    return method(self, packet[len(prefix) :])
                except Unmapped:
                    return _FAULT
                except (ValueError, IndexError, KeyError):
                    return _SYNTAX
        return _UNKNOWN

    def _supported(self, text: bytes) -> bytes:
        self._multiprocess = b"multiprocess+" in text
        return _SUPPORTED + (_REVERSE if self.control.history is not None else b"")

    def _start_no_acknowledge(self, _: bytes) -> bytes:
        self.no_acknowledge = True
        return b"OK"

    def _why(self, _: bytes) -> bytes:
        return self.stopped(self._last) if self.processes.attached else b"W00"

    def _extend(self, _: bytes) -> bytes:
        self._extended = True
        return b"OK"

    def _attach(self, text: bytes) -> bytes:
        """vAttach: the machine, or a partition of a hypervisor in it; it is stopped then."""
        process = int(text, 16)
        if process in self.processes.attached or not self.processes.attach(process):
            return b"E01"
        self.control.hold()
        vcpu = self.processes.inside(process, self._chosen[b"g"]) or self._chosen[b"g"]
        self._process = process
        return b"T%02xthread:%s;" % (0, self._thread(process, vcpu))

    def _attached(self, _: bytes) -> bytes:
        return b"1"

    def _current(self, _: bytes) -> bytes:
        return b"QC" + self._thread(self._process, self._chosen[b"g"])

    def _first_threads(self, _: bytes) -> bytes:
        return b"m" + b",".join(self._thread(process, vcpu) for process, vcpu in self.processes.threads())

    def _more_threads(self, _: bytes) -> bytes:
        return b"l"

    def _extra_info(self, text: bytes) -> bytes:
        found = self._find(text)
        if found is None:
            return _SYNTAX
        process, vcpu = found
        state = "held" if vcpu.halted else "waiting" if int(vcpu.state.waiting) else "runs"
        if self.processes.of(vcpu) != process:
            state = "in another process"
        where = "" if process == GUEST else f"partition {process - 1}, "
        return f"{where}CPU {vcpu.index} [{state}]".encode().hex().encode()

    def _choose(self, text: bytes) -> bytes:
        found = self._find(text[1:])
        if found is None or text[:1] not in self._chosen:
            return _SYNTAX
        process, self._chosen[text[:1]] = found
        if text[:1] == b"g":
            self._process = process
        return b"OK"

    def _alive(self, text: bytes) -> bytes:
        return b"OK" if self._find(text) is not None else _SYNTAX

    # ---- registers -------------------------------------------------------------------------------------------------

    def _read_registers(self, _: bytes) -> bytes:
        vcpu = self._chosen[b"g"]
        return b"".join(self._register(vcpu, number) for number in range(len(self.target.registers)))

    def _register(self, vcpu: Vcpu, number: int) -> bytes:
        register = self.target.registers[number]
        if self.processes.of(vcpu) != self._process:
            return b"x" * (register.bits // 4)
        return b"%0*x" % (register.bits // 4, vcpu.regs[register.ours] & (1 << register.bits) - 1)

    def _write_registers(self, text: bytes) -> bytes:
        vcpu, at = self._here(), 0
        for register in self.target.registers:
            digits = text[at : at + register.bits // 4]
            at += len(digits)
            value = int(digits, 16) if digits else None
            if value is not None and value != vcpu.regs[register.ours]:
                self._set(vcpu, register.ours, value)
        return b"OK"

    def _set(self, vcpu: Vcpu, register: str, value: int) -> None:
        vcpu.regs[register] = value
        self.control.changed()

    def _read_register(self, text: bytes) -> bytes:
        return self._register(self._chosen[b"g"], int(text, 16))

    def _write_register(self, text: bytes) -> bytes:
        number, _, value = text.partition(b"=")
        self._set(self._here(), self.target.registers[int(number, 16)].ours, int(value, 16))
        return b"OK"

    def _here(self) -> Vcpu:
        """The chosen vCPU. Raises Unmapped when it executes another process than the chosen one."""
        vcpu = self._chosen[b"g"]
        if self.processes.of(vcpu) != self._process:
            raise Unmapped(f"cpu{vcpu.index} executes another process")
        return vcpu

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _through(self) -> Vcpu:
        """A vCPU by whose translations the chosen process sees memory. Raises Unmapped when none executes it."""
        vcpu = self.processes.inside(self._process, self._chosen[b"g"])
        if vcpu is None:
            raise Unmapped(f"no vCPU executes process {self._process}")
        return vcpu

    def _read_memory(self, text: bytes) -> bytes:
        address, length = (int(part, 16) for part in text.split(b","))
        return self.control.read(self._through(), address, min(length, LONGEST // 2)).hex().encode()

    def _write_memory(self, text: bytes) -> bytes:
        where, _, digits = text.partition(b":")
        return self._store(where, bytes.fromhex(digits.decode("ascii")))

    def _write_binary(self, text: bytes) -> bytes:
        where, _, data = text.partition(b":")
        return self._store(where, unescaped(data))

    def _store(self, where: bytes, data: bytes) -> bytes:
        address, length = (int(part, 16) for part in where.split(b","))
        if length != len(data):
            return _SYNTAX
        self.control.write(self._through(), address, data)
        return b"OK"

    # ---- breakpoints -----------------------------------------------------------------------------------------------

    def _insert(self, text: bytes) -> bytes:
        return self._change(text, set.add)

    def _remove(self, text: bytes) -> bytes:
        return self._change(text, set.discard)

    def _change(self, text: bytes, change: Callable[[set[object], object], None]) -> bytes:
        kind, address, length = (int(part, 16) for part in text.split(b";")[0].split(b","))
        match kind:
            case 0 | 1:
                stop = Breakpoint(address & ~3, self.processes.lpid(self._process))
                change(self.control.breakpoints, stop)  # type: ignore[arg-type]
                change(self._inserted, stop)  # type: ignore[arg-type]
            case 2 | 3 | 4 if 0 < length <= 1 << 20:
                watch = Watchpoint(address, length, reads=kind != 2, writes=kind != 3)
                change(self.control.watchpoints, watch)  # type: ignore[arg-type]
            case _:
                return _UNKNOWN
        return b"OK"

    # ---- going on --------------------------------------------------------------------------------------------------

    def _actions(self, _: bytes) -> bytes:
        return b"vCont;c;C;s;S;t"

    def _continue_by_thread(self, text: bytes) -> bytes | None:
        """vCont: the first action that names a thread, or no thread, is that thread's."""
        actions: dict[int, bytes] = {}
        for action in text.lstrip(b";").split(b";"):
            word, _, thread = action.partition(b":")
            if not re.fullmatch(rb"[cs]|[CS][0-9a-fA-F]{2}|t", word):
                return _SYNTAX
            wanted = ThreadId.parse(thread)
            for process, vcpu in self.processes.threads():
                if wanted.process in (None, process) and wanted.thread in (None, vcpu.index + 1):
                    actions.setdefault(vcpu.index, word[:1].lower())
        stepping = [index for index, word in actions.items() if word == b"s"]
        if stepping:
            others = b"c" in actions.values() or len(stepping) > 1
            chosen = self._chosen[b"c"].index
            number = chosen if chosen in stepping else stepping[0]
            return self._step(self.control.vcpus[number], others)
        if b"c" not in actions.values():
            return self.stopped(self._last)
        self._continue(b"")
        return None

    def _continue(self, text: bytes) -> None:
        if text:
            self._set(self._chosen[b"c"], "pc", int(text, 16))
        self.running = True
        self.control.go()

    def _continue_with_signal(self, text: bytes) -> None:
        self._continue(text.partition(b";")[2])

    def _step_at(self, text: bytes) -> bytes:
        if text:
            self._set(self._chosen[b"c"], "pc", int(text, 16))
        return self._step(self._chosen[b"c"], False)

    def _step(self, vcpu: Vcpu, others: bool) -> bytes:
        stop = self.control.step(vcpu, others)
        return self.ended() if self.control.machine.ended else self.stopped(stop)

    def _step_back(self, _: bytes) -> bytes:
        return self._back(lambda: self.control.step_back(self._chosen[b"c"]))

    def _continue_back(self, _: bytes) -> bytes:
        try:
            return self._back(lambda: self.control.go_back(self._interrupted))
        except Interrupted:
            return self.stopped(Stop(self._chosen[b"c"], None), INTERRUPTED)

    def _back(self, go: Callable[[], Stop | None]) -> bytes:
        if self.control.history is None:
            return _UNKNOWN
        stop = go()
        if stop is None:
            thread = self._thread(self._process, self._chosen[b"c"])
            return b"T%02xreplaylog:begin;thread:%s;" % (TRAPPED, thread)
        return self.stopped(stop)

    # ---- the rest --------------------------------------------------------------------------------------------------

    def _transfer(self, text: bytes) -> bytes:
        kind, verb, annex, where = text.split(b":")
        offset, length = (int(part, 16) for part in where.split(b","))
        make = self._documents.get((kind, annex))
        if make is None or verb != b"read":
            return b"E00"
        if not offset:  # one that changes is told as it was at its beginning
            self._document = make().encode()
        piece = self._document[offset : offset + min(length, LONGEST // 2)]
        return (b"l" if offset + len(piece) >= len(self._document) else b"m") + escaped(piece)

    def _command(self, text: bytes) -> bytes:
        line = bytes.fromhex(text.decode("ascii")).decode(errors="replace")
        output = self._monitor(line)
        return output.encode().hex().encode() if output else b"OK"

    def _detach(self, text: bytes) -> bytes:
        """Of a process, or of all; what is connected in extended mode stays to attach again."""
        if not self.processes.detach(int(text[1:], 16) if text else None):
            return b"OK"
        if not self._extended:
            raise Detached(kill=False)
        self._inserted.clear()
        self.control.detach()
        return b"OK"

    def _kill(self, text: bytes) -> bytes:
        if text.startswith(b";") and int(text[1:], 16) != GUEST:  # partitions are the hypervisor's
            return b"E01"
        raise Detached(kill=True)


Handler = Callable[[Session, bytes], bytes | None]

_COMMANDS: list[tuple[bytes, Handler]] = [
    (b"qSupported", Session._supported), (b"QStartNoAckMode", Session._start_no_acknowledge),
    (b"qXfer:", Session._transfer), (b"qRcmd,", Session._command), (b"qAttached", Session._attached),
    (b"qC", Session._current), (b"qfThreadInfo", Session._first_threads), (b"qsThreadInfo", Session._more_threads),
    (b"qThreadExtraInfo,", Session._extra_info), (b"vCont?", Session._actions), (b"vCont", Session._continue_by_thread),
    (b"!", Session._extend), (b"vAttach;", Session._attach), (b"vKill", Session._kill),
    (b"?", Session._why), (b"g", Session._read_registers), (b"G", Session._write_registers),
    (b"p", Session._read_register), (b"P", Session._write_register), (b"m", Session._read_memory),
    (b"M", Session._write_memory), (b"X", Session._write_binary), (b"Z", Session._insert), (b"z", Session._remove),
    (b"H", Session._choose), (b"T", Session._alive), (b"c", Session._continue), (b"C", Session._continue_with_signal),
    (b"s", Session._step_at), (b"bs", Session._step_back), (b"bc", Session._continue_back), (b"D", Session._detach),
    (b"k", Session._kill),
]  # fmt: skip
