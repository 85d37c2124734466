"""Special-purpose registers: which exist on a core, who may read and write them, and which bits a write changes.

Everything here is data; what reading or writing does beyond storing is in `spr_access`. Privileges are those of the
e500mc, e5500 and e6500 reference manuals for category E.HV: a guest supervisor's access to a hypervisor register is an
embedded hypervisor privilege exception.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..isa.cores import Core
from ..isa.registers import (
    BUCSR,
    DBCR0,
    DBCR1,
    DBCR2,
    DBCR5,
    EPCR,
    EPLC,
    L1CSR0,
    L1CSR1,
    L2CSR0,
    MAS0,
    MAS1,
    MAS2,
    MAS3,
    MAS4,
    MAS5,
    MAS6,
    MAS8,
    MSRP,
    SPR,
    TCR,
    TSR,
    XER,
    Register,
)


class Access:
    """Bits of `CoreConfig.spr_access`: the level needed to read, to write (shifted by WRITE), and special cases."""

    NONE, USER, SUPERVISOR, HYPERVISOR = 0, 1, 2, 3
    LEVEL = 3
    WRITE = 2
    EFFECT = 0x10  # more than a stored value, see spr_access
    GUEST = 0x20  # stands for another register while MSR[GS]=1
    CLEAR = 0x40  # writing a one clears the bit
    SHARED = 0x80  # the threads of a core have one


_LEVELS = {"-": Access.NONE, "u": Access.USER, "s": Access.SUPERVISOR, "h": Access.HYPERVISOR}

WORD = 0xFFFF_FFFF
DOUBLEWORD = 0xFFFF_FFFF_FFFF_FFFF
"""Mask of registers that are 64 bits wide on 64-bit cores and 32 on e500mc."""


@dataclass(frozen=True)
class SprRow:
    """A register: `access` is the level to read and the level to write ("-" none, u user, s supervisor, h hypervisor).

    `needs` and `lacks` are category words a core must have and must not have.
    """

    name: str
    number: int
    access: str
    mask: int = WORD
    flags: int = 0
    needs: str = ""
    lacks: str = ""

    def on(self, core: Core) -> bool:
        """Whether a core has the register."""
        return set(self.needs.split()) <= core.categories and not set(self.lacks.split()) & core.categories

    def bits(self) -> int:
        """The Access byte."""
        read, write = (_LEVELS[letter] for letter in self.access)
        return read | write << Access.WRITE | self.flags

    def bits_on(self, core: Core) -> int:
        """How wide it is."""
        return 64 if core.bits == 64 and self.mask > WORD else 32

    def writable(self, core: Core) -> int:
        """The bits a write changes on a core."""
        if self.access[1] == "-":
            return 0
        mask = self.mask & (DOUBLEWORD if core.bits == 64 else WORD)
        return mask & core_mask(self.name, core)


def all_fields(register: type[Register]) -> int:
    """Every field of a register class."""
    mask = 0
    for field in register.masks().values():
        mask |= field
    return mask


MAV1_TSIZE = 0x0000_0F00  # powers of four only: the field's least significant bit does not exist
MORE_COMPARATORS = DBCR0.IAC3 | DBCR0.IAC4 | DBCR0.IAC5 | DBCR0.IAC6 | DBCR0.IAC7 | DBCR0.IAC8
"""Only with category iac8. Freescale's debug drivers for Linux name these registers for e6500, and none of them nor DVC
for e500mc and e5500. The bits of DBCR0 are those of Freescale's MPC57xx (e200z7), which has the same registers;
that DBSR has the same bits, and DBCR5 the layout of DBCR1, is assumed."""


LPIDS = 0x3F
"""The bits of an LPID: MMUCFG[LPIDSIZE] is 6."""


def core_mask(name: str, core: Core) -> int:
    """What the model leaves of a register's fields."""
    pid = (1 << core.pid_bits) - 1
    tid = pid << 16
    if name == "PID":
        return pid
    if name == "DBCR0":
        lacking = 0 if "iac8" in core.categories else MORE_COMPARATORS
        # How a time base that threads share would be frozen is not known.
        return ~(DBCR0.EDM | lacking | (DBCR0.FT if "em" in core.categories else 0))
    if name == "DBSRWR" and "iac8" not in core.categories:
        return ~MORE_COMPARATORS
    if name == "DBCR1" and "iac8" not in core.categories:
        return ~(DBCR1.IAC3US | DBCR1.IAC3ER | DBCR1.IAC4US | DBCR1.IAC4ER | DBCR1.IAC34M)
    if name == "MAS7":
        return (1 << core.physical_bits - 32) - 1
    if name == "EPCR" and core.bits == 32:
        return ~(EPCR.ICM | EPCR.GICM)
    if name in ("EPLC", "EPSC"):
        return EPLC.EPR | EPLC.EAS | pid | (EPLC.EGS | LPIDS << 16 if "ehv" in core.categories else 0)
    if name == "MAS5":
        return MAS5.SGS | LPIDS
    if name == "MAS8":
        return MAS8.TGS | MAS8.VF | LPIDS
    if name == "MAS0" and not core.mav2:
        return ~(MAS0.ATSEL | MAS0.HES | MAS0.WQ)
    if name == "MAS0":  # no TLB write conditional: MMUCFG[TWC] is 0
        return ~(MAS0.WQ if "lrat" in core.categories else MAS0.WQ | MAS0.ATSEL)
    if name == "MAS1":
        fields = MAS1.V | MAS1.IPROT | MAS1.TS | tid
        return fields | (MAS1.TSIZE | MAS1.IND if core.mav2 else MAV1_TSIZE)
    if name == "MAS4":
        fields = MAS4.TLBSELD | MAS4.WIMGED
        return fields | (MAS4.TSIZED | MAS4.INDD if core.mav2 else MAV1_TSIZE)
    if name == "MAS6":
        return MAS6.SAS | tid | (MAS6.ISIZE | MAS6.SIND if core.mav2 else 0)
    return DOUBLEWORD


