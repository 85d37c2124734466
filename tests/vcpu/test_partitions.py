"""Random guests of several partitions, natively: nothing crosses (powervisor.testing.partitions)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from powervisor.isa import cores
from powervisor.isa.registers import IVOR, SPR
from powervisor.testing import partitions
from powervisor.testing.partitions import OWN_EA, Escaped, Guests, Machine, base

ROUNDS = 4
LONG_SECONDS = 60
USUAL = (IVOR.PROGRAM, IVOR.DATA_TLB, IVOR.INSTRUCTION_TLB, IVOR.HYPERVISOR_PRIVILEGE, IVOR.HYPERVISOR_SYSTEM_CALL)


@pytest.fixture
def guests(no_bench: None) -> Iterator[Any]:
    """Guests of a core by seeds."""
    made = []

    def make(core: str, seed: str) -> Guests:
        made.append(Guests(cores.get(core), seed))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_nothing_crosses_between_partitions(guests, core):
    seed = secrets.token_hex(4)
    run = guests(core, seed)
    for number in range(ROUNDS):
        partitions.run(run, 0, number)
    assert run.instructions > 100_000 and all(run.interrupts[n] for n in USUAL), partitions.summary(run, ROUNDS)


@pytest.mark.slow
def test_nothing_crosses_between_partitions_for_long(guests, core):
    partitions.run(guests(core, secrets.token_hex(4)), time.monotonic() + LONG_SECONDS)


def write_ram(at: int) -> Any:
    return lambda machine, vcpu: machine.ram.__setitem__(at, machine.ram[at] ^ 1)


def set_entry(machine: Machine, vcpu: int) -> None:
    machine.cpus[vcpu].tlb.tlb1[0].mas3 = 0


def set_lrat(machine: Machine, vcpu: int) -> None:
    machine.cpus[vcpu].tlb.lrat[7].valid = 1


def see(machine: Machine, vcpu: int) -> None:
    machine.cpus[vcpu].gpr[9] = partitions.secret(-1) << 32


def read(machine: Machine, vcpu: int) -> None:
    own = base(int(machine.cpus[vcpu].spr[SPR.LPIDR]) // 2 - 1)
    machine.ram[own + 0x8001 : own + 0x8009] = partitions.secret(-1).to_bytes(4, "big") * 2


def spoil(machine: Machine, vcpu: int) -> None:
    """A PTE of somebody else's, where the table walk would have put its page."""
    entry = machine.cpus[vcpu].tlb.tlb0[5]
    entry.ea, entry.pa, entry.mask, entry.mas8 = OWN_EA, base(partitions.PARTITIONS), 0xFFF, 1 << 31 | 2
    entry.valid = 1


CROSSINGS: dict[str, Any] = {
    "the hypervisor's code changed": write_ram(0x700),
    "the hypervisor's memory changed": write_ram(0x6000),
    "memory behind the partitions changed": write_ram(base(partitions.PARTITIONS)),
    "IVOR6 changed": lambda machine, vcpu: machine.cpus[vcpu].spr.__setitem__(SPR.IVOR0 + 6, 0x100),
    "which did not run": lambda machine, vcpu: machine.cpus[1 - vcpu].cr.__setitem__(3, 9),
    "names another partition": lambda machine, vcpu: machine.cpus[vcpu].spr.__setitem__(SPR.EPSC, 0),
    "entry 0 of TLB1 changed": set_entry,
    "entry 5 of TLB0": spoil,
    "the LRAT changed": set_lrat,
    "a register of partition": see,
    "memory holds what another's has": read,
}


@pytest.mark.parametrize("message", CROSSINGS)
def test_what_crosses_is_found(guests, monkeypatch, message):
    run = guests("e6500", "7")
    real = Machine.run

    def cross(machine: Machine, vcpu: int, instructions: int) -> int:
        reason = real(machine, vcpu, 10)
        CROSSINGS[message](machine, vcpu)
        return reason

    monkeypatch.setattr(Machine, "run", cross)
    monkeypatch.setattr(run.rng, "random", lambda: 0.9)  # one vCPU at a time
    with pytest.raises(Escaped, match=message):
        run.round(0)
