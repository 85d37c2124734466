"""Special-purpose registers and register fields, by their manual names.

A register class holds its fields as masks; `describe(value)` names the fields of a value. The numbers come from the
e500mc, e5500 and e6500 reference manuals and Power ISA 2.06 (Book III-E).
"""

from __future__ import annotations

from typing import Any

from .numbers import IVOR as IVOR
from .numbers import SPR as SPR
from .numbers import TMR as TMR


class Register:
    """Base: class attributes in capitals are field masks of a 32-bit value."""

    @classmethod
    def masks(cls) -> dict[str, int]:
        """Fields by name."""
        return {k: v for k, v in vars(cls).items() if k.isupper() and isinstance(v, int)}

    @classmethod
    def describe(cls, value: int) -> str:
        """The value in hexadecimal and its non-zero fields by name."""
        parts = []
        for name, mask in cls.masks().items():
            got = (value & mask) >> ((mask & -mask).bit_length() - 1)
            if got:
                parts.append(name if mask & (mask - 1) == 0 else f"{name}={got:#x}")
        return f"{value:#010x} {' '.join(parts)}".rstrip()


def get_field(value: Any, mask: int) -> Any:
    """A field's value, right-justified."""
    return (value & mask) >> ((mask & -mask).bit_length() - 1)


class MSR(Register):
    """Machine State Register."""

    CM = 0x8000_0000
    GS = 0x1000_0000
    UCLE = 0x0400_0000
    VEC = 0x0200_0000
    WE = 0x0004_0000
    CE = 0x0002_0000
    EE = 0x0000_8000
    PR = 0x0000_4000
    FP = 0x0000_2000
    ME = 0x0000_1000
    FE0 = 0x0000_0800
    DE = 0x0000_0200
    FE1 = 0x0000_0100
    IS = 0x0000_0020
    DS = 0x0000_0010
    PMM = 0x0000_0004
    RI = 0x0000_0002


class MSRP(Register):
    """MSR Protect: guest-protected MSR bits."""

    UCLEP = 0x0400_0000
    DEP = 0x0000_0200
    PMMP = 0x0000_0004


class EPCR(Register):
    """Embedded Processor Control Register."""

    EXTGS = 0x8000_0000
    DTLBGS = 0x4000_0000
    ITLBGS = 0x2000_0000
    DSIGS = 0x1000_0000
    ISIGS = 0x0800_0000
    DUVD = 0x0400_0000
    ICM = 0x0200_0000
    GICM = 0x0100_0000
    DGTMI = 0x0080_0000
    DMIUH = 0x0040_0000


class EPLC(Register):
    """External PID Load Context (EPSC, the store context, has the same fields)."""

    EPR = 0x8000_0000
    EAS = 0x4000_0000
    EGS = 0x2000_0000
    ELPID = 0x00FF_0000
    EPID = 0x0000_3FFF


class LPER(Register):
    """Logical Page Exception Register: what a page table entry says of the page that the LRAT does not have."""

    ALPN = 0xFFFF_F000
    WIMGE = 0x0000_0F80
    LPS = 0x0000_000F


class ESR(Register):
    """Exception Syndrome Register."""

    PIL = 0x0800_0000
    PPR = 0x0400_0000
    PTR = 0x0200_0000
    FP = 0x0100_0000
    ST = 0x0080_0000
    DLK = 0x0020_0000
    ILK = 0x0010_0000
    AP = 0x0008_0000
    PUO = 0x0004_0000
    BO = 0x0002_0000
    PIE = 0x0001_0000
    DATA = 0x0000_0400
    PT = 0x0000_0100
    SPV = 0x0000_0080
    EPID = 0x0000_0040
    VLEMI = 0x0000_0020
    MIF = 0x0000_0002


class MCSR(Register):
    """Machine Check Syndrome Register."""

    MCP = 0x8000_0000
    ICPERR = 0x4000_0000
    DCPERR = 0x2000_0000
    L2MMU_MHIT = 0x0800_0000
    NMI = 0x0010_0000
    MAV = 0x0008_0000
    MEA = 0x0004_0000
    IF = 0x0001_0000
    LD = 0x0000_8000
    ST = 0x0000_4000
    LDG = 0x0000_2000
    BSL2 = 0x0000_0001


class TCR(Register):
    """Timer Control Register."""

    WP = 0xC000_0000
    WRC = 0x3000_0000
    WIE = 0x0800_0000
    DIE = 0x0400_0000
    FP = 0x0300_0000
    FIE = 0x0080_0000
    ARE = 0x0040_0000
    WPEXT = 0x001E_0000
    FPEXT = 0x0001_E000