def _row(
    name: str, access: str, mask: int = WORD, flags: int = 0, needs: str = "", lacks: str = "",
    number: int | None = None,
) -> SprRow:  # fmt: skip
    return SprRow(name, getattr(SPR, name) if number is None else number, access, mask, flags, needs, lacks)


_E, _G, _C, _S = Access.EFFECT, Access.GUEST, Access.CLEAR, Access.SHARED
_MAS2 = DOUBLEWORD & ~0xFFF | all_fields(MAS2) & 0xFFF
_IVOR = 0xFFF0
_ADDRESS = DOUBLEWORD & ~3
_VECTOR_BASE = DOUBLEWORD & ~0xFFFF
_ERROR_REGISTERS = (
    "L2ERRINTEN L2ERRATTR L2ERRADDR L2ERREADDR L2ERRCTL L2ERRDIS L2ERRINJHI L2ERRINJLO L2ERRINJCTL L2CAPTDATAHI "
    "L2CAPTDATALO L2CAPTECC L2ERRDET"
)
_PARTITION_REGISTERS = {
    "MSRP": all_fields(MSRP), "HACOP": WORD, **{f"GIVOR{n}": _IVOR for n in (2, 3, 4, 8, 13, 14)},
    "GIVPR": _VECTOR_BASE,
}  # fmt: skip
_GUESTS_OWN = {
    **{f"GSPRG{n}": ("ss", DOUBLEWORD) for n in range(4)}, "GSRR0": ("ss", _ADDRESS), "GSRR1": ("ss", WORD),
    "GDEAR": ("ss", DOUBLEWORD), "GESR": ("ss", WORD), "GPIR": ("sh", WORD), "GEPR": ("sh", WORD),
}  # fmt: skip
"""What a guest means by SRR0 and the like: it may use these numbers too."""

