"""Special-purpose registers by name, their values with fields by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..isa import registers
from ..isa.registers import Register, get_field
from ..vcpu.sprs import rows

if TYPE_CHECKING:
    from .registers import Registers
    from .vcpu import Vcpu

_SAME_FIELDS = {
    "EPSC": "EPLC", "GESR": "ESR", "TLB0CFG": "TLBCFG", "TLB1CFG": "TLBCFG", "LPERU": "",
    **dict.fromkeys(("SRR1", "GSRR1", "CSRR1", "DSRR1", "MCSRR1"), "MSR"),
}  # fmt: skip
"""Registers whose fields are those of another one."""


def fields_of(name: str) -> type[Register] | None:
    """The class that has the fields of a register, None for one without any."""
    name = name.upper()
    found = getattr(registers, _SAME_FIELDS.get(name, name), None)
    return found if isinstance(found, type) and issubclass(found, Register) else None


class RegisterValue(int):
    """A register's value: a number whose fields are attributes, `tcr.DIE`; `replace` makes another value."""

    name: str
    _masks: dict[str, int]

    def __new__(cls, name: str, value: int) -> RegisterValue:
        made = super().__new__(cls, value)
        made.name = name.upper()
        fields = fields_of(name)
        made._masks = fields.masks() if fields else {}
        return made

    @property
    def fields(self) -> dict[str, int]:
        """Every field's value, right-justified."""
        return {name: get_field(int(self), mask) for name, mask in self._masks.items()}

    def __getattr__(self, field: str) -> int:
        if (mask := self.__dict__.get("_masks", {}).get(field)) is None:
            raise AttributeError(self._unknown(field))
        return int(get_field(int(self), mask))

    def _unknown(self, field: str) -> str:
        have = ", ".join(self._masks) or "none that are named"
        return f"{self.name} has no field {field}: there are {have}"

    def replace(self, **fields: int) -> RegisterValue:
        """This value with other fields. Raises UserError for a field that is not there, or too small."""
        value = int(self)
        for field, new in fields.items():
            if (mask := self._masks.get(field)) is None:
                raise UserError(self._unknown(field))
            shift = (mask & -mask).bit_length() - 1
            if not 0 <= new <= mask >> shift:
                raise UserError(f"{self.name}[{field}] takes 0 to 0x{mask >> shift:x}, not {new:#x}")
            value = value & ~mask | new << shift
        return RegisterValue(self.name, value)

    def __repr__(self) -> str:
        fields = fields_of(self.name)
        return f"<{self.name} {fields.describe(int(self)) if fields else f'{int(self):#x}'}>"


class Sprs:
    """The special-purpose registers of a vCPU: `sprs.tcr`, `sprs["tcr"]`; both can be assigned. The vCPU is stopped.

    Values are those the registers hold, whatever MSR says of the guest's rights to them; writing one does what
    `mtspr` does besides. Raises UserError for registers the core has not.
    """

    _vcpu: Vcpu
    _regs: Registers
    _names: frozenset[str]

    def __init__(self, vcpu: Vcpu, regs: Registers) -> None:
        object.__setattr__(self, "_vcpu", vcpu)
        object.__setattr__(self, "_regs", regs)
        object.__setattr__(self, "_names", frozenset(row.name.lower() for row in rows(vcpu.core)))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._names

    def _check(self, name: str) -> None:
        if name.lower() not in self._names:
            import difflib

            near = difflib.get_close_matches(name.lower(), self._names, 3)
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"{self._vcpu.core.name} has no special-purpose register {name}{hint}")

    def __getitem__(self, name: str) -> RegisterValue:
        self._check(name)
        return RegisterValue(name, self._regs[name])

    def __setitem__(self, name: str, value: int) -> None:
        self._check(name)
        self._regs[name] = value

    def __getattr__(self, name: str) -> RegisterValue:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except UserError as error:
            raise AttributeError(str(error)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            self[name] = value
        except UserError as error:
            raise AttributeError(str(error)) from None
