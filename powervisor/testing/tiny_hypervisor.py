"""The least hypervisor that keeps random guests going: it counts each interrupt, skips the instruction, and goes back.

It lies at physical and effective address 0, with an area for each vCPU that SPRG8 points to. A guest whose PC has left
its code is sent to some other word of it. An interrupt of the hypervisor itself is a mistake: it is noted, and the
vCPU stays where it is.
"""

from __future__ import annotations

from ..insns import assemble_source
from ..isa.cores import Core
from ..isa.registers import IVOR, SPR
from ..vcpu.interrupts import ivor_spr

VECTORS = (*range(16), *range(32, 43))
GUEST_VECTORS = (2, 3, 4, 8, 13, 14)
AREAS, AREA_SIZE = 0x4000, 0x400
"""Where the vCPUs' areas begin: a number that chooses addresses, a note of a mistake, SRR0, then counts of VECTORS."""
MISTAKE, COUNTS = 4, 64
GUEST_CODE, GUEST_CODE_SIZE = 0x10_0000, 0x4000
"""Effective address and bytes of every guest's code."""
END = 0x4000

_MACROS = f"""
    .macro entry n, class
    .org \\n * 0x100
    mtspr 272, r31
    mtspr 273, r30
    mtspr 275, r29
    mfcr  r29
    mtspr 274, r29
    mfspr r31, 604
    li    r30, 4 * \\n + {COUNTS}
    lwzx  r29, r31, r30
    addi  r29, r29, 1
    stwx  r29, r31, r30
    b     \\class
    .endm

    .macro class name, save0, save1, return
\\name\\()_fetch:                   # from where nothing can be fetched
    li    r29, 0
    mtspr \\save0, r29
\\name:
    mfspr r29, \\save1
    andis. r30, r29, 0x1000     # GS
    beq   \\name\\()_mistake
    mfspr r29, \\save0
    addi  r29, r29, 4
    mtspr \\save0, r29
    srwi  r30, r29, 14
    cmplwi r30, {GUEST_CODE >> 14}
    beq   1f
    lwz   r30, 0(r31)
    addis r30, r30, 0x1E37
    addi  r30, r30, 0x79B9
    stw   r30, 0(r31)
    rlwinm r30, r30, 24, 18, 29
    oris  r30, r30, {GUEST_CODE >> 16}
    mtspr \\save0, r30
1:  li    r30, -1
    mtspr 336, r30              # TSR, DBSR, MCSR
    mtspr 304, r30
    mtspr 572, r30
    mfspr r29, 274
    mtcrf 255, r29
    mfspr r29, 275
    mfspr r30, 273
    mfspr r31, 272
    \\return
\\name\\()_mistake:
    li    r30, 1
    stw   r30, {MISTAKE}(r31)
    mfspr r29, \\save0
    stw   r29, {MISTAKE + 4}(r31)
    b     .
    .endm
"""
_CLASSES = {
    IVOR.CRITICAL: "critical", IVOR.MACHINE_CHECK: "mcheck", IVOR.WATCHDOG: "critical", IVOR.DEBUG: "debug",
    IVOR.CRITICAL_DOORBELL: "critical", IVOR.GUEST_DOORBELL: "guest", IVOR.GUEST_CRITICAL_DOORBELL: "critical",
    IVOR.INSTRUCTION_STORAGE: "base_fetch", IVOR.INSTRUCTION_TLB: "base_fetch",
}  # fmt: skip


def program(core: Core) -> bytes:
    """The hypervisor's code, to lie at address 0."""
    lines = [_MACROS, *(f"entry {n}, {_CLASSES.get(n, 'base')}" for n in VECTORS), f".org {(VECTORS[-1] + 1) * 0x100}"]
    for name, save, back in (
        ("base", SPR.SRR0, "rfi"), ("guest", SPR.GSRR0, "rfgi"), ("critical", SPR.CSRR0, "rfci"),
        ("mcheck", SPR.MCSRR0, "rfmci"), ("debug", SPR.DSRR0, "rfdi"),
    ):  # fmt: skip
        lines.append(f"class {name}, {save}, {save + 1}, {back}")
    data = assemble_source("\n".join(lines), 0, core, "hypervisor").data
    assert len(data) <= END
    return data


GUEST_HANDLERS = 0x3F00
"""Offset in a guest's code of what its own vectors lead to."""


def guest_handler(core: Core) -> bytes:
    """A guest's interrupt handler: skip the instruction."""
    lines = "mfspr r31, 26; addi r31, r31, 4; mtspr 26, r31; rfi"
    return assemble_source(lines, 0, core, "guest").data


def registers(index: int) -> dict[int, int]:
    """SPRs of a vCPU that belong to the hypervisor."""
    sprs = {int(SPR.IVPR): 0, int(SPR.SPRG8): AREAS + index * AREA_SIZE, int(SPR.GIVPR): GUEST_CODE}
    for n in VECTORS:
        sprs[int(ivor_spr(n))] = n * 0x100
    for n in GUEST_VECTORS:
        sprs[int(getattr(SPR, f"GIVOR{n}"))] = GUEST_HANDLERS
    return sprs
