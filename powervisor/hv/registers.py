"""Registers by name, for the API, the monitor and the debugger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..isa.registers import MSR
from ..vcpu.sprs import ROWS, Access

if TYPE_CHECKING:
    from .vcpu import Vcpu

SPR_NAMES = {row.name.lower(): row.number for row in ROWS}


class Registers:
    """`regs["pc"]`, `regs["r3"]`, `regs["f1"]`, `regs["v2"]`, `regs["cr"]`, `regs["srr0"]` ...; the vCPU is stopped."""

    def __init__(self, vcpu: Vcpu, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when one was."""
        self._vcpu, self._changed = vcpu, changed

    def _array(self, name: str) -> tuple[Any, int] | None:
        state = self._vcpu.state
        arrays = {"r": state.gpr, "f": state.fpr, "v": state.vr}
        if name[:1] in arrays and name[1:].isdigit() and int(name[1:]) < 32:
            return arrays[name[0]], int(name[1:])
        return None

    def __getitem__(self, name: str) -> int:
        state, name = self._vcpu.state, name.lower()
        mask = (1 << self._vcpu.engine.core.bits) - 1
        if found := self._array(name):
            return int(found[0][found[1]]) & (mask if name[0] == "r" else -1)
        if name == "cr":
            value = 0
            for n in range(8):
                value = value << 4 | int(state.cr[n])
            return value
        if name == "xer":
            return int(state.so) << 31 | int(state.ov) << 30 | int(state.ca) << 29 | int(state.xer_count)
        if name in ("pc", "msr", "fpscr", "vscr"):
            if name == "fpscr" and not self._vcpu.inside:
                self._vcpu.engine.settle(self._vcpu.address)
            return int(getattr(state, name)) & mask
        if name in SPR_NAMES:
            return int(self._vcpu.engine.read_spr(self._vcpu.address, SPR_NAMES[name])) & mask
        raise self._unknown(name)

    def __setitem__(self, name: str, value: int) -> None:
        state, name = self._vcpu.state, name.lower()
        if found := self._array(name):
            found[0][found[1]] = value
        elif name == "cr":
            for n in range(8):
                state.cr[n] = value >> 28 - 4 * n & 15
        elif name == "xer":
            state.so, state.ov, state.ca = value >> 31 & 1, value >> 30 & 1, value >> 29 & 1
            state.xer_count = value & 0x7F
        elif name in ("pc", "msr", "fpscr", "vscr"):
            if name == "fpscr":
                self._vcpu.engine.settle(self._vcpu.address)
            setattr(state, name, value)
        elif name in SPR_NAMES:
            self._write_spr(SPR_NAMES[name], value)
        else:
            raise self._unknown(name)
        if name in ("msr", "fpscr"):
            self._vcpu.engine.update_mode(self._vcpu.address)
        self._changed()

    def _write_spr(self, number: int, value: int) -> None:
        """Put a value into a register, with what else writing it does; read-only ones and hidden bits as well."""
        vcpu = self._vcpu
        if int(vcpu.state.core.spr_access[number]) & Access.EFFECT:
            vcpu.engine.write_spr(vcpu.address, number, value)
        else:
            vcpu.state.spr[number] = value

    def _unknown(self, name: str) -> UserError:
        import difflib

        near = difflib.get_close_matches(name, list(self), 3)
        return UserError(f"no register {name!r}{': did you mean ' + ' or '.join(near) + '?' if near else ''}")

    def __iter__(self) -> Iterator[str]:
        yield from ("pc", "msr", "cr", "xer", "fpscr", "vscr")
        for letter in "rfv":
            yield from (f"{letter}{n}" for n in range(32))
        yield from SPR_NAMES

    def dump(self) -> str:
        """Registers as text, the way a crash report shows them."""
        width = self._vcpu.engine.core.bits // 4
        lines = [
            f"cpu{self._vcpu.index}  pc {self['pc']:0{width}x}  lr {self['lr']:0{width}x}  ctr {self['ctr']:0{width}x}",
            f"      msr {MSR.describe(self['msr'])}  cr {self['cr']:08x}  xer {self['xer']:08x}",
        ]
        per_line = 64 // width
        for start in range(0, 32, per_line):
            row = " ".join(f"{self[f'r{n}']:0{width}x}" for n in range(start, start + per_line))
            lines.append(f"r{start:<3} {row}")
        names = "srr0 srr1 csrr0 csrr1 mcsrr0 mcsr dear esr pid mas0 mas1 mas2 mas3 mas7 tsr tcr epcr".split()
        for start in range(0, len(names), 6):
            lines.append("  ".join(f"{n} {self[n]:x}" for n in names[start : start + 6]))
        return "\n".join(lines)
