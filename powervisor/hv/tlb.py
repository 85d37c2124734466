"""TLB entries as objects, for the API, the monitor and the debugger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..isa.registers import MAS1, MAS2, MAS3, MAS8, get_field
from ..native.ints import u32, u64
from ..vcpu.mmu import code_space, data_space, matches
from ..vcpu.ops import address

if TYPE_CHECKING:
    from .vcpu import Vcpu


@dataclass(frozen=True)
class TlbEntry:
    """A valid entry: `size` bytes from effective address `ea` lie at physical address `pa`.

    `as_` is the address space (MSR[IS] or MSR[DS]), `tid` the PID it is for and `lpid` the partition (0: all), `gs`
    whether it is for guest state.
    """

    tlb: int
    """0 or 1: TLB0 or TLB1."""
    index: int
    """Way and set as one number: the entry's place in its TLB."""
    ea: int
    pa: int
    size: int
    as_: int
    tid: int
    lpid: int
    gs: bool
    attributes: str
    """Of W (write-through), I (inhibited), M (coherent), G (guarded), E (little-endian), those that are set."""
    user: str
    """Rights in user state, of "rwx"."""
    supervisor: str
    """Rights in supervisor state, of "rwx"."""
    protected: bool
    """MAS1[IPROT]: invalidations leave it alone."""
    indirect: bool
    """MAS1[IND]: it leads to a page table (e6500)."""

    def __contains__(self, ea: int) -> bool:
        """Whether an effective address lies in its page."""
        return self.ea <= ea < self.ea + self.size

    def __str__(self) -> str:
        rights = f"user {self.user or '-'}, supervisor {self.supervisor or '-'}"
        return f"TLB{self.tlb}[{self.index}] 0x{self.ea:x} -> 0x{self.pa:x} {self.size} bytes, {rights}"


_RIGHTS = {
    "user": (("r", MAS3.UR), ("w", MAS3.UW), ("x", MAS3.UX)),
    "supervisor": (("r", MAS3.SR), ("w", MAS3.SW), ("x", MAS3.SX)),
}
_ATTRIBUTES = (("W", MAS2.W), ("I", MAS2.I), ("M", MAS2.M), ("G", MAS2.G), ("E", MAS2.E))


def _letters(value: int, bits: tuple[tuple[str, int], ...]) -> str:
    return "".join(letter for letter, bit in bits if value & bit)


def _typed(tlb: int, index: int, entry: Any) -> TlbEntry:
    mas1, mas2, mas3, mas8 = (int(getattr(entry, name)) for name in ("mas1", "mas2", "mas3", "mas8"))
    return TlbEntry(
        tlb, index, int(entry.ea), int(entry.pa), int(entry.mask) + 1,
        get_field(mas1, MAS1.TS), get_field(mas1, MAS1.TID), get_field(mas8, MAS8.TLPID), bool(mas8 & MAS8.TGS),
        _letters(mas2, _ATTRIBUTES), _letters(mas3, _RIGHTS["user"]), _letters(mas3, _RIGHTS["supervisor"]),
        bool(mas1 & MAS1.IPROT), bool(mas1 & MAS1.IND),
    )  # fmt: skip


class TlbView:
    """The valid entries of a core's TLBs, as they are when they are looked at; the vCPU is stopped.

    Threads of a core share their TLBs.
    """

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu

    def _rows(self) -> Iterator[tuple[int, int, Any]]:
        tlb, core = self._vcpu.state.tlb, self._vcpu.engine.core
        for number, entries, count in ((0, tlb.tlb0, core.tlb0_entries), (1, tlb.tlb1, core.tlb1_entries)):
            for index in range(count):
                if int(entries[index].valid):
                    yield number, index, entries[index]

    def __iter__(self) -> Iterator[TlbEntry]:
        for row in self._rows():
            yield _typed(*row)

    def __len__(self) -> int:
        return sum(1 for _ in self._rows())

    def lookup(self, ea: int, code: bool = False) -> TlbEntry | None:
        """The entry that translates an effective address for the next instruction's data (`code`: as an instruction).

        None on a TLB miss; page tables are not walked (`Cpu.translate` does that).
        """
        state = self._vcpu.state
        where = address(state, u64(ea))
        space = code_space(state) if code else data_space(state)
        for number, index, entry in self._rows():
            if matches(entry, where, space, u32(0)):
                return _typed(number, index, entry)
        return None
