"""Confinement: random guests of three partitions run natively under a small hypervisor; nothing may cross.

    python -m powervisor.testing.partitions                              until Ctrl-C, all cores
    python -m powervisor.testing.partitions --seconds 600 --core e6500   ten minutes of one core
    python -m powervisor.testing.partitions --core e6500 --seed 7 --round 123      one round again

Two vCPUs (on e6500 the threads of a core, which share TLBs and LRAT) run one partition after the other, a slice each,
from random registers, with random EPCR and MSRP. After each slice the hypervisor's memory and registers, the TLB
entries, memory and registers of everybody else are what they were, and nothing of others' memory was seen. Some
slices run two partitions at the same time, so that their order is the host's: such a finding may not come again.
Exit status 0: nothing found, 1: something was, or a user's mistake.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import random
import secrets
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..insns import TABLE
from ..isa import cores
from ..isa.cores import Core
from ..isa.registers import DBCR0, EPCR, EPLC, MAS0, MAS1, MAS2, MAS3, MAS5, MAS8, MSR, MSRP, SPR, TCR, TSR
from ..native.struct import size_of
from ..translate.engine import Engine
from ..vcpu.build import new_core_config, new_vcpu, new_vm
from ..vcpu.modes import MSR_BITS
from ..vcpu.sprs import rows
from ..vcpu.state import Doorbell, ExitReason, Tlb, TlbEntry, Vcpu
from . import tiny_hypervisor as hypervisor
from .state import architecture
from .words import WordMaker

RAM_SIZE = 0x10_0000
PARTITIONS, VCPUS = 3, 2
GUEST_SIZE = 0x2_0000
SECRET = hypervisor.GUEST_CODE_SIZE
"""Offset in a partition of the page that nobody else may see."""
TABLE_PAGE, FREE = SECRET + 0x1000, SECRET + 0x2000
"""Offsets of the page table of e6500's indirect entries, and of what the guest uses as it likes."""
HYPERVISORS_SECRET, SECRET_END = 0x5000, 0x1_0000
OWN_EA, FAULT_EA, LITTLE_EA, WALK_EA = hypervisor.GUEST_CODE, 0x20_0000, 0x30_0000, 0x4000_0000
ALL = MAS3.UX | MAS3.SX | MAS3.UW | MAS3.SW | MAS3.UR | MAS3.SR
PTE = 0xFD | 2 << 8 | 0x4_1000 | 4 << 19
WORDS, SLICES = 1024, 24
"""Random words of a partition, and slices, of a round."""
CHOSEN = EPCR.DSIGS | EPCR.ISIGS | EPCR.DTLBGS | EPCR.ITLBGS | EPCR.EXTGS | EPCR.DUVD | EPCR.DMIUH | EPCR.DGTMI
INTERRUPTS_CHANGE = frozenset(
    "CSRR0 CSRR1 MCSRR0 MCSRR1 DSRR0 DSRR1 MCSR MCAR MCARU TSR DBSR LPER LPERU".split()
)  # fmt: skip
"""Hypervisor registers that an interrupt changes; the hypervisor uses SPRG0 to SPRG3 besides."""
OFTEN = frozenset("special system mmu external cache".split())
CODE_SPACE, CODE_LIMIT = 64 << 20, 24 << 20
TURN = 20.0
"""Seconds that a core has before the next one comes."""


class Escaped(Exception):
    """A guest reached what is not its own."""


def base(partition: int) -> int:
    """Physical address of a partition's memory; its logical address too, but for e6500 (see `logical`)."""
    return 0x2_0000 + partition * GUEST_SIZE


def secret(partition: int) -> int:
    """The word of a partition's page (-1: the hypervisor's) that nobody else may see."""
    return 0xC5A3_97E1 + 0x0101_0107 * (partition + 1)


