"""The Python oracle over the cases of `qemu_user`: same registers, same memory at the same addresses."""

from __future__ import annotations

from functools import cache
from typing import Any

from powervisor.isa.registers import ESR, IVOR, MSR, SPR
from powervisor.translate.oracle import Oracle
from powervisor.vcpu.modes import update_mode

from .qemu_user import AREA, BUFFER, BUFFER_SIZE, CODE, Case, Outcome, State

XER_BITS = 0xE000_007F  # later architectures keep copies of OV and CA in others

_SIGNAL_OF_PROGRAM = {ESR.PIL: 4, ESR.PPR: 4, ESR.PTR: 5, ESR.FP: 8}
_SIGNAL = {IVOR.ALIGNMENT: 7, IVOR.DATA_STORAGE: 11, IVOR.DATA_TLB: 11}
_VECTORS = 0x40_0000


@cache
def oracle(core: str, wide: bool) -> Oracle:
    """An oracle in user mode whose low megabyte is mapped one to one."""
    made = Oracle(core)
    entry = made.cpu.tlb.tlb1[0]
    entry.ea = entry.pa = 0
    entry.mask, entry.mas1, entry.mas3, entry.valid = 0xF_FFFF, 0x8000_0000, 0x3F, 1
    made.cpu.tlb.tlb1_used = 1
    made.cpu.spr[SPR.IVPR] = _VECTORS
    for number in range(16):
        made.cpu.spr[SPR.IVOR0 + number] = number << 4
    return made


def user_msr(core: str, wide: bool) -> int:
    """MSR of a Linux process: user mode, floating point and vectors available."""
    return int(MSR.PR | MSR.FP | (MSR.VEC if core == "e6500" else 0) | (MSR.CM if wide else 0) | MSR.FE0 | MSR.FE1)


def load_state(cpu: Any, state: State) -> None:
    """Put a state into a vCPU."""
    for n in range(32):
        cpu.gpr[n] = state.gpr[n] if n != 31 else AREA
        cpu.fpr[n] = state.fpr[n]
        cpu.vr[n] = state.vr[n]
    for n in range(8):
        cpu.cr[n] = state.cr >> (28 - 4 * n) & 15
    cpu.so, cpu.ov, cpu.ca = (state.xer >> n & 1 for n in (31, 30, 29))
    cpu.xer_count = state.xer & 0x7F
    cpu.spr[SPR.CTR], cpu.spr[SPR.LR] = state.ctr, state.lr
    cpu.fpscr, cpu.vscr, cpu.fp_pending = state.fpscr, state.vscr, 0


def saved_state(cpu: Any, memory: bytes) -> State:
    """The state of a vCPU."""
    cr = 0
    for n in range(8):
        cr = cr << 4 | int(cpu.cr[n])
    xer = int(cpu.so) << 31 | int(cpu.ov) << 30 | int(cpu.ca) << 29 | int(cpu.xer_count)
    return State(
        [int(cpu.gpr[n]) for n in range(32)], [int(cpu.fpr[n]) for n in range(32)],
        [int(cpu.vr[n]) for n in range(32)], cr, xer,
        int(cpu.spr[SPR.CTR]), int(cpu.spr[SPR.LR]), int(cpu.fpscr), int(cpu.vscr), bytearray(memory),
    )  # fmt: skip


def signal_of(cpu: Any, interrupt: int) -> int:
    """The signal that Linux makes of an interrupt just taken."""
    if interrupt == IVOR.PROGRAM:
        return _SIGNAL_OF_PROGRAM[int(cpu.spr[SPR.ESR]) & 0x0F00_0000]
    return _SIGNAL[interrupt]


def run_oracle(core: str, case: Case, address: int = CODE, wide: bool | None = None) -> Outcome:
    """Execute a case; `wide` chooses 64-bit mode (by default what `core` has)."""
    wide = core != "e500mc" if wide is None else wide
    machine = oracle(core, wide)
    cpu = machine.cpu
    load_state(cpu, case.before)
    machine.ram[BUFFER : BUFFER + BUFFER_SIZE] = bytes(case.before.memory)
    cpu.msr = user_msr(core, wide)
    cpu.pc = address
    cpu.reserve_valid = 0
    update_mode(cpu)
    end = address + 4 * len(case.words)
    while cpu.pc != end:
        index = (int(cpu.pc) - address) // 4
        machine.execute(case.words[index])
        if not cpu.msr & MSR.PR:
            number = (int(cpu.pc) - _VECTORS) >> 4
            return Outcome(None, signal_of(cpu, number), address)
    return Outcome(saved_state(cpu, machine.ram[BUFFER : BUFFER + BUFFER_SIZE]), 0, address)


def differences(got: Outcome, wanted: Outcome, bits: int = 64) -> list[str]:
    """What two outcomes disagree on, as text; empty when they agree. `bits`: width of GPRs, CTR and LR."""
    if got.after is None or wanted.after is None:
        return [] if got.signal == wanted.signal else [f"signal {got.signal}, wanted {wanted.signal}"]
    a, b = got.after, wanted.after
    mask = (1 << bits) - 1
    rows = [(f"r{n}", a.gpr[n] & mask, b.gpr[n] & mask) for n in range(31)]
    rows += [(f"f{n}", a.fpr[n], b.fpr[n]) for n in range(32)] + [(f"v{n}", a.vr[n], b.vr[n]) for n in range(32)]
    rows += [("cr", a.cr, b.cr), ("xer", a.xer & XER_BITS, b.xer & XER_BITS), ("ctr", a.ctr & mask, b.ctr & mask)]
    rows += [("lr", a.lr & mask, b.lr & mask), ("fpscr", a.fpscr, b.fpscr), ("vscr", a.vscr, b.vscr)]
    rows += [(f"memory[{n:#x}]", a.memory[n], b.memory[n]) for n in range(BUFFER_SIZE)]
    return [f"{name} {got_value:#x}, wanted {want:#x}" for name, got_value, want in rows if got_value != want]