class TSR(Register):
    """Timer Status Register (write one to clear)."""

    ENW = 0x8000_0000
    WIS = 0x4000_0000
    WRS = 0x3000_0000
    DIS = 0x0800_0000
    FIS = 0x0400_0000


class DBCR0(Register):
    """Debug Control Register 0."""

    EDM = 0x8000_0000
    IDM = 0x4000_0000
    RST = 0x3000_0000
    ICMP = 0x0800_0000
    BRT = 0x0400_0000
    IRPT = 0x0200_0000
    TRAP = 0x0100_0000
    IAC1 = 0x0080_0000
    IAC2 = 0x0040_0000
    IAC3 = 0x0020_0000
    IAC4 = 0x0010_0000
    DAC1R = 0x0008_0000
    DAC1W = 0x0004_0000
    DAC2R = 0x0002_0000
    DAC2W = 0x0001_0000
    RET = 0x0000_8000
    IAC5 = 0x0000_4000
    IAC6 = 0x0000_2000
    IAC7 = 0x0000_1000
    IAC8 = 0x0000_0800
    CIRPT = 0x0000_0040
    CRET = 0x0000_0020
    FT = 0x0000_0001


class DBSR(Register):
    """Debug Status Register (write one to clear)."""

    IDE = 0x8000_0000
    UDE = 0x4000_0000
    MRR = 0x3000_0000
    ICMP = 0x0800_0000
    BRT = 0x0400_0000
    IRPT = 0x0200_0000
    TRAP = 0x0100_0000
    IAC1 = 0x0080_0000
    IAC2 = 0x0040_0000
    IAC3 = 0x0020_0000
    IAC4 = 0x0010_0000
    DAC1R = 0x0008_0000
    DAC1W = 0x0004_0000
    DAC2R = 0x0002_0000
    DAC2W = 0x0001_0000
    RET = 0x0000_8000
    IAC5 = 0x0000_4000
    IAC6 = 0x0000_2000
    IAC7 = 0x0000_1000
    IAC8 = 0x0000_0800
    CIRPT = 0x0000_0040
    CRET = 0x0000_0020


class DBCR1(Register):
    """Debug Control Register 1: instruction address compare modes."""

    IAC1US = 0xC000_0000
    IAC1ER = 0x3000_0000
    IAC2US = 0x0C00_0000
    IAC2ER = 0x0300_0000
    IAC12M = 0x00C0_0000
    IAC3US = 0x0000_C000
    IAC3ER = 0x0000_3000
    IAC4US = 0x0000_0C00
    IAC4ER = 0x0000_0300
    IAC34M = 0x0000_00C0


class DBCR5(Register):
    """Debug Control Register 5: instruction address compare modes, laid out as DBCR1."""

    IAC5US = 0xC000_0000
    IAC5ER = 0x3000_0000
    IAC6US = 0x0C00_0000
    IAC6ER = 0x0300_0000
    IAC56M = 0x00C0_0000
    IAC7US = 0x0000_C000
    IAC7ER = 0x0000_3000
    IAC8US = 0x0000_0C00
    IAC8ER = 0x0000_0300
    IAC78M = 0x0000_00C0


class DBCR2(Register):
    """Debug Control Register 2: data address compare modes."""

    DAC1US = 0xC000_0000
    DAC1ER = 0x3000_0000
    DAC2US = 0x0C00_0000
    DAC2ER = 0x0300_0000
    DAC12M = 0x00C0_0000


class HID0(Register):
    """Hardware Implementation-Dependent Register 0."""

    EMCP = 0x8000_0000
    EN_L2MMU_MHD = 0x4000_0000
    DOZE = 0x0080_0000
    NAP = 0x0040_0000
    SLEEP = 0x0020_0000
    ENMAS7 = 0x0000_0080
    NOPTI = 0x0000_0001


class L1CSR0(Register):
    """L1 Cache Control and Status Register 0: data cache."""

    CPE = 0x0001_0000
    CUL = 0x0000_0400
    CLFC = 0x0000_0100
    DCBZ32 = 0x0000_0008
    DCFI = 0x0000_0002
    DCE = 0x0000_0001


class L1CSR1(Register):
    """L1 Cache Control and Status Register 1: instruction cache."""

    CPE = 0x0001_0000
    ICUL = 0x0000_0400
    ICLFR = 0x0000_0100
    ICFI = 0x0000_0002
    ICE = 0x0000_0001


class L2CSR0(Register):
    """L2 Cache Control and Status Register 0."""

    L2E = 0x8000_0000
    L2PE = 0x4000_0000
    L2FI = 0x0020_0000
    L2FL = 0x0000_0800
    L2LFC = 0x0000_0400