class Machine:
    """Two vCPUs, the hypervisor and three partitions in RAM."""

    def __init__(self, core: Core, tier1: str = "off") -> None:
        self.core = core
        self.threads = core.max_threads
        self.ram = mmap.mmap(-1, RAM_SIZE)
        self._pin: Any = (ctypes.c_char * RAM_SIZE).from_buffer(self.ram)
        self.vm: Any = new_vm(ctypes.addressof(self._pin), RAM_SIZE)
        self.vm.clock_gettime = 0
        config = new_core_config(core, 0, self.threads)
        first = new_vcpu(self.vm, core, config, 0)
        shared = first.cpu.tlb if self.threads == 2 else None
        self.processors = [first, new_vcpu(self.vm, core, config, 1, shared, 1 if self.threads == 2 else 0)]
        self.cpus: list[Any] = [processor.cpu for processor in self.processors]
        if self.threads == 2:
            self.cpus[0].sibling, self.cpus[1].sibling = self.cpus[1].address, self.cpus[0].address
        self.engine = Engine(core, self.vm, [], tier1=tier1, code_space=CODE_SPACE)
        self._power_on = [ctypes.string_at(cpu.address, Vcpu.size) for cpu in self.cpus]
        self.kept = [
            row.number for row in rows(core) if "h" in row.access and row.name not in INTERRUPTS_CHANGE
        ]  # fmt: skip
        self.names = {row.number: row.name for row in rows(core)}

    def lpid(self, vcpu: int, partition: int) -> int:
        """LPIDR of a partition on a vCPU; threads of a core have their own, as KVM gives them."""
        return 2 * (partition + 1) + (vcpu if self.threads == 2 else 0)

    def lpids(self, partition: int) -> set[int]:
        """Every LPID of a partition."""
        return {self.lpid(vcpu, partition) for vcpu in range(VCPUS)}

    def begin(self, codes: Sequence[bytes]) -> None:
        """The state before a round: memory, registers and TLBs; nothing is cached."""
        self.engine.flush()
        self.ram[:] = bytes(RAM_SIZE)
        code = hypervisor.program(self.core)
        self.ram[0 : len(code)] = code
        secret_size = (SECRET_END - HYPERVISORS_SECRET) // 4
        self.ram[HYPERVISORS_SECRET:SECRET_END] = struct.pack(">I", secret(-1)) * secret_size
        for partition, words in enumerate(codes):
            at = base(partition)
            self.ram[at : at + len(words)] = words
            handler = hypervisor.guest_handler(self.core)
            where = at + hypervisor.GUEST_HANDLERS
            self.ram[where : where + len(handler)] = handler
            self.ram[at + SECRET : at + SECRET + 0x1000] = struct.pack(">I", secret(partition)) * 1024
            for n in range(512):
                page = (OWN_EA if self.core.mav2 else at) + FREE + n % 8 * 0x1000
                entry = (page << 12 | PTE).to_bytes(8, "big")
                self.ram[at + TABLE_PAGE + 8 * n : at + TABLE_PAGE + 8 * n + 8] = entry
        for index, cpu in enumerate(self.cpus):
            self.engine.forget_all(cpu.address)
            ctypes.memmove(cpu.address, self._power_on[index], Vcpu.size)
            ctypes.memset(cpu.tlb.address, 0, size_of(Tlb))
            cpu.disabled = 0
            for number, value in hypervisor.registers(index).items():
                cpu.spr[number] = value
        self.tlbs = []
        for cpu in self.cpus if self.threads == 1 else self.cpus[:1]:
            self._map(cpu.tlb)
            self.tlbs.append(ctypes.string_at(cpu.tlb.address, size_of(Tlb)))

    def _map(self, tlb: Any) -> None:
        """TLB1 and the LRAT: the hypervisor's pages, and the same effective addresses for each partition."""
        rows: list[tuple[int, int, int, int, int, int, int]] = [
            (0, 0, 0x1_0000, MAS1.IPROT, 0, ALL, 0),
            (OWN_EA, 0, 0x1_0000, 0, 0, ALL, 0),  # the hypervisor's where the guests have theirs
        ]
        for partition in range(PARTITIONS):
            at = base(partition)
            for lpid in sorted(self.lpids(partition)):
                mas8 = MAS8.TGS | lpid
                for space in (0, MAS1.TS):
                    rows.append((OWN_EA, at, 0x1_0000, space, 0, ALL, mas8))
                    rows.append((FAULT_EA, at, 0x1000, space, 0, ALL, mas8 | MAS8.VF))
                rows.append((LITTLE_EA, at + FREE, 0x1000, 0, MAS2.E, ALL & ~MAS3.UW, mas8))
                if self.core.mav2:
                    rows.append((WALK_EA, at + TABLE_PAGE, 0x20_0000, MAS1.IND, 0, 4, mas8))
        for n, (ea, pa, size, mas1, mas2, mas3, mas8) in enumerate(rows):
            entry = tlb.tlb1[n]
            entry.ea, entry.pa, entry.mask = ea, pa, size - 1
            entry.mas1 = MAS1.V | mas1 | (size.bit_length() - 11) << 7
            entry.mas2, entry.mas3, entry.mas8, entry.valid = mas2, mas3, mas8, 1
        tlb.tlb1_used = len(rows)
        if not self.core.mav2:
            return
        for n in range(PARTITIONS * self.threads):
            partition, thread = divmod(n, self.threads)
            entry = tlb.lrat[n]
            entry.lpa, entry.pa, entry.mask = OWN_EA, base(partition), GUEST_SIZE - 1
            entry.lpid, entry.valid = self.lpid(thread, partition), 1

    def run(self, vcpu: int, instructions: int) -> int:
        """Run a vCPU for so many instructions; why it stopped before, or BUDGET."""
        cpu = self.cpus[vcpu]
        end = int(cpu.executed) + instructions
        while True:
            cpu.exit_reason = cpu.exit_detail = 0
            cpu.left, cpu.slice, cpu.budget = end - int(cpu.executed), 0, 0
            self.engine.run(cpu.address)
            reason = int(cpu.exit_reason)
            if reason == ExitReason.HOT:
                self.engine.hot(cpu)
            elif reason != ExitReason.KICK:
                return reason
            cpu.waiting = 0  # a guest may wait for what never comes

    def close(self) -> None:
        """Free everything."""
        self.engine.close()
        self._pin = None
        self.ram.close()


