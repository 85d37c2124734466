"""Compiled by LLVM, everything here gives the state that Python gives."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from typing import Any

import pytest

from powervisor.insns import TABLE
from powervisor.isa.insn import Insn
from powervisor.isa.registers import DBCR0, MSR, SPR, TMR
from powervisor.native.codespace import CodeSpace
from powervisor.native.compile import Module, may_abort
from powervisor.native.elf import Object
from powervisor.native.ints import u32, u64
from powervisor.native.lang import NativeFunction, attempt
from powervisor.native.llvm import compile_object
from powervisor.testing import soft_tlb
from powervisor.translate.runtime import LIBRARY
from powervisor.translate.stencils import HoleTable, StencilCompiler, variants
from powervisor.vcpu import (
    debug,
    doorbells,
    interrupts,
    locks,
    lrat,
    mas,
    mmu_ops,
    modes,
    pending,
    spr_access,
    threads,
    timers,
)
from powervisor.vcpu.sprs import ROWS
from powervisor.vcpu.state import CONTEXTS, Context, Tlb, Vcpu

MODULES = (debug, doorbells, interrupts, locks, lrat, mas, mmu_ops, modes, pending, spr_access, threads, timers)
FAMILIES = ("system", "special", "mmu")
INSNS = [entry for entry in TABLE if entry.group in FAMILIES]
POINTERS = {"contexts", "core", "tlb", "vm", "sibling", "context"}


def natives() -> list[NativeFunction]:
    """Every native function of the modules that needs no compile-time argument."""
    found = []
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, NativeFunction) and value.body.__module__ == module.__name__:
                notes = [p.annotation for p in value.signature.parameters.values()]
                if "Static" not in notes:
                    found.append(value)
    return found


@pytest.fixture(scope="module")
def compiled() -> dict[NativeFunction, Callable[..., int]]:
    """The natives and instructions as C functions of integers."""
    module = Module()
    wanted = natives() + [entry.function for entry in INSNS]
    symbols = {function: module.require(function, export=True) for function in wanted}
    space = CodeSpace(1 << 20)
    text = module.emit() + LIBRARY
    loaded = Object(compile_object(text)).load(space.take, lambda name: pytest.fail(f"{name} is missing"))
    result: dict[NativeFunction, Any] = {}
    for function, symbol in symbols.items():
        call = ctypes.CFUNCTYPE(ctypes.c_uint8, *[ctypes.c_uint64 for _ in function.parameters])(loaded[symbol])
        call.space = space  # type: ignore[attr-defined]
        result[function] = call
    return result


def test_everything_compiles(compiled):
    assert len(compiled) > 100


@pytest.mark.parametrize("wide", [False, True])
def test_hot_instructions_have_stencils(wide):
    for entry in INSNS:
        for variant in (v for v in variants(entry) if v.cached is None) if entry.hot else ():
            text = StencilCompiler(Module(), HoleTable(), variant, wide, set()).stencil(entry.name)
            assert "n.next" in text or entry.ends


def state(cpu: Any) -> dict[str, Any]:
    """A vCPU's fields, its TLBs and soft TLBs without host addresses."""
    seen: dict[str, Any] = {}
    for name, field in Vcpu.fields.items():
        if name not in POINTERS:
            following = [f.offset for f in Vcpu.fields.values() if f.offset > field.offset]
            size = min(following, default=Vcpu.size) - field.offset
            seen[name] = ctypes.string_at(cpu.address + field.offset, size)
    seen["tlb"] = ctypes.string_at(cpu.tlb.address, Tlb.size)
    seen["context"] = int(cpu.context) - int(cpu.contexts)
    seen["soft"] = [soft_tlb.data_translations(int(cpu.contexts) + n * Context.size) for n in range(CONTEXTS)]
    return seen


INTERESTING = (0, 1, 2, 4, 6, 0x1000, 0x4000_0000, 0x7FFF_FFFF, 0x8000_0000, 0xC000_0008, 0xFFFF_FFFF, 1 << 63)
NUMBERS = sorted({row.number for row in ROWS}) + [0, 16, 1000, 1016]
PMRS = (0, 5, 16, 19, 22, 128, 144, 272, 384, 400, 401)
TMRS = (17, TMR.TMCFG0, TMR.IMSR0, TMR.IMSR1, TMR.INIA0, TMR.INIA1)


def value(rng: random.Random) -> int:
    """A register value that does something."""
    return rng.choice((rng.choice(INTERESTING), rng.getrandbits(64), rng.getrandbits(32), 1 << rng.randrange(32)))


