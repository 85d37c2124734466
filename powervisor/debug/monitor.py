"""The monitor: commands that people type at a machine, in gdb (`monitor ...`) and elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from ..errors import PowervisorError, UserError
from ..hv.stops import Breakpoint
from ..hv.vcpu import Vcpu
from ..insns import disassemble
from ..isa.registers import MAS1, MAS2, MAS3, MAS8, get_field
from ..machine import Machine
from ..vcpu.sprs import LPIDS
from .control import Control, Unmapped

Command = Callable[["Monitor", list[str]], str]
_UNITS = {"b": 1, "h": 2, "w": 4, "g": 8}
_MOST = 4096
MAX_LPID = LPIDS


class Monitor:
    """Executes lines; what they ask for comes back as text. The machine is held meanwhile."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.vcpu: Vcpu = control.vcpus[0]

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.control.machine

    def execute(self, line: str) -> str:
        """The answer to a line, errors included; it ends with a line end unless it is empty."""
        try:
            words = shlex.split(line)
            text = self._execute(words) if words else ""
        except (PowervisorError, ValueError) as error:
            text = f"{line.strip()}: {error}"
        return text if not text or text.endswith("\n") else f"{text}\n"

    def _execute(self, words: list[str]) -> str:
        for length in (2, 1):
            name = " ".join(words[:length])
            if name in COMMANDS:
                return COMMANDS[name][0](self, words[length:])
        raise UserError("no such command; help lists them")

    # ---- looking ---------------------------------------------------------------------------------------------------

    def help(self, _: list[str]) -> str:
        """Every command."""
        width = max(len(usage) for _, usage, _ in COMMANDS.values())
        return "\n".join(f"{usage:{width}}  {summary}" for _, usage, summary in COMMANDS.values())

    def cpu(self, words: list[str]) -> str:
        """Choose a vCPU."""
        if words:
            self.vcpu = self._vcpu(words[0])
        return f"cpu{self.vcpu.index}"

    def _vcpu(self, text: str) -> Vcpu:
        if not text.isdecimal() or int(text) >= len(self.control.vcpus):
            raise UserError(f"there are cpus 0 to {len(self.control.vcpus) - 1}")
        return self.control.vcpus[int(text)]

    def info_registers(self, words: list[str]) -> str:
        """General and interrupt registers, or those that are named."""
        if words:
            return "\n".join(f"{word} 0x{self.vcpu.regs[word]:x}" for word in words)
        return self.vcpu.regs.dump()

    def info_cpus(self, _: list[str]) -> str:
        """Where each vCPU is."""
        lines = []
        for vcpu in self.control.vcpus:
            state = "held" if vcpu.halted else "waits" if int(vcpu.state.waiting) else "runs"
            lines.append(f"cpu{vcpu.index}: pc 0x{vcpu.regs['pc']:x}, {state}, {vcpu.instructions} instructions")
        return "\n".join(lines)

    def info_tlb(self, _: list[str]) -> str:
        """Valid entries of the core's TLBs."""
        tlb, core = self.vcpu.state.tlb, self.vcpu.engine.core
        lines = ["TLB  n    effective         physical     size  as tid  lpid  gs wimge  user sup"]
        for name, entries, count in (("0", tlb.tlb0, core.tlb0_entries), ("1", tlb.tlb1, core.tlb1_entries)):
            lines += [f"{name:3} {n:4} {_entry(entries[n])}" for n in range(count) if int(entries[n].valid)]
        return "\n".join(lines)

    def info_mtree(self, _: list[str]) -> str:
        """What is where in the physical address space."""
        rows = [(0, self.machine.ram.size, "RAM")]
        rows += [(window.base, window.size, window.name) for window in self.machine.space.windows]
        return "\n".join(f"{base:010x}-{base + size - 1:010x} {name}" for base, size, name in sorted(rows))

    def info_exits(self, _: list[str]) -> str:
        """Why vCPUs came back, and what they count."""
        lines = []
        for vcpu in self.control.vcpus:
            lines.append(f"cpu{vcpu.index}")
            counts = {f"exit {reason}": count for reason, count in vcpu.exit_counts().items()} | vcpu.counters()
            lines += [f"  {name:24}{count:>16}" for name, count in counts.items() if count]
        return "\n".join(lines)

    def x(self, words: list[str]) -> str:
        """Memory as the chosen vCPU sees it."""
        return self._examine(words, lambda at, length: self.control.read(self.vcpu, at, length))

    def xp(self, words: list[str]) -> str:
        """Physical memory."""
        return self._examine(words, self.control.read_physical)

    def _examine(self, words: list[str], read: Callable[[int, int], bytes]) -> str:
        how = words.pop(0)[1:] if words and words[0].startswith("/") else ""
        digits = "".join(letter for letter in how if letter.isdecimal())
        letters = how.removeprefix(digits)
        if len(words) != 1 or set(letters) - set("xibhwg"):
            raise UserError("write x /COUNTxw ADDRESS (b, h, w or g for 1, 2, 4 or 8 bytes; i for instructions)")
        at, count = self._number(words[0]), min(int(digits or 1), _MOST)
        if "i" in letters:
            data = read(at, 4 * count)
            codes = [(at + n, int.from_bytes(data[n : n + 4], "big")) for n in range(0, len(data) - 3, 4)]
            return "\n".join(f"0x{where:x}: {word:08x}  {disassemble(word, where)}" for where, word in codes)
        size = next((_UNITS[letter] for letter in letters if letter in _UNITS), 4)
        data = read(at, size * count)
        values = [data[n : n + size].hex() for n in range(0, len(data), size)]
        each = max(16 // size, 1)
        rows = range(0, len(values), each)
        return "\n".join(f"0x{at + size * n:x}: {' '.join(values[n : n + each])}" for n in rows)

    def _number(self, text: str) -> int:
        """A number, or a register's value ($pc)."""
        return self.vcpu.regs[text[1:]] if text.startswith("$") else int(text, 0)

    def translate(self, words: list[str]) -> str:
        """Where an effective address leads."""
        if len(words) != 1:
            raise UserError("write gva2gpa ADDRESS")
        pa = self.vcpu.translate(self._number(words[0]))
        if pa is None:
            raise Unmapped("no translation now")
        return f"0x{pa:x}"

    # ---- breakpoints of partitions -----------------------------------------------------------------------------------

    def break_(self, words: list[str]) -> str:
        """Stop where gdb's own breakpoints would, but in one partition only."""
        match words:
            case [address, "lpid", number] if number.isdecimal() and int(number) <= MAX_LPID:
                self.control.breakpoints.add(Breakpoint(self._number(address) & ~3, int(number)))
            case [address]:
                self.control.breakpoints.add(Breakpoint(self._number(address) & ~3))
            case _:
                raise UserError(f"write break ADDRESS [lpid N] (0 is the hypervisor, partitions are 1 to {MAX_LPID})")
        return self.info_breakpoints([])

    def delete(self, words: list[str]) -> str:
        """Take breakpoints away: of an address, or all."""
        if len(words) > 1:
            raise UserError("write delete [ADDRESS]")
        keep = {b for b in self.control.breakpoints if words and b.address != self._number(words[0]) & ~3}
        self.control.breakpoints.intersection_update(keep)
        return self.info_breakpoints([])

    def info_breakpoints(self, _: list[str]) -> str:
        """All there are, gdb's own as well."""
        lines = [
            f"0x{b.address:x}" + ("" if b.lpid is None else f" lpid {b.lpid}")
            for b in sorted(self.control.breakpoints, key=lambda b: (b.address, -1 if b.lpid is None else b.lpid))
        ]
        return "\n".join(lines) or "no breakpoints"

    # ---- doing -----------------------------------------------------------------------------------------------------

    def system_reset(self, _: list[str]) -> str:
        """As the board's reset button."""
        self.machine.reset()
        return ""

    def quit(self, _: list[str]) -> str:
        """End the machine."""
        self.machine.quit()
        return ""


def _entry(entry: Any) -> str:
    mas1, mas2, mas3, mas8 = (int(getattr(entry, name)) for name in ("mas1", "mas2", "mas3", "mas8"))
    size = int(entry.mask) + 1
    shown = next(f"{size >> shift}{unit}" for unit, shift in (("G", 30), ("M", 20), ("K", 10)) if size >> shift)
    rights = [
        "".join(letter if mas3 & bit else "-" for letter, bit in zip("rwx", bits, strict=True))
        for bits in ((MAS3.UR, MAS3.UW, MAS3.UX), (MAS3.SR, MAS3.SW, MAS3.SX))
    ]
    attributes = "".join(
        letter if mas2 & bit else "-"
        for letter, bit in zip("wimge", (MAS2.W, MAS2.I, MAS2.M, MAS2.G, MAS2.E), strict=True)
    )
    return (
        f"{int(entry.ea):016x} {int(entry.pa):010x} {shown:>6}  {get_field(mas1, MAS1.TS):>2} "
        f"{get_field(mas1, MAS1.TID):>4} {get_field(mas8, MAS8.TLPID):>4}  {get_field(mas8, MAS8.TGS):>2} {attributes}"
        f"  {rights[0]}  {rights[1]}{'  indirect' if mas1 & MAS1.IND else ''}"
    )


COMMANDS: dict[str, tuple[Command, str, str]] = {
    "help": (Monitor.help, "help", "list the commands"),
    "cpu": (Monitor.cpu, "cpu [N]", "which cpu the others are about, or choose it"),
    "info cpus": (Monitor.info_cpus, "info cpus", "where each cpu is"),
    "info registers": (Monitor.info_registers, "info registers [NAME...]", "registers"),
    "info tlb": (Monitor.info_tlb, "info tlb", "valid entries of the TLBs"),
    "info mtree": (Monitor.info_mtree, "info mtree", "the physical address space"),
    "info exits": (Monitor.info_exits, "info exits", "exits by reason, and other counters"),
    "x": (Monitor.x, "x /FORMAT ADDRESS", "memory as the cpu sees it: x /8xw $r1, x /4i $pc"),
    "xp": (Monitor.xp, "xp /FORMAT ADDRESS", "physical memory"),
    "gva2gpa": (Monitor.translate, "gva2gpa ADDRESS", "the physical address behind an effective one"),
    "break": (Monitor.break_, "break ADDRESS [lpid N]", "stop there, in one partition only (0: the hypervisor)"),
    "delete": (Monitor.delete, "delete [ADDRESS]", "take breakpoints away"),
    "info breakpoints": (Monitor.info_breakpoints, "info breakpoints", "breakpoints, gdb's own as well"),
    "system_reset": (Monitor.system_reset, "system_reset", "reset the board"),
    "quit": (Monitor.quit, "quit", "end the machine"),
}