class BUCSR(Register):
    """Branch Unit Control and Status Register."""

    STAC_EN = 0x0100_0000
    LS_EN = 0x0040_0000
    BBFI = 0x0000_0200
    BPEN = 0x0000_0001


class MMUCSR0(Register):
    """MMU Control and Status Register 0: flash invalidation."""

    TLB0FI = 0x0000_0004
    TLB1FI = 0x0000_0002


class TLBCFG(Register):
    """TLB Configuration Register (TLB0CFG, TLB1CFG); PT, IND and GTWE exist with MMU version 2 only."""

    ASSOC = 0xFF00_0000
    PT = 0x0004_0000
    IND = 0x0002_0000
    GTWE = 0x0001_0000
    IPROT = 0x0000_8000
    HES = 0x0000_2000
    N_ENTRY = 0x0000_0FFF


class MMUCFG(Register):
    """MMU Configuration Register."""

    LPIDSIZE = 0x0F00_0000
    RASIZE = 0x00FE_0000
    LRAT = 0x0001_0000


class XER(Register):
    """Fixed-Point Exception Register."""

    SO = 0x8000_0000
    OV = 0x4000_0000
    CA = 0x2000_0000
    COUNT = 0x0000_007F


class MAS0(Register):
    """MMU Assist Register 0."""

    ATSEL = 0x8000_0000
    TLBSEL = 0x3000_0000
    ESEL = 0x0FFF_0000
    HES = 0x0000_4000
    WQ = 0x0000_3000
    NV = 0x0000_0FFF


class MAS1(Register):
    """MMU Assist Register 1."""

    V = 0x8000_0000
    IPROT = 0x4000_0000
    TID = 0x3FFF_0000
    IND = 0x0000_2000
    TS = 0x0000_1000
    TSIZE = 0x0000_0F80


class MAS2(Register):
    """MMU Assist Register 2 (low word; EPN is 64 bits on 64-bit cores)."""

    EPN = 0xFFFF_F000
    X0 = 0x40
    X1 = 0x20
    W = 0x10
    I = 0x08  # noqa: E741
    M = 0x04
    G = 0x02
    E = 0x01


class MAS3(Register):
    """MMU Assist Register 3."""

    RPN = 0xFFFF_F000
    U0 = 0x200
    U1 = 0x100
    U2 = 0x080
    U3 = 0x040
    UX = 0x20
    SX = 0x10
    UW = 0x08
    SW = 0x04
    UR = 0x02
    SR = 0x01


class MAS4(Register):
    """MMU Assist Register 4: defaults loaded on a miss."""

    TLBSELD = 0x3000_0000
    TIDSELD = 0x000F_0000
    INDD = 0x0000_8000
    TSIZED = 0x0000_0F80
    WIMGED = 0x0000_007F


class MAS5(Register):
    """MMU Assist Register 5 (hypervisor)."""

    SGS = 0x8000_0000
    SLPID = 0x0000_00FF


class MAS6(Register):
    """MMU Assist Register 6: search context."""

    SPID = 0x3FFF_0000
    ISIZE = 0x0000_0F80
    SIND = 0x0000_0002
    SAS = 0x0000_0001


class MAS8(Register):
    """MMU Assist Register 8 (hypervisor)."""

    TGS = 0x8000_0000
    VF = 0x4000_0000
    TLPID = 0x0000_00FF


class FPSCR(Register):
    """Floating-Point Status and Control Register."""

    FX = 0x8000_0000
    FEX = 0x4000_0000
    VX = 0x2000_0000
    OX = 0x1000_0000
    UX = 0x0800_0000
    ZX = 0x0400_0000
    XX = 0x0200_0000
    VXSNAN = 0x0100_0000
    VXISI = 0x0080_0000
    VXIDI = 0x0040_0000
    VXZDZ = 0x0020_0000
    VXIMZ = 0x0010_0000
    VXVC = 0x0008_0000
    FR = 0x0004_0000
    FI = 0x0002_0000
    FPRF = 0x0001_F000
    VXSOFT = 0x0000_0400
    VXSQRT = 0x0000_0200
    VXCVI = 0x0000_0100
    VE = 0x0000_0080
    OE = 0x0000_0040
    UE = 0x0000_0020
    ZE = 0x0000_0010
    XE = 0x0000_0008
    NI = 0x0000_0004
    RN = 0x0000_0003


class VSCR(Register):
    """Vector Status and Control Register."""

    NJ = 0x0001_0000  # denormals count as zero and are never made
    SAT = 0x0000_0001  # sticky: something saturated


VSCR_RESET = VSCR.NJ

HID0_RESET = 0
"""HID0 after reset."""
