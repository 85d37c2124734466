"""Events as lines for people."""

from __future__ import annotations

from collections.abc import Callable

from ..hv.exits import Exit, Hcall, Mmio
from ..hv.tracing import Event, TraceEvent
from ..insns import disassemble
from ..isa.epapr import Hcall as Token
from ..isa.epapr import Status
from ..isa.registers import ESR, IVOR, MAS0, MAS1, MAS2, MAS3, MAS5, MAS6, MAS8, MSR, get_field
from ..machine import Machine
from ..machine.places import Place, Places
from ..vcpu.mmu import EXECUTE, READ
from ..vcpu.mmu_ops import ADDRESS, FLASH, IVAX, LPID, PID
from ..vcpu.modes import KEY_GS, KEY_PID
from ..vcpu.sprs import ROWS
from ..vcpu.trace import (
    CR_NUMBER,
    FPR_NUMBER,
    MOVED_NUMBER,
    MSR_NUMBER,
    MTSPR,
    MTSPR_MASK,
    NO_NUMBER,
    SPR_NUMBER,
    TRACED_SPRS,
    VALUES,
    VR_NUMBER,
    XER_NUMBER,
)
from .symbols import Symbols


class Kind:
    """Kinds of events of the machine half, beside TraceEvent's."""

    ACCESS = 100  # args: the Mmio
    HCALL = 101  # args: the Hcall, results
    EXIT = 102  # args: the Exit, when it was entered, left, answered
    LINE = 103  # args: device, pin, level


LOW = 0xFFFF_FFFF
INTERRUPTS = {value: name for name, value in vars(IVOR).items() if name.isupper()}
"""Interrupts by the n of IVORn."""
_TOKENS = {value: name for name, value in vars(Token).items() if name.isupper()}
_STATUSES = {value: name for name, value in vars(Status).items() if name.isupper()}
_SPRS = {row.number: row.name.lower() for row in ROWS}
_WITH_SYNDROME = (
    IVOR.DATA_STORAGE, IVOR.INSTRUCTION_STORAGE, IVOR.ALIGNMENT, IVOR.PROGRAM, IVOR.DATA_TLB, IVOR.LRAT_ERROR,
)  # fmt: skip
_WITH_ADDRESS = (IVOR.DATA_STORAGE, IVOR.ALIGNMENT, IVOR.DATA_TLB, IVOR.LRAT_ERROR)


def key_lpid(key: int) -> int:
    """The partition of a context: LPID in guest state, else 0."""
    return key >> 32 & 0xFF if key & KEY_GS else 0


def key_pid(key: int) -> int:
    """The PID of a context."""
    return (key & KEY_PID) >> 8


