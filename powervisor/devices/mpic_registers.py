"""Registers of the Freescale MPIC, version 4.2: fields, offsets in its window, names for traces."""

from __future__ import annotations

from powervisor.devices.registers import Field, Reg

SOURCES = 256
"""External inputs 0..15 and internal ones; the 4.2 of the ppce500 board reports 196, all 256 have registers."""
EXTERNAL = 16
"""Sources below are pins with a sense of their own; those from here on are level-sensitive, active high."""
IPIS, TIMER_GROUPS, TIMERS_PER_GROUP = 4, 2, 4
MAX_CPUS = 32
ERROR_SOURCE = 16
"""The source into which the 32 error interrupts of EISR are ORed."""
MESSAGE_SOURCE, MESSAGE_BLOCKS, MESSAGES_PER_BLOCK = 0xB0, 2, 4
MSI_SOURCE, MSI_BANKS, MSIRS_PER_BANK = 0xE0, 3, 8
MSIRS = MSI_BANKS * MSIRS_PER_BANK

BRR1_VALUE = 0x0040_0402
"""Block 0x40, version 4.2."""
FRR_LAST_SOURCE = 195
FRR_VERSION = 2


class Gcr(Reg):
    """Global configuration."""

    reset = Field(31)
    proxy = Field(30)
    mixed = Field(29)


class Ivpr(Reg):
    """Vector and priority of a source; IPIs and timers have no polarity and sense."""

    mask = Field(31, reset=1)
    activity = Field(30, access="ro")
    polarity = Field(23)
    sense = Field(22)
    priority = Field(19, 16)
    vector = Field(15, 0)


class Ilr(Reg):
    """Interrupt level: the output a source drives."""

    target = Field(7, 0)


class Ctpr(Reg):
    """Current task priority."""

    priority = Field(3, 0, reset=15)


class Tccr(Reg):
    """Current count of a timer."""

    toggle = Field(31, access="ro")
    count = Field(30, 0, access="ro")


class Tbcr(Reg):
    """Base count of a timer."""

    inhibit = Field(31, reset=1)
    count = Field(30, 0)


class Tcr(Reg):
    """Timer control of a group: timer n+1 counts what timer n (bit n of `cascade`) expires."""

    roll_over = Field(26, 24)
    clock_ratio = Field(9, 8)
    cascade = Field(2, 0)


class Msiir(Reg):
    """Message signaled interrupt index, as a device's message arrives: register and bit of it."""

    register = Field(31, 29, access="wo")
    bit = Field(28, 24, access="wo")


class Target:
    """ILR[INTTGT]: outputs of the controller. Others (IRQ_OUT, SIE) lead nowhere here."""

    INT = 0
    CINT = 1
    MCP = 2


class Offset:
    """Byte offsets in the window. CPU registers are seen at 0x0040.. by the accessing CPU as its own."""

    BRR1, BRR2 = 0x0000, 0x0010
    IPIDR, CTPR, WHOAMI, IACK, EOI = 0x0040, 0x0080, 0x0090, 0x00A0, 0x00B0
    FRR, GCR, VIR, PIR, IPIVPR, SPVE = 0x1000, 0x1020, 0x1080, 0x1090, 0x10A0, 0x10E0
    # At GROUP + group * GROUP_STRIDE: timers and message registers.
    GROUP, GROUP_STRIDE = 0x1000, 0x1000
    TFRR, TIMER, TIMER_END, TCR = 0x0F0, 0x100, 0x200, 0x300
    MSGR, MSGR_END, MER, MSR = 0x400, 0x440, 0x500, 0x510
    TCCR, TBCR, TVPR, TDR, TIMER_STRIDE = 0x00, 0x10, 0x20, 0x30, 0x40
    MSI, MSI_END, MSI_STRIDE = 0x1600, 0x1C00, 0x200
    MSIR_END, MSISR, MSIIR = 0x080, 0x120, 0x140
    # MSIIR once more, a page per bank, for hypervisors that hand a bank to a guest.
    MSIIR_PAGE, MSIIR_PAGE_END, MSIIR_PAGE_STRIDE = 0x4140, 0x7140, 0x1000
    EISR, EIMR = 0x3900, 0x3910
    SOURCE, SOURCE_STRIDE = 0x1_0000, 0x20
    IVPR, IDR, ILR = 0x00, 0x10, 0x18
    CPU, CPU_STRIDE = 0x2_0000, 0x1000
    WINDOW = 0x4_0000