GROUPS: dict[str, tuple[SprRow, ...]] = {
    "user": (
        _row("XER", "uu", all_fields(XER), _E),
        _row("LR", "uu", DOUBLEWORD), _row("CTR", "uu", DOUBLEWORD), _row("VRSAVE", "uu"),
    ),
    "interrupts": (
        _row("SRR0", "ss", _ADDRESS, _G), _row("SRR1", "ss", WORD, _G), _row("CSRR0", "hh", _ADDRESS),
        _row("CSRR1", "hh"),
        _row("MCSRR0", "hh", _ADDRESS), _row("MCSRR1", "hh"), _row("DSRR0", "hh", _ADDRESS), _row("DSRR1", "hh"),
        _row("DEAR", "ss", DOUBLEWORD, _G), _row("ESR", "ss", WORD, _G), _row("IVPR", "hh", _VECTOR_BASE, _S),
        _row("MCSR", "hh", WORD, _C), _row("MCAR", "h-"), _row("MCARU", "h-"), _row("EPR", "s-", WORD, _G),
        *(_row(f"IVOR{n}", "hh", _IVOR, number=SPR.IVOR0 + n) for n in range(16)),
        *(_row(f"IVOR{n}", "hh", _IVOR, needs="altivec", number=SPR.IVOR32 + n - 32) for n in (32, 33)),
        *(_row(f"IVOR{n}", "hh", _IVOR, number=SPR.IVOR32 + n - 32) for n in (35, 36, 37)),
        *(_row(f"IVOR{n}", "hh", _IVOR, needs="ehv", number=SPR.IVOR38 + n - 38) for n in (38, 39, 40, 41)),
        _row("IVOR42", "hh", _IVOR, needs="lrat"),
    ),
    "scratch": (
        *(_row(f"SPRG{n}", "ss", DOUBLEWORD, _G) for n in range(4)),
        *(_row(f"SPRG{n}", "ss", DOUBLEWORD) for n in range(4, 8)),
        _row("SPRG3U", "u-", DOUBLEWORD, _G), *(_row(f"SPRG{n}U", "u-", DOUBLEWORD) for n in range(4, 8)),
        _row("SPRG8", "hh", DOUBLEWORD), _row("SPRG9", "ss", DOUBLEWORD),
    ),
    "identity": (
        _row("PIR", "sh", WORD, _G), _row("PVR", "s-"), _row("SVR", "h-"), _row("NPIDR", "ss"),
        _row("L1CFG0", "u-"), _row("L1CFG1", "u-"), _row("L2CFG0", "s-", lacks="em"),
    ),
    "timers": (
        _row("DEC", "hh", WORD, _E), _row("DECAR", "hh"), _row("TSR", "hh", all_fields(TSR), _E),
        _row("TCR", "hh", all_fields(TCR), _E), _row("TBL", "u-", DOUBLEWORD, _E), _row("TBU", "u-", WORD, _E),
        _row("TBL_WRITE", "-h", WORD, _E), _row("TBU_WRITE", "-h", WORD, _E),
        _row("ATBL", "u-", DOUBLEWORD, _E), _row("ATBU", "u-", WORD, _E),
    ),
    "debug": (
        _row("DBSR", "hh", WORD, _C), _row("DBSRWR", "-h", WORD, _E), _row("DBCR0", "hh", all_fields(DBCR0), _E),
        _row("DBCR1", "hh", all_fields(DBCR1)), _row("DBCR2", "hh", all_fields(DBCR2)), _row("DBCR4", "hh"),
        _row("IAC1", "hh", _ADDRESS), _row("IAC2", "hh", _ADDRESS), _row("DAC1", "hh", DOUBLEWORD),
        *(_row(f"IAC{n}", "hh", _ADDRESS, needs="iac8") for n in range(3, 9)),
        _row("DBCR5", "hh", all_fields(DBCR5), needs="iac8"), _row("DBRR0", "hh", needs="iac8"),
        _row("EDBRAC0", "hh", 0, needs="iac8"),  # no external debugger has taken anything
        _row("DAC2", "hh", DOUBLEWORD), _row("DDAM", "uu"), _row("DEVENT", "uu"), _row("NSPD", "ss"),
        _row("NSPC", "ss"),
        *(_row(f"HDBCR{n}", "hh", number=SPR.HDBCR0 + n) for n in range(7)),
    ),
    "mmu": (
        _row("PID", "ss", WORD, _E),
        _row("MAS0", "ss", all_fields(MAS0)), _row("MAS1", "ss", all_fields(MAS1)), _row("MAS2", "ss", _MAS2),
        _row("MAS3", "ss", all_fields(MAS3)), _row("MAS4", "ss", all_fields(MAS4)),
        _row("MAS6", "ss", all_fields(MAS6)),
        _row("MAS7", "ss"), _row("MAS5", "hh", all_fields(MAS5), needs="ehv"),
        _row("MAS8", "hh", all_fields(MAS8), needs="ehv"), _row("MAS5_MAS6", "hh", DOUBLEWORD, _E, "64 ehv"),
        _row("MAS8_MAS1", "hh", DOUBLEWORD, _E, "64 ehv"),
        _row("MAS7_MAS3", "ss", DOUBLEWORD, _E, "64"), _row("MAS0_MAS1", "ss", DOUBLEWORD, _E, "64"),
        _row("MMUCFG", "h-"), _row("TLB0CFG", "h-"), _row("TLB1CFG", "h-"), _row("MMUCSR0", "hh", WORD, _E),
        _row("TLB0PS", "h-", needs="mav2"), _row("TLB1PS", "h-", needs="mav2"), _row("EPTCFG", "h-", needs="ept"),
        _row("LRATCFG", "h-", needs="lrat"), _row("LRATPS", "h-", needs="lrat"), _row("LPER", "hh", needs="lrat"),
        _row("LPERU", "hh", needs="lrat"), _row("EPLC", "ss", all_fields(EPLC), _E),
        _row("EPSC", "ss", all_fields(EPLC), _E),
    ),
    "hypervisor": (  # of EPCR, one field comes with 64-bit cores
        _row("EPCR", "hh", all_fields(EPCR), _E, needs="ehv"),
        _row("EPCR", "hh", EPCR.ICM, _E, needs="64", lacks="ehv"),
        *(_row(name, "hh", mask, needs="ehv") for name, mask in _PARTITION_REGISTERS.items()),
        *(_row(name, access, mask, needs="ehv") for name, (access, mask) in _GUESTS_OWN.items()),
        _row("LPIDR", "hh", LPIDS, _E, needs="ehv"),
    ),
    "threads": (
        _row("TIR", "h-", needs="em"), _row("TENSR", "h-", WORD, _E, "em"), _row("TENS", "hh", WORD, _E, "em"),
        _row("TENC", "hh", WORD, _E, "em"),
    ),
    "caches": (
        _row("HID0", "hh"), _row("HID1", "hh"), _row("L1CSR0", "hh", WORD & ~(L1CSR0.CLFC | L1CSR0.DCFI)),
        _row("L1CSR1", "hh", WORD & ~(L1CSR1.ICLFR | L1CSR1.ICFI)), _row("L1CSR2", "hh"), _row("L1CSR3", "hh"),
        _row("L2CSR0", "hh", WORD & ~(L2CSR0.L2FI | L2CSR0.L2FL | L2CSR0.L2LFC), lacks="em"),
        _row("L2CSR1", "hh", lacks="em"), _row("BUCSR", "hh", WORD & ~BUCSR.BBFI), _row("CDCSR0", "ss"),
        _row("PWRMGTCR0", "hh"), *(_row(name, "hh", lacks="em") for name in _ERROR_REGISTERS.split()),
    ),
}  # fmt: skip
"""Every register, by what it is for. Command bits that clear themselves are left out of the mask: the caches they act
on are not modelled, and code is invalidated by icbi or L1CSR1[ICFI] (see spr_access)."""
ROWS = tuple(row for rows in GROUPS.values() for row in rows)


def rows(core: Core) -> Iterator[SprRow]:
    """The registers a core has."""
    return (row for row in ROWS if row.on(core))


def access_table(core: Core) -> bytes:
    """`CoreConfig.spr_access` of a core: an Access byte for each number."""
    table = bytearray(1024)
    for row in rows(core):
        table[row.number] = row.bits()
    return bytes(table)


def mask_table(core: Core) -> bytes:
    """`CoreConfig.spr_mask` of a core: host-endian 64-bit masks of the bits a write changes."""
    masks = [0] * 1024
    for row in rows(core):
        masks[row.number] = row.writable(core)
    return struct.pack("=1024Q", *masks)