class Formatter:
    """Lines of a machine's events: seconds of guest time, CPU, kind, and what happened."""

    def __init__(self, machine: Machine, symbols: Symbols) -> None:
        self._machine, self._symbols = machine, symbols
        self.places = Places(machine.space)
        core = machine.vm.core
        self._core, self._digits = core, 16 if core.bits == 64 else 8
        self._word = (1 << core.bits) - 1
        self._texts: dict[tuple[int, int], str] = {}
        self._formats: dict[int, tuple[str, Callable[[Event], str]]] = {
            TraceEvent.INSN: ("insn", self._insn),
            TraceEvent.INTERRUPT: ("irq", self._interrupt),
            TraceEvent.SYSCALL: ("syscall", self._syscall),
            TraceEvent.MISS: ("mmu", self._miss),
            TraceEvent.FAULT: ("mmu", self._fault),
            TraceEvent.CONTEXT: ("mmu", self._context),
            TraceEvent.TLB_WRITE: ("tlb", self._tlb_write),
            TraceEvent.WALK: ("tlb", self._walk),
            TraceEvent.INVALIDATE: ("tlb", self._invalidate),
            TraceEvent.MMIO: ("mmio", self._native_access),
            TraceEvent.HCALL: ("hcall", self._native_hcall),
            TraceEvent.WAIT: ("wait", self._wait),
            Kind.ACCESS: ("mmio", self._access),
            Kind.HCALL: ("hcall", self._hcall),
            Kind.EXIT: ("exit", self._exit),
            Kind.LINE: ("line", self._line),
        }

    def seconds(self, moment: int) -> float:
        """Guest time, from the machine's power-on, of a moment of the host's clock."""
        vm = self._machine.vm.state
        return (moment - int(vm.timebase_start) - int(vm.clock_pause)) / 1e9

    def line(self, event: Event) -> str:
        """One event. What an instruction changed beyond one record is in `changes`."""
        name, text = self._formats[event.kind]
        who = f"cpu{event.cpu}" if event.cpu >= 0 else "-"
        return f"{self.seconds(event.time):.9f} {who:<5} {name:<7} {text(event)}".rstrip()

    def at(self, event: Event, address: int | None = None) -> str:
        """An address (PC, without one) with its symbol."""
        where = event.pc if address is None else address
        return f"{where:08x}{self._symbols.text(where, key_pid(event.key), key_lpid(event.key))}"

    def _space(self, key: int) -> str:
        lpid = f"lpid {key_lpid(key)} " if key & KEY_GS else ""
        return f"{lpid}pid {key_pid(key)}"

    # ---- native code -------------------------------------------------------------------------------------------------

    def _insn(self, event: Event) -> str:
        word = event.detail
        text = self._texts.get((word, event.pc))
        if text is None:
            if len(self._texts) > 50_000:
                self._texts.clear()
            text = self._texts[word, event.pc] = disassemble(word, event.pc, self._core)
        changed = self.changes(event)
        return f"{self.at(event)}  {word:08x}  {text:<24}{'  ' + changed if changed else ''}"

    def changes(self, event: Event) -> str:
        """The registers that an instruction changed, `r3=00000001 cr=..`, of one record."""
        numbers, *values = event.args
        shown: dict[str, str] = {}
        for n in range(VALUES):
            number = numbers >> 8 * n & 0xFF
            if number != NO_NUMBER:
                name, value = self._register(number, values[n], event.detail)
                if number != MOVED_NUMBER or name not in shown:
                    shown[name] = shown.get(name, "") + value  # a vector register comes in halves
        return " ".join(f"{name}={value}" for name, value in shown.items())

    def _register(self, number: int, value: int, word: int) -> tuple[str, str]:
        wide = f"{value & self._word:0{self._digits}x}"
        if number < CR_NUMBER:
            return f"r{number}", wide
        if number == CR_NUMBER:
            return "cr", "".join(f"{byte:x}" for byte in value.to_bytes(8, "little"))
        if number == XER_NUMBER:
            so, ov, ca, count = value.to_bytes(4, "little")
            return "xer", f"{so << 31 | ov << 30 | ca << 29 | count:08x}"
        if number == MSR_NUMBER:
            return "msr", f"{value:08x}"
        if number == MOVED_NUMBER and word & MTSPR_MASK == MTSPR:
            spr = word >> 16 & 31 | word >> 6 & 0x3E0
            return _SPRS.get(spr, f"spr{spr}"), wide
        if number >= SPR_NUMBER:
            spr = int(TRACED_SPRS[number - SPR_NUMBER])
            return _SPRS.get(spr, f"spr{spr}"), wide
        if number >= VR_NUMBER:
            return f"v{number - VR_NUMBER}", f"{value:016x}"
        return f"f{number - FPR_NUMBER}", f"{value:016x}"

    def _interrupt(self, event: Event) -> str:
        vector, before, syndrome, address, after = event.args
        name = INTERRUPTS.get(event.detail, f"IVOR{event.detail}")
        parts = [f"{name} at {self.at(event)}, vector {self.at(event, vector)}"]
        if event.detail in _WITH_SYNDROME:
            parts.append(f"esr {ESR.describe(syndrome)}")
        if event.detail in _WITH_ADDRESS:
            parts.append(f"dear {address:x}")
        parts.append(f"{self._space(event.key)}, msr {MSR.describe(before)}")
        return ", ".join(parts) + (" to the guest" if after & MSR.GS else "")

    def _syscall(self, event: Event) -> str:
        number, *arguments = event.args
        given = " ".join(f"r{3 + n}={value & self._word:x}" for n, value in enumerate(arguments))
        return f"{number & LOW} at {self.at(event)}, {given}, {self._space(event.key)}"

    def _kind(self, kind: int) -> str:
        return "fetch" if kind == EXECUTE else "load" if kind == READ else "store"

    def _miss(self, event: Event) -> str:
        address, _, space, *_ = event.args
        fields = f"as {space & 1}{' user' if space & 2 else ''}"
        guest = f" lpid {space >> 32 & 0xFF}" if space & 4 else ""
        where = f"{fields}{guest} pid {space >> 8 & 0x3FFF}"
        return f"TLB miss, {self._kind(event.detail)} {address:x} ({where}) at {self.at(event)}"

    def _fault(self, event: Event) -> str:
        address, syndrome, *_ = event.args
        bits = f", esr {ESR.describe(syndrome)}" if syndrome else ""
        return (
            f"storage fault, {self._kind(event.detail)} {address:x} at {self.at(event)}{bits}, {self._space(event.key)}"
        )

    def _context(self, event: Event) -> str:
        return f"{self._context_name(event.key)} -> {self._context_name(event.args[0])} at {self.at(event)}"

    def _context_name(self, key: int) -> str:
        mode = "user" if key & 4 else "guest" if key & KEY_GS else "supervisor"
        return f"{mode} {self._space(key)} IS={key & 1} DS={key >> 1 & 1}"

    def _entry(self, event: Event) -> str:
        address, pa, first, second, mask = event.args
        mas1, mas2, mas3, mas8 = first >> 32, first & LOW, second >> 32, second & LOW
        rights = "".join(
            letter if mas3 & bit else "-"
            for letter, bit in zip("rwxrwx", (MAS3.UR, MAS3.UW, MAS3.UX, MAS3.SR, MAS3.SW, MAS3.SX), strict=True)
        )
        attributes = "".join(
            letter for letter, bit in zip("WIMGE", (MAS2.W, MAS2.I, MAS2.M, MAS2.G, MAS2.E), strict=True) if mas2 & bit
        )
        guest = f" lpid {get_field(mas8, MAS8.TLPID)}{' gs' if mas8 & MAS8.TGS else ''}" if mas8 else ""
        state = "" if mas1 & MAS1.V else "invalid: "
        return (
            f"{state}{address:x} -> {pa:x}, {_size(mask + 1)}, {rights[:3]}/{rights[3:]} {attributes or '-'}"
            f" as {get_field(mas1, MAS1.TS)} tid {get_field(mas1, MAS1.TID)}{guest}{' IND' if mas1 & MAS1.IND else ''}"
            f"{' IPROT' if mas1 & MAS1.IPROT else ''}"
        )

    def _tlb_write(self, event: Event) -> str:
        tlb, entry = get_field(event.detail, MAS0.TLBSEL), get_field(event.detail, MAS0.ESEL)
        return f"tlbwe TLB{min(tlb, 1)}[{entry}] {self._entry(event)} at {self.at(event)}"

    def _walk(self, event: Event) -> str:
        return f"table walk {self._entry(event)} at {self.at(event)}"

    def _invalidate(self, event: Event) -> str:
        address, mas5, mas6, *_ = event.args
        where = f"lpid {get_field(mas5, MAS5.SLPID)}"
        process = f"{where} pid {get_field(mas6, MAS6.SPID)}"
        what = {
            LPID: f"tlbilxlpid {where}", PID: f"tlbilxpid {process}", ADDRESS: f"tlbilxva {address:x} {process}",
            IVAX: f"tlbivax {address:x}", FLASH: f"MMUCSR0 flash invalidate 0x{address:x}",
        }  # fmt: skip
        return f"{what.get(event.detail, f'tlbilx {event.detail}')} at {self.at(event)}"

    def _native_access(self, event: Event) -> str:
        pa, value, write, *_ = event.args
        return self._accessed(event, pa, event.detail, value, bool(write), False)

    def _native_hcall(self, event: Event) -> str:
        arguments = " ".join(f"{value & LOW:x}" for value in event.args[:4])
        return f"{_TOKENS.get(event.detail, hex(event.detail))} {arguments} at {self.at(event)}"

    def _wait(self, event: Event) -> str:
        return f"{(event.time - event.args[0]) / 1000:.0f} us at {self.at(event)}"

    # ---- the machine half --------------------------------------------------------------------------------------------

    def _access(self, event: Event) -> str:
        exit_: Mmio = event.args[0]
        return self._accessed(event, exit_.pa, exit_.size, exit_.value, exit_.write, exit_.failed)

    def _accessed(self, event: Event, pa: int, size: int, value: int, write: bool, failed: bool) -> str:
        place = self.places.find(pa, size)
        return f"{access(place, pa, size, value, write, failed)} at {self.at(event)}"

    def _hcall(self, event: Event) -> str:
        exit_, *results = event.args
        assert isinstance(exit_, Hcall)
        arguments = " ".join(f"{value:x}" for value in exit_.arguments)
        status, *values = (value & LOW for value in results)
        answer = " ".join([_STATUSES.get(status, str(status)), *(f"{value:x}" for value in values)])
        return f"{_TOKENS.get(exit_.token, hex(exit_.token))} {arguments} -> {answer} at {self.at(event)}"

    def _exit(self, event: Event) -> str:
        exit_, entered, left, answered = event.args
        return (
            f"{exit_name(exit_)} at {self.at(event)}, after {(left - entered) / 1000:.1f} us, "
            f"answered in {(answered - left) / 1000:.1f} us"
        )

    def _line(self, event: Event) -> str:
        device, pin, level = event.args
        return f"{device} {pin} {'raised' if level else 'lowered'}"


def exit_name(exit_: Exit) -> str:
    """A word for an exit, as statistics have it."""
    return type(exit_).__name__.lower()


def access(place: Place | None, pa: int, size: int, value: int, write: bool, failed: bool) -> str:
    """`write serial0.lcr = 0x83 word_length=3 dlab`, for an access that was made."""
    doing = "write" if write else "read"
    if place is None:
        return f"{doing} 0x{pa:x} ({size} bytes): nothing is there{', machine check' if failed else ''}"
    return f"{doing} {place.name} = {place.describe(value, size, write)}"


def _size(size: int) -> str:
    return next(f"{size >> shift} {unit}iB" for unit, shift in (("G", 30), ("M", 20), ("K", 10)) if size >> shift)