_GLOBAL = {
    Offset.BRR1: "BRR1", Offset.BRR2: "BRR2", Offset.FRR: "FRR", Offset.GCR: "GCR", Offset.VIR: "VIR",
    Offset.PIR: "PIR", Offset.SPVE: "SPVE", Offset.EISR: "EISR", Offset.EIMR: "EIMR",
    **{Offset.IPIVPR + 0x10 * n: f"IPIVPR{n}" for n in range(IPIS)},
    **{Offset.MSIIR_PAGE + Offset.MSIIR_PAGE_STRIDE * n: f"MSIIR{'ABC'[n]}" for n in range(MSI_BANKS)},
}  # fmt: skip
_CPU = {
    Offset.CTPR: "CTPR", Offset.WHOAMI: "WHOAMI", Offset.IACK: "IACK", Offset.EOI: "EOI",
    **{Offset.IPIDR + 0x10 * n: f"IPIDR{n}" for n in range(IPIS)},
}  # fmt: skip
_SOURCE = {Offset.IVPR: "IVPR", Offset.IDR: "IDR", Offset.ILR: "ILR"}
_TIMER = {Offset.TCCR: "TCCR", Offset.TBCR: "TBCR", Offset.TVPR: "TVPR", Offset.TDR: "TDR"}
_GROUP = {Offset.TFRR: "TFRR", Offset.TCR: "TCR", Offset.MER: "MER", Offset.MSR: "MSR"}
_MSI = {
    Offset.MSISR: "MSISR", Offset.MSIIR: "MSIIR",
    **{0x10 * n: f"MSIR{n}" for n in range(MSIRS_PER_BANK)},
}  # fmt: skip


def register_name(offset: int) -> str | None:
    """The manual's name of the register at `offset`, None where there is none."""
    if offset >= Offset.CPU:
        cpu, at = divmod(offset - Offset.CPU, Offset.CPU_STRIDE)
        return f"CPU{cpu} {_CPU[at]}" if at in _CPU else None
    if offset >= Offset.SOURCE:
        source, at = divmod(offset - Offset.SOURCE, Offset.SOURCE_STRIDE)
        return f"{_SOURCE[at]}{source}" if at in _SOURCE and source < SOURCES else None
    if offset in _GLOBAL:
        return _GLOBAL[offset]
    if offset in _CPU:
        return _CPU[offset]
    if Offset.MSI <= offset < Offset.MSI_END:
        bank, at = divmod(offset - Offset.MSI, Offset.MSI_STRIDE)
        return f"{_MSI[at]}{'ABC'[bank]}" if at in _MSI else None
    group, at = divmod(offset - Offset.GROUP, Offset.GROUP_STRIDE)
    if not 0 <= group < TIMER_GROUPS:
        return None
    letter = "AB"[group]
    if Offset.TIMER <= at < Offset.TIMER_END:
        timer, register = divmod(at - Offset.TIMER, Offset.TIMER_STRIDE)
        return f"{_TIMER[register]}{letter}{timer}" if register in _TIMER else None
    if Offset.MSGR <= at < Offset.MSGR_END and at % 0x10 == 0:
        return f"MSGR{letter}{(at - Offset.MSGR) // 0x10}"
    return f"{_GROUP[at]}{letter}" if at in _GROUP else None


_KINDS: dict[str, type[Reg]] = {
    "GCR": Gcr, "IVPR": Ivpr, "IPIVPR": Ivpr, "TVPR": Ivpr, "ILR": Ilr, "CTPR": Ctpr, "TCCR": Tccr, "TBCR": Tbcr,
    "TCR": Tcr, "MSIIR": Msiir,
}  # fmt: skip
"""Fields of registers by the letters of their names."""


def register_kind(offset: int) -> type[Reg] | None:
    """The fields of the register at `offset`, None where it has none, or there is none."""
    name = (register_name(offset) or "").rpartition(" ")[2]
    return _KINDS.get(name) or _KINDS.get(name.rstrip("0123456789")) or _KINDS.get(name.rstrip("0123456789")[:-1])
