"""Compiled AltiVec handlers and stencils against the oracle."""

from __future__ import annotations

import random
from typing import Any

import pytest

from powervisor.isa.insn import Insn
from powervisor.isa.registers import MSR, VSCR
from powervisor.vcpu.modes import update_mode
from tests.altivec.programs import ENTRIES, handlers, stencil_for
from tests.altivec.values import integers, singles
from tests.support.oracle_user import differences, load_state, oracle, saved_state
from tests.support.qemu_user import AREA, BUFFER, BUFFER_OFFSET, BUFFER_SIZE, Outcome, State

CORE = "e6500"
HOT = [entry for entry in ENTRIES if entry.hot]
MAY_LEAVE = {"vaddfp", "vsubfp", "vmaddfp", "vnmsubfp"}


def state(rng: random.Random, entry: Insn) -> State:
    """Registers full of what the entry cares for; v8 .. v15 hold tame singles; r4 .. r7 point into the buffer."""
    made = State()
    for n in range(32):
        made.vr[n] = singles(rng) if entry.group == "altivec_float" and rng.random() < 0.9 else integers(rng)
    for n in range(8, 16):
        made.vr[n] = int.from_bytes(bytes(rng.choice((0x3F, 0xBF, 0x40, 0x41)) if k % 4 == 0 else rng.getrandbits(8)
                                          for k in range(16)), "big")  # fmt: skip
    for n in range(31):
        made.gpr[n] = rng.getrandbits(64)
    for n in range(4, 8):
        made.gpr[n] = rng.randrange(BUFFER_SIZE - 16)
    made.gpr[0] = made.gpr[3] = AREA + BUFFER_OFFSET + rng.randrange(BUFFER_SIZE)
    made.vscr = rng.choice((0, VSCR.NJ, VSCR.SAT, VSCR.NJ | VSCR.SAT))
    made.cr = rng.getrandbits(32)
    made.memory = bytearray(rng.randbytes(BUFFER_SIZE))
    return made


def encode(rng: random.Random, entry: Insn) -> int:
    """A random word of the entry, with addresses in the buffer when it touches memory."""
    values: dict[str, int] = {}
    for name, field in entry.fields.items():
        if field.signed:
            values[name] = rng.randrange(-(1 << field.width - 1), 1 << field.width - 1)
        else:
            values[name] = rng.randrange(1 << field.width)
    if "rb" in values and entry.group == "altivec_storage":
        values["ra"], values["rb"] = rng.choice(((0, 3), (31, 4), (31, 5)))
    if entry.name in MAY_LEAVE and rng.random() < 0.7:
        values["vra"], values["vrb"] = rng.randrange(8, 16), rng.randrange(8, 16)
        if "vrc" in values:
            values["vrc"] = rng.randrange(8, 16)
    return entry.encode(**values)


class Machine:
    """The oracle's vCPU, on which an instruction is run by Python or by machine code."""

    def __init__(self, entry: Insn, before: State, word: int) -> None:
        self.machine = oracle(CORE, True)
        self.cpu: Any = self.machine.cpu
        self.entry, self.before, self.word = entry, before, word

    def prepare(self) -> None:
        load_state(self.cpu, self.before)
        # r31 + r4 or r5 is an address in the buffer
        self.cpu.gpr[31] = BUFFER
        self.machine.ram[BUFFER : BUFFER + BUFFER_SIZE] = bytes(self.before.memory)
        self.cpu.msr = int(MSR.PR | MSR.VEC | MSR.CM)
        self.cpu.pc = 0x1000
        update_mode(self.cpu)

    def outcome(self) -> State:
        return saved_state(self.cpu, self.machine.ram[BUFFER : BUFFER + BUFFER_SIZE])

    def by_oracle(self) -> State:
        self.prepare()
        self.machine.execute(self.word)
        assert self.cpu.pc == 0x1004
        return self.outcome()

    def by(self, function: Any) -> State | None:
        """The state after machine code ran; None when it left, having changed nothing."""
        self.prepare()
        if function(self.cpu.address, *self.entry.operands(self.word).values()):
            assert self.outcome() == self.after_prepare()
            return None
        return self.outcome()

    def after_prepare(self) -> State:
        self.prepare()
        return self.outcome()


def compare(machine: Machine, got: State, wanted: State) -> None:
    text = differences(Outcome(got, 0, 0), Outcome(wanted, 0, 0))
    sources = {name: f"{machine.before.vr[int(n)]:#034x}" for name, n in machine.entry.operands(machine.word).items()
               if name.startswith("vr")}  # fmt: skip
    assert not text, f"{machine.word:#010x} {sources} VSCR {machine.before.vscr:#x}: {text}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_handler_does_as_the_oracle(entry: Insn) -> None:
    rng = random.Random(entry.name)
    for _ in range(15):
        machine = Machine(entry, state(rng, entry), encode(rng, entry))
        wanted = machine.by_oracle()
        got = machine.by(handlers()[entry.name])
        assert got is not None
        compare(machine, got, wanted)


@pytest.mark.parametrize("entry", HOT, ids=lambda entry: entry.name)
def test_stencil_does_as_the_oracle(entry: Insn) -> None:
    rng, finished = random.Random(entry.name), 0
    for _ in range(20):
        machine = Machine(entry, state(rng, entry), encode(rng, entry))
        stencil = stencil_for(entry, machine.word)
        assert stencil is not None
        wanted = machine.by_oracle()
        got = machine.by(stencil)
        if got is not None:
            finished += 1
            compare(machine, got, wanted)
        else:
            assert entry.name in MAY_LEAVE, f"{machine.word:#010x} left its stencil"
    assert finished >= 8