def scramble(rng: random.Random, bench: Any) -> None:
    """A random state: registers, privilege, pending interrupts, debug control."""
    cpu = bench.cpu
    for n in range(32):
        cpu.gpr[n] = value(rng)
    for spr in (
        SPR.MAS0, SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS4, SPR.MAS5, SPR.MAS6, SPR.MAS7, SPR.MAS8, SPR.SRR0, SPR.SRR1,
        SPR.CSRR1, SPR.DSRR1, SPR.MCSRR1, SPR.GSRR1, SPR.EPCR, SPR.MSRP, SPR.TCR, SPR.DECAR, SPR.HID0, SPR.TSR,
    ):  # fmt: skip
        cpu.spr[spr] = value(rng) & int(cpu.core.spr_mask[spr])
    cpu.spr[SPR.DBCR0] = rng.choice((0, 0, DBCR0.IDM, DBCR0.IDM | value(rng) & DBCR0.IRPT))
    cpu.spr[SPR.DBSR] = rng.choice((0, value(rng) & 0xFFFF_FFFF))
    cpu.lines, cpu.doorbells = rng.choice((0, 0, rng.getrandbits(5))), rng.choice((0, 0, rng.getrandbits(5)))
    cpu.exit_reason = cpu.requests = 0
    cpu.pc = 0x1000
    bench.vm.fixed_ns = rng.randrange(1 << 40)
    gates = rng.getrandbits(32) & (MSR.EE | MSR.CE | MSR.DE | MSR.IS)
    bench.msr(rng.choice((0, MSR.PR, MSR.GS, MSR.GS | MSR.PR)) | gates)


def word_of(rng: random.Random, entry: Insn) -> int:
    """A word of an instruction, with registers that exist more often than not."""
    values = {}
    for name, field in entry.fields.items():
        if name == "spr":
            values[name] = rng.choice(NUMBERS)
        elif name == "pmrn":
            values[name] = rng.choice(PMRS)
        elif name == "tmr":
            values[name] = rng.choice(TMRS)
        elif name == "tbr":
            values[name] = rng.choice((SPR.TBL, SPR.TBU, 270))
        else:
            values[name] = rng.getrandbits(field.width)
    return entry.encode(**values)


@pytest.mark.parametrize("core", ["e500mc", "e5500", "e6500"])
def test_instructions_do_the_same_compiled(make, compiled, core):
    rng = random.Random(core)
    by_python, by_code = make(core), make(core)
    entries = [entry for entry in INSNS if entry.needs <= by_python.core.categories]
    for turn in range(600):
        entry = entries[turn % len(entries)] if turn % 3 else rng.choice([e for e in entries if e.name.endswith("spr")])
        seed = rng.random()
        for bench in (by_python, by_code):
            scramble(random.Random(seed), bench)
            bench.cpu.npc = 0x1004
        operands = list(entry.operands(word_of(rng, entry)).values())
        gone = attempt(entry.function, by_python.cpu, *operands) if may_abort(entry.function) else (
            entry.function(by_python.cpu, *operands) and False
        )  # fmt: skip
        flag = compiled[entry.function](by_code.cpu.address, *(int(o) for o in operands))
        if may_abort(entry.function):
            assert bool(flag & 1) == bool(gone), entry.name
        mine, theirs = state(by_python.cpu), state(by_code.cpu)
        different = [name for name in mine if mine[name] != theirs[name]]
        assert not different, f"{entry.name} {operands}: {different}"


def test_timers_and_pending_interrupts_do_the_same_compiled(make, compiled):
    rng = random.Random(7)
    by_python, by_code = make("e6500"), make("e6500")
    for _ in range(200):
        seed, later, what = rng.random(), rng.randrange(1 << rng.randrange(50)), rng.randrange(4)
        results = []
        for bench in (by_python, by_code):
            cpu = bench.cpu
            scramble(random.Random(seed), bench)

            def run(function: NativeFunction, *args: int, bench: Any = bench, cpu: Any = cpu) -> Any:
                if bench is by_python:
                    kinds = [u32 if p.annotation == "u32" else u64 for p in function.signature.parameters.values()]
                    return function(cpu, *(kind(a) for kind, a in zip(kinds[1:], args, strict=True)))
                return compiled[function](cpu.address, *args)

            run(timers.write_tcr, later & 0xFFFF_FFFF)
            run(timers.write_dec, rng.randrange(1) + int(seed * 1e6))
            bench.vm.fixed_ns = int(bench.vm.fixed_ns) + later
            if what == 0:
                run(timers.write_tsr, 0xFFFF_FFFF)
            elif what == 1:
                run(timers.set_timebase, later)
            run(timers.check_timers)
            run(pending.take_pending)
            results.append(state(cpu))
        different = [name for name in results[0] if results[0][name] != results[1][name]]
        assert not different