class Guests:
    """Rounds of random guests on a core."""

    def __init__(self, core: Core, seed: str, tier1: str = "off") -> None:
        self.core, self.seed = core, seed
        self.machine = Machine(core, tier1)
        self.rng = random.Random()
        self.maker = WordMaker(core, self.rng)
        entries = [entry for entry in TABLE.for_core(core.categories) if entry.name != "wait"]
        self._all, self._often = entries, [entry for entry in entries if entry.group in OFTEN]
        self.instructions = self.exits = self.slices = 0
        self.interrupts: Counter[int] = Counter()

    def _code(self) -> bytes:
        rng = self.rng
        words = []
        for _ in range(WORDS):
            kind = rng.random()
            entry = rng.choice(self._often if kind < 0.45 else self._all)
            words.append(rng.getrandbits(32) if kind > 0.95 else self.maker.word(entry))
        rest = [rng.choice(words) for _ in range(hypervisor.GUEST_CODE_SIZE // 4 - WORDS)]
        return struct.pack(f">{len(words) + len(rest)}I", *words, *rest)

    def round(self, number: int) -> None:
        """One round; raises Escaped."""
        self.rng.seed(f"{self.seed}:{self.core.name}:{number}")
        machine = self.machine
        machine.begin([self._code() for _ in range(PARTITIONS)])
        for index in range(SLICES):
            running = {self.rng.randrange(VCPUS): self.rng.randrange(PARTITIONS)}
            if self.rng.random() < 0.2:
                vcpu, partition = next(iter(running.items()))
                running[1 - vcpu] = (partition + self.rng.randrange(1, PARTITIONS)) % PARTITIONS
            try:
                self._slice(running)
            except Escaped as error:
                states = "; ".join(self._state(vcpu, partition) for vcpu, partition in running.items())
                raise Escaped(f"{error} (slice {index}: {states})") from None

    def _state(self, vcpu: int, partition: int) -> str:
        cpu = self.machine.cpus[vcpu]
        return (
            f"vCPU {vcpu} partition {partition} PC {int(cpu.pc):#x} MSR {MSR.describe(int(cpu.msr))} "
            f"EPCR {EPCR.describe(int(cpu.spr[SPR.EPCR]))} MSRP {MSRP.describe(int(cpu.spr[SPR.MSRP]))}"
        )

    def _value(self) -> int:
        """A register's content: in the guest's pages, near another's, or any."""
        rng = self.rng
        near = rng.choice((OWN_EA, OWN_EA + FREE, FAULT_EA, LITTLE_EA, WALK_EA, 0, base(rng.randrange(PARTITIONS))))
        return rng.choice((near + rng.randrange(0x2000), near, rng.getrandbits(64), rng.getrandbits(32), 0, 8))

    def _enter(self, vcpu: int, partition: int) -> None:
        """Put a guest's random state on a vCPU, and what the hypervisor sets before it enters it."""
        rng, machine, cpu = self.rng, self.machine, self.machine.cpus[vcpu]
        lpid = machine.lpid(vcpu, partition)
        for n in range(32):
            cpu.gpr[n], cpu.fpr[n] = self._value(), self._value()
        page = OWN_EA + FREE + rng.randrange(8) * 0x1000
        context = EPLC.EGS | lpid << 16
        events = DBCR0.IDM | DBCR0.TRAP | DBCR0.RET | DBCR0.ICMP if rng.random() < 0.1 else 0
        sprs = {
            SPR.LPIDR: lpid, SPR.MAS5: MAS5.SGS | lpid, SPR.MAS8: 0, SPR.GPIR: rng.randrange(4),
            SPR.EPCR: rng.getrandbits(32) & CHOSEN | (EPCR.DUVD if events else 0), SPR.DBCR0: events, SPR.DBSR: 0,
            SPR.MSRP: rng.choice((0, MSRP.UCLEP, MSRP.UCLEP | MSRP.DEP | MSRP.PMMP)), SPR.PID: rng.choice((0, 0, 3)),
            SPR.EPLC: context | rng.choice((0, EPLC.EPR, EPLC.EAS)), SPR.EPSC: context | rng.choice((0, EPLC.EPR)),
            SPR.MAS0: MAS0.HES | rng.choice((0, 1 << 28, rng.getrandbits(32))), SPR.MAS2: self._value(),
            SPR.MAS1: MAS1.V | rng.choice((2 << 7, rng.getrandbits(30))), SPR.MAS3: page | ALL, SPR.MAS7: 0,
            SPR.MAS6: rng.choice((0, 1, 3 << 16)), SPR.LR: self._value(), SPR.CTR: self._value(),
            SPR.GSRR0: self._value(), SPR.GSRR1: rng.getrandbits(32), SPR.TCR: TCR.DIE | TCR.FIE | TCR.WIE,
            SPR.TSR: rng.choice((0, 0, TSR.DIS, TSR.FIS, TSR.WIS)),
        }  # fmt: skip
        for number, value in sprs.items():
            cpu.spr[number] = value & int(cpu.core.spr_mask[number]) if number not in (SPR.TSR, SPR.DBSR) else value
        cpu.doorbells = rng.choice((0, 0, Doorbell.GUEST, Doorbell.GUEST_CRITICAL, Doorbell.GUEST_MACHINE_CHECK))
        cpu.waiting = cpu.mmio_done = cpu.lines = 0
        msr = MSR.GS | rng.choice((0, MSR.FP, MSR.FP | MSR.VEC, rng.getrandbits(32)))
        if self.core.bits == 32 or rng.random() < 0.5:
            msr &= ~MSR.CM
        if "altivec" not in self.core.categories:
            msr &= ~MSR.VEC
        cpu.msr = msr & (MSR.CM | MSR.VEC | MSR_BITS)
        cpu.pc = OWN_EA + 4 * rng.randrange(WORDS)
        machine.engine.update_mode(cpu.address)

    def _slice(self, running: dict[int, int]) -> None:
        """Run guests by vCPU, at the same time if they are two, and look at everything else."""
        machine = self.machine
        for vcpu, partition in running.items():
            self._enter(vcpu, partition)
        before = _Before(machine, set(running.values()), set(running))
        counts = [int(cpu.executed) for cpu in machine.cpus]
        budget = self.rng.choice((300, 2_000, 10_000))
        reasons: dict[int, int] = {}

        def run(vcpu: int) -> None:
            reasons[vcpu] = machine.run(vcpu, budget)

        workers = [threading.Thread(target=run, args=(vcpu,)) for vcpu in running] if len(running) > 1 else []
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if not workers:
            run(*running)
        self.slices += 1
        self.instructions += sum(int(cpu.executed) for cpu in machine.cpus) - sum(counts)
        for vcpu, reason in reasons.items():
            if reason == ExitReason.CODE_FULL:
                machine.engine.flush()
                for cpu in machine.cpus:
                    machine.engine.forget_all(cpu.address)
            elif reason != ExitReason.BUDGET:
                raise Escaped(f"vCPU {vcpu} left native code with exit {reason}")
        before.check(running)
        if machine.engine.code_bytes() > CODE_LIMIT:
            machine.engine.flush()
            for cpu in machine.cpus:
                machine.engine.forget_all(cpu.address)

    def count(self) -> None:
        """Add the hypervisor's counts of interrupts of the round to the totals."""
        for index in range(VCPUS):
            at = hypervisor.AREAS + index * hypervisor.AREA_SIZE + hypervisor.COUNTS
            for n in hypervisor.VECTORS:
                self.interrupts[n] += int.from_bytes(self.machine.ram[at + 4 * n : at + 4 * n + 4], "big")
        self.exits = sum(self.interrupts.values())

    def close(self) -> None:
        """Free the machine."""
        self.machine.close()


class _Before:
    """What a slice must leave as it is."""

    def __init__(self, machine: Machine, partitions: set[int], vcpus: set[int]) -> None:
        self.machine, self.partitions = machine, partitions
        self.memory = self._memory()
        self.sprs = {vcpu: [int(machine.cpus[vcpu].spr[n]) for n in machine.kept] for vcpu in vcpus}
        self.others = {n: architecture(cpu.address) for n, cpu in enumerate(machine.cpus) if n not in vcpus}

    def _memory(self) -> dict[str, bytes]:
        ram = self.machine.ram
        found = {
            "the hypervisor's code": ram[0 : hypervisor.AREAS],
            "the hypervisor's memory": ram[hypervisor.AREAS + 0x1000 : base(0)],
            "memory behind the partitions": ram[base(PARTITIONS) : RAM_SIZE],
        }
        for partition in set(range(PARTITIONS)) - self.partitions:
            found[f"partition {partition}'s memory"] = ram[base(partition) : base(partition + 1)]
        return found

    def check(self, running: dict[int, int]) -> None:
        """Raise Escaped for the first thing that a guest changed or saw."""
        machine = self.machine
        for name, held in self._memory().items():
            if held != (was := self.memory[name]):
                at = next(n for n in range(len(held)) if held[n] != was[n])
                raise Escaped(f"{name} changed at offset {at:#x}")
        for vcpu, values in self.sprs.items():
            now = [int(machine.cpus[vcpu].spr[n]) for n in machine.kept]
            if changed := [machine.names[n] for n, a, b in zip(machine.kept, values, now, strict=True) if a != b]:
                raise Escaped(f"vCPU {vcpu}: {', '.join(changed)} changed")
        for vcpu, held in self.others.items():
            if architecture(machine.cpus[vcpu].address) != held:
                raise Escaped(f"a register of vCPU {vcpu} changed, which did not run")
        for vcpu, partition in running.items():
            self._check_guest(vcpu, partition)
        self._check_tlbs(running)

    def _check_guest(self, vcpu: int, partition: int) -> None:
        machine, cpu = self.machine, self.machine.cpus[vcpu]
        at = hypervisor.AREAS + vcpu * hypervisor.AREA_SIZE + hypervisor.MISTAKE
        mistake, srr0 = struct.unpack(">2I", machine.ram[at : at + 8])
        if mistake:
            raise Escaped(f"vCPU {vcpu}: the hypervisor was interrupted at {srr0:#x}")
        context = EPLC.EGS | machine.lpid(vcpu, partition) << 16
        for number in (SPR.EPLC, SPR.EPSC):
            if int(cpu.spr[number]) & (EPLC.EGS | EPLC.ELPID) != context:
                raise Escaped(f"vCPU {vcpu}: {machine.names[number]} names another partition")
        others = {secret(n) for n in range(-1, PARTITIONS)} - {secret(partition)}
        for name, count in (("gpr", 32), ("fpr", 32)):
            seen = [int(getattr(cpu, name)[n]) for n in range(count)]
            if others & ({value & 0xFFFF_FFFF for value in seen} | {value >> 32 for value in seen}):
                raise Escaped(f"vCPU {vcpu}: a register of partition {partition} holds what another's memory has")
        memory = machine.ram[base(partition) : base(partition + 1)]
        if any(struct.pack(">2I", word, word) in memory for word in others):
            raise Escaped(f"partition {partition}'s memory holds what another's has")

    def _check_tlbs(self, running: dict[int, int]) -> None:
        """Entries changed only as their own guests may: invalidated, or (e6500) replaced in TLB0 by the guest's own.

        TLB1 is made whole again, which leaves nothing cached that is wrong: the next guests meet the others' caches.
        """
        machine = self.machine
        own = {machine.lpid(vcpu, partition): partition for vcpu, partition in running.items()}
        for index, image in enumerate(machine.tlbs):
            address = machine.cpus[index].tlb.address
            now = ctypes.string_at(address, size_of(Tlb))
            if now == image:
                continue
            for offset, size, name in ((Tlb.offset("lrat"), size_of(Tlb) - Tlb.offset("lrat"), "the LRAT"),):
                if now[offset : offset + size] != image[offset : offset + size]:
                    raise Escaped(f"{name} changed")
            for start in range(0, Tlb.offset("next_victim"), TlbEntry.size):
                if now[start : start + TlbEntry.size] != image[start : start + TlbEntry.size]:
                    self._check_entry(TlbEntry.at(address + start), image, start, own)
            first = Tlb.offset("tlb1")
            ctypes.memmove(address + first, image[first:], Tlb.offset("lock") - first)
            machine.tlbs[index] = ctypes.string_at(address, size_of(Tlb))

    def _check_entry(self, entry: Any, image: bytes, start: int, own: dict[int, int]) -> None:
        first = Tlb.offset("tlb1")
        name = f"entry {start % first // TlbEntry.size} of TLB{int(start >= first)}"
        mas8 = struct.unpack_from("<I", image, start + TlbEntry.offset("mas8"))[0]
        if start >= first:
            if entry.valid or mas8 & MAS8.TLPID not in own or not mas8 & MAS8.TGS:
                raise Escaped(f"{name} changed")
        else:
            partition = own.get(int(entry.mas8) & MAS8.TLPID)
            if partition is None or not entry.mas8 & MAS8.TGS or not self.machine.core.mav2:
                raise Escaped(f"{name} is not the guest's own: MAS8 {int(entry.mas8):#x}")
            if not entry.valid:
                return
            if not base(partition) <= int(entry.pa) < base(partition + 1) or int(entry.mask) != 0xFFF:
                raise Escaped(f"{name} leads to {int(entry.pa):#x}, which is not partition {partition}'s")


def run(guests: Guests, until: float, first: int = 0) -> int:
    """Rounds until a time (of time.monotonic), at least one; how many."""
    number = first
    while True:
        try:
            guests.round(number)
        except Escaped as error:
            again = f"--core {guests.core.name} --seed {guests.seed} --round {number}"
            again = f"python -m powervisor.testing.partitions {again}"
            raise Escaped(f"{guests.core.name}: {error}\nagain: {again}") from None
        guests.count()
        number += 1
        if time.monotonic() >= until:
            return number - first


def summary(guests: Guests, rounds: int) -> str:
    """What was done, in a line."""
    return (
        f"{guests.core.name}: {rounds} rounds, {guests.slices:,} slices, {guests.instructions:,} instructions, "
        f"{guests.exits:,} interrupts of the hypervisor of {sum(1 for n in guests.interrupts.values() if n)} kinds"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    text = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m powervisor.testing.partitions", description=text)
    parser.add_argument("--seconds", type=float, default=0, help="for all cores together (default: until Ctrl-C)")
    parser.add_argument("--seed", default="", help="text; a new one is chosen and printed otherwise")
    parser.add_argument("--core", action="append", default=[], metavar="NAME", help="only this core; may be repeated")
    parser.add_argument("--round", type=int, metavar="N", help="only round N of the seed")
    parser.add_argument("--tier1", default="off", help="off (default), on, eager or force: compile hot code as regions")
    options = parser.parse_args(arguments)
    seed = options.seed or secrets.token_hex(4)
    try:
        names = [cores.get(name).name for name in options.core] or list(cores.CORES)
        machines = [Guests(cores.get(name), seed, options.tier1) for name in names]
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"seed {seed}", file=sys.stderr)
    rounds = Counter[str]()
    end = time.monotonic() + options.seconds if options.seconds else float("inf")
    share = min(TURN, options.seconds / len(machines)) if options.seconds else TURN
    try:
        while True:
            for guests in machines:
                name = guests.core.name
                turn = 0.0 if options.round is not None else min(end, time.monotonic() + share)
                rounds[name] += run(guests, turn, options.round if options.round is not None else rounds[name])
                print(summary(guests, rounds[name]), flush=True)
            if options.round is not None or time.monotonic() >= end:
                return 0
    except Escaped as error:
        print(error)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for guests in machines:
            guests.close()


if __name__ == "__main__":
    sys.exit(main())
