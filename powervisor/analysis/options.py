"""What is traced, and of whom: `mmio,irq,device=serial0,file=t.txt`, as -trace and the monitor take it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import UserError, argument
from ..hv.tracing import Trace as Bits
from ..properties import NUMBER, TEXT, Kind, parse, prop
from .symbols import Symbols


def _numbers(text: str) -> tuple[int, ...]:
    if not all(word.isdecimal() for word in text.split(",")):
        raise ValueError("not a number; write cpu=0, and once more for another")
    return tuple(int(word) for word in text.split(","))


_CPUS = Kind("number", _numbers)


@dataclass(frozen=True)
class TraceOptions:
    """Kinds of events, and filters. All filters that are given must agree."""

    insn: bool = prop(False, "each instruction, with the registers it changed")
    irq: bool = prop(False, "interrupts that CPUs take, with their syndrome")
    syscall: bool = prop(False, "system calls (sc), with r0 and r3 to r6")
    hcall: bool = prop(False, "calls of Powervisor as the hypervisor (sc 1), with results")
    mmu: bool = prop(False, "TLB misses, storage faults, changes of PID and partition")
    tlb: bool = prop(False, "TLB entries written and invalidated")
    mmio: bool = prop(False, "device registers read and written, by name with their fields")
    unknown: bool = prop(False, "accesses where no device or no register is, once each")
    line: bool = prop(False, "interrupts that devices raise: pins and messages")
    exit: bool = prop(False, "why CPUs left native code, and how long the answer took")
    wait: bool = prop(False, "CPUs that waited, and how long")
    cpu: tuple[int, ...] = prop((), "only this CPU; may be given more than once", _CPUS, many=True)
    device: str = prop("", "only this device (mmio, unknown, line)", TEXT)
    address: str = prop(
        "", "only FIRST-LAST, FIRST+SIZE or SYMBOL: PC; of mmio and unknown the physical address, of mmu and tlb the "
        "effective one",
    )  # fmt: skip
    lpid: int | None = prop(None, "only this partition; 0: the hypervisor, or a system without one", NUMBER)
    pid: int | None = prop(None, "only while PID is this (the register's value)", NUMBER)
    file: str = prop("", "where the lines go; default standard error")

    @classmethod
    def parse(cls, text: str) -> TraceOptions:
        """From what a user wrote. Raises UserError."""
        where = f"{argument('trace')} {text}"
        options = parse(cls, text, where)
        if not options.kinds:
            kinds = ", ".join(kind_names())
            raise UserError(f"{where}: it says nothing of what to trace; name some of {kinds}")
        return options

    @property
    def kinds(self) -> list[str]:
        """Names of the kinds of events it asks for."""
        return [name for name in kind_names() if getattr(self, name)]

    @property
    def bits(self) -> int:
        """The Trace bits that native code needs."""
        return sum(bit for name, bit in _BITS.items() if getattr(self, name))


_BITS = {
    "insn": Bits.INSN, "irq": Bits.IRQ, "syscall": Bits.SYSCALL, "mmu": Bits.MMU, "tlb": Bits.TLB, "mmio": Bits.MMIO,
    "hcall": Bits.HCALL, "wait": Bits.WAIT,
}  # fmt: skip


def kind_names() -> list[str]:
    """All kinds of events."""
    return [field.name for field in fields(TraceOptions) if field.type == "bool"]


def parse_range(text: str, symbols: Symbols, where: str) -> tuple[int, int]:
    """First and last address of FIRST-LAST, FIRST+SIZE or SYMBOL. Raises UserError."""
    for sign in "-+":
        first, found, second = text.partition(sign)
        if found and (begin := _number(first)) is not None and (end := _number(second)) is not None:
            last = end if sign == "-" else begin + end - 1
            if last < begin:
                raise UserError(f"{where}: address={text} ends before it begins; write it as FIRST-LAST")
            return begin, last
    if (address := _number(text)) is not None:
        return address, address
    try:
        symbol = symbols.named(text)
    except UserError as error:
        raise UserError(f"{where}: address={error}") from None
    return symbol.address, symbol.end - 1


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None
