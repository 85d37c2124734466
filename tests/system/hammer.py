"""Guests that try everything: random words, registers, translations, devices. Run as a program, so that what kills
the VMM kills only this process: `python -m tests.system.hammer WHAT --cpu e6500 --seed 1 --seconds 2`.

It ends with status 0 and a line "survived ..." when the machine stayed inside its own memory and closed promptly.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from powervisor import Machine
from powervisor.hv.exits import Exit, Kick
from powervisor.insns import TABLE
from powervisor.isa import cores
from powervisor.isa.registers import MSR, SPR
from powervisor.native.ints import u64
from powervisor.vcpu.state import CoreConfig
from tests.system.bare import MAPPED, MIB, ORIGIN, bare_machine

Words = Callable[[], int]
BUILDING_SECONDS = 90.0
"""What building a translator and closing may take on a loaded host."""
INTERESTING = (
    0, 1, 2, 3, 0xFFF, 0x1000, ORIGIN, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_F000, MAPPED - 1, MAPPED - 4,
    MAPPED - 128, MAPPED, 0xE000_0000, 0xFE00_0000, 1 << 32, 0xF_E004_0000, 1 << 63, (1 << 64) - 1, (1 << 64) - 4096,
)  # fmt: skip
SPOILERS = {"wait"}
"""Entries that only make a vCPU sleep until the next kick: left out of most programs, they find nothing."""


SPOILED = (
    SPR.MAS0, SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS5, SPR.MAS6, SPR.MAS7, SPR.MAS8, SPR.PID, SPR.SRR0, SPR.CSRR0,
    SPR.MCSRR0, SPR.LR, SPR.CTR, SPR.EPLC, SPR.EPSC, SPR.DAC1, SPR.IAC1,
)  # fmt: skip
"""SPRs that begin with anything, as a guest may have written them."""
TRAMPOLINE = 0x1F00
AGAIN = f"""
    .org {TRAMPOLINE:#x}
    mfspr r31, 268              # the time base is as good as any random number
    rlwinm r31, r31, 2, 18, 29
    addi  r31, r31, 0x2000
    mtctr r31
    mfspr r30, 275              # SPRG3: the MSR to go on with
    mtmsr r30
    mfspr r30, 274
    bctr
"""
"""Where most vectors lead: on with the random words somewhere else."""


class Escaped(Exception):
    """The guest reached what is not its own."""


def random_words(rng: random.Random, cpu: str, chosen: Callable[[Any], bool] = lambda entry: True) -> Words:
    """A source of words: entries of the core's table with random fields, and now and then any word."""
    entries = [e for e in TABLE.for_core(cores.get(cpu).categories) if e.name not in SPOILERS and chosen(e)]

    def word() -> int:
        if rng.random() < 0.05:
            return rng.getrandbits(32)
        entry = rng.choice(entries)
        return entry.match | rng.getrandbits(32) & ~entry.mask & 0xFFFF_FFFF

    return word


def value(rng: random.Random) -> int:
    """A register's content: an interesting address, near one, a small number or any."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(INTERESTING) + rng.randint(-130, 130) * (rng.random() < 0.5) & (1 << 64) - 1
    return rng.randrange(0, MAPPED) if kind < 0.8 else rng.getrandbits(64)


class Watch:
    """What no guest may change: the VMM's own memory that lies in the reach of native code."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        engine = machine.vm.engine
        self.text = engine.space.base, engine.image.used
        """The translator's image; it stays where it is when a better one is built meanwhile."""
        self.before = self._now()

    def _now(self) -> dict[str, Any]:
        import ctypes

        machine, vm = self.machine, self.machine.vm
        found: dict[str, Any] = {
            "translator": hashlib.sha256(ctypes.string_at(*self.text)).hexdigest(),
            "vm": [int(getattr(vm.state, n)) for n in ("ram", "ram_size", "vcpu_count", "clock_gettime", "futex",
                                                       "irqchip", "irqchip_read", "code_map")],
        }  # fmt: skip
        for vcpu in machine.vcpus:
            state = vcpu.state
            found[f"cpu{vcpu.index}"] = (
                int(state.core.address), int(state.tlb.address), int(state.vm.address), int(state.contexts),
                int(state.index), int(state.thread), int(state.sibling),
                ctypes.string_at(state.core.address, CoreConfig.size),
            )  # fmt: skip
        return found

    def check(self) -> None:
        """Raise Escaped if anything of it changed."""
        now = self._now()
        if changed := [name for name, was in self.before.items() if now[name] != was]:
            raise Escaped(f"changed: {', '.join(changed)}")
        if int(self.machine.vm.state.code_lock):
            raise Escaped("the code lock was left taken")


class Alone:
    """CPU 0 under the test's control: run for some instructions, answer its exits, start anew after its end."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.vcpu = machine, machine.vcpus[0]
        self.ends: dict[str, int] = {}
        machine.counting.active = True  # resets are done between two exits
        self._over = threading.Event()
        self._nudge = threading.Thread(target=self._wake, daemon=True)
        self._nudge.start()

    def _wake(self) -> None:
        """Let nothing sleep for long."""
        while not self._over.wait(0.01):
            self.vcpu.kick()

    def run(self, instructions: int) -> None:
        """Run about so many instructions, or until it sleeps."""
        machine, vcpu = self.machine, self.vcpu
        end = vcpu.instructions + instructions
        asleep = 0
        while (left := end - vcpu.instructions) > 0 and asleep < 2:
            exit_: Exit | None = machine.vm.run(vcpu, left)
            stuck = isinstance(exit_, Kick) and end - vcpu.instructions == left
            if exit_ is not None:
                machine._answers(vcpu, exit_)
            if machine.counting.due:
                self.ends["reset"] = self.ends.get("reset", 0) + 1
                machine.counting.due.pop()()
                return
            if (outcome := machine._outcome) is not None:
                self.ends[outcome.kind] = self.ends.get(outcome.kind, 0) + 1
                machine._outcome = None
                return
            # Stuck: its vectors are not mapped, and it takes one interrupt after the other.
            asleep = asleep + 1 if vcpu.state.waiting or vcpu.halted or stuck else 0

    def close(self) -> None:
        """End the helper thread."""
        self._over.set()
        self._nudge.join()


def map_page(vcpu: Any, entry: int, ea: int, pa: int, size: int, rights: int = 0x3F, attributes: int = 0) -> None:
    """Put an entry in TLB1, as tlbwe would."""
    vcpu.map_initial(entry, pa, size)
    made = vcpu.state.tlb.tlb1[entry]
    made.ea, made.mas3, made.mas2 = u64(ea), rights, attributes
    vcpu.engine.forget_all(vcpu.address)


def set_vectors(rng: random.Random, vcpu: Any, common: int, other: float = 0.0) -> None:
    """All interrupt vectors lead to `common`, or with probability `other` anywhere in the random words."""
    vcpu.regs["ivpr"] = 0
    for name in vcpu.regs:
        if name.startswith("ivor"):
            vcpu.regs[name] = rng.randrange(0x2000, 0xF000) & ~15 if rng.random() < other else common


def fill(machine: Machine, start: int, words: list[int]) -> None:
    """Write code; drops what was translated there."""
    machine.space.write_bytes(start, struct.pack(f">{len(words)}I", *words))


def supervisor_words(rng: random.Random, cpu: str, seconds: float, board: str = "ppce500") -> str:
    """Random words with every privilege, from random states: TLBs, vectors, MSR, SPRs are the guest's to spoil."""
    total = 0
    with bare_machine(AGAIN, cpu, board=board) as machine:
        watch, alone, vcpu = Watch(machine), Alone(machine), machine.vcpus[0]
        trampoline = list(struct.unpack(">8I", machine.memory[TRAMPOLINE : TRAMPOLINE + 32]))
        word = random_words(rng, cpu)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            vcpu.reset()
            vcpu.state.halted = 0
            map_page(vcpu, 0, 0, 0, MAPPED)
            fill(machine, TRAMPOLINE, trampoline)
            # Across the end of RAM, devices, and all of RAM once more little-endian.
            map_page(vcpu, 1, 0x1000_0000, 0, 256 * MIB)
            map_page(vcpu, 2, 0xE000_0000, 0xF_E000_0000, 16 * MIB)
            map_page(vcpu, 3, 0x2000_0000, 0, 64 * MIB, attributes=1)
            regs = vcpu.regs
            for number in range(32):
                regs[f"r{number}"] = value(rng)
            for number in SPOILED:
                if rng.random() < 0.7:
                    vcpu.state.spr[number] = value(rng) & (0xFFFF_FFFF_FFFF_FFFF if rng.random() < 0.5 else 0xFFFF_FFFF)
            if int(vcpu.state.core.virtual):
                for number in (SPR.MAS5, SPR.MAS8, SPR.EPLC, SPR.EPSC):
                    vcpu.state.spr[number] = int(vcpu.state.spr[number]) & int(vcpu.state.core.spr_mask[number])
            vcpu.state.spr[SPR.PID] = int(vcpu.state.spr[SPR.PID]) & int(vcpu.state.core.pid_mask)
            set_vectors(rng, vcpu, TRAMPOLINE, 0.05)
            regs["sprg3"] = MSR.ME | rng.choice((0, MSR.FP, MSR.EE, MSR.FP | MSR.VEC, rng.getrandbits(32) & ~MSR.PR))
            regs["xer"] = rng.getrandbits(7) | rng.getrandbits(3) << 29
            msr = rng.choice((MSR.ME, MSR.ME | MSR.FP | MSR.EE, MSR.ME | MSR.CM | MSR.FP, rng.getrandbits(32)))
            absent = (MSR.CM if cores.get(cpu).bits == 32 else 0) | (MSR.GS if int(vcpu.state.core.virtual) else 0)
            regs["msr"] = msr & ~absent
            words = [word() for _ in range(4096)]
            if int(vcpu.state.core.virtual):
                add_calls(rng, words)
            fill(machine, 0x2000, words)
            regs["pc"] = rng.choice((0x2000 + 4 * rng.randrange(4096), 0x1000_2000, MAPPED - 4))
            before = vcpu.instructions
            alone.run(rng.choice((500, 20_000)))
            total += vcpu.instructions - before
        alone.close()
        watch.check()
    return f"{total} instructions, ends {alone.ends}"


def add_calls(rng: random.Random, words: list[int]) -> None:
    """Put hypercalls among words: lis r11; ori r11; sc 1."""
    for _ in range(len(words) // 40):
        at = rng.randrange(len(words) - 3)
        vendor, number = rng.choice(((1, rng.randrange(18)), (42, rng.randrange(6)), (rng.randrange(8), 1)))
        words[at : at + 3] = 0x3D60_0000 | vendor, 0x616B_0000 | number, 0x4400_0022


def partition_words(rng: random.Random, cpu: str, seconds: float) -> str:
    """As `supervisor_words`, of a guest with Powervisor as its hypervisor, which it calls."""
    return supervisor_words(rng, cpu, seconds, "ppce500,hypervisor=on")


def user_words(rng: random.Random, cpu: str, seconds: float) -> str:
    """Random words in user mode: only what is mapped writable for users may change."""
    page, total, core = 0x20_0000, 0, cores.get(cpu)
    with bare_machine("b .", cpu) as machine:
        watch, alone, vcpu = Watch(machine), Alone(machine), machine.vcpus[0]
        word = random_words(rng, cpu)
        background = rng.randbytes(4 * MIB)
        machine.memory[0 : 4 * MIB] = background
        fill(machine, 0x3000, [0x4800_0000])  # every vector ends the run in a loop
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            vcpu.reset()
            vcpu.state.halted = 0
            map_page(vcpu, 0, 0, 0, MAPPED, rights=0x15)  # SX SW SR
            map_page(vcpu, 1, 0x4000_0000, page, 4096, rights=0x3F)
            map_page(vcpu, 2, 0x4000_1000, page + 0x1000, 4096, rights=0x2A & ~8)  # UX UR
            set_vectors(rng, vcpu, 0x3000)
            for number in range(32):
                near = 0x4000_0000 + rng.randrange(0x2000)
                vcpu.regs[f"r{number}"] = near if rng.random() < 0.6 else value(rng)
            vcpu.regs["xer"] = rng.getrandbits(7)
            msr = MSR.PR | MSR.ME | MSR.FP | (MSR.CM if core.bits == 64 and rng.random() < 0.5 else 0)
            vcpu.regs["msr"] = msr | (MSR.VEC if "altivec" in core.categories else 0)
            fill(machine, page, [word() for _ in range(512)])
            vcpu.regs["pc"] = 0x4000_0000 + 4 * rng.randrange(500)
            before = vcpu.instructions
            alone.run(300)
            total += vcpu.instructions - before
        alone.close()
        watch.check()
        now = bytearray(machine.memory[0 : 4 * MIB])
        for start, size in ((0x3000, 4), (page, 0x1000)):
            now[start : start + size] = background[start : start + size]
        if now != background:
            at = next(i for i, (a, b) in enumerate(zip(now, background, strict=True)) if a != b)
            raise Escaped(f"user mode changed physical 0x{at:x}")
    return f"{total} instructions"


SWEEP = """
    vector 401, failed
    lis   r4, 0xFFF0        # everything in the window's page: three TLB1 entries were made by the test
    lis   r3, 0x10
    lwz   r9, 0(r3)         # number of accesses
    mtctr r9
    addi  r3, r3, 16
    li    r4, 0x1000        # ME
    mtmsr r4
    isync
next:
    lwz   r5, 0(r3)         # effective address
    lwz   r6, 4(r3)         # kind
    lwz   r7, 8(r3)         # value
    sldi  r8, r7, 32
    or    r7, r7, r8
    cmplwi r6, 0
    beq   s1
    cmplwi r6, 1
    beq   s2
    cmplwi r6, 2
    beq   s4
    cmplwi r6, 3
    beq   s8
    cmplwi r6, 4
    beq   l1
    cmplwi r6, 5
    beq   l2
    cmplwi r6, 6
    beq   l4
    ld    r7, 0(r5)
    b     done
s1: stb   r7, 0(r5)
    b     done
s2: sth   r7, 0(r5)
    b     done
s4: stw   r7, 0(r5)
    b     done
s8: std   r7, 0(r5)
    b     done
l1: lbz   r7, 0(r5)
    b     done
l2: lhz   r7, 0(r5)
    b     done
l4: lwz   r7, 0(r5)
done:
    addi  r3, r3, 16
    bdnz  next
over:
    b     over
    .balign 16
failed:
    mfspr r20, 570          # MCSRR0
    addi  r20, r20, 4
    mtspr 570, r20
    addi  r21, r21, 1
    rfmci
"""


def devices(rng: random.Random, cpu: str, seconds: float) -> str:
    """Random accesses of every size to every device window, by the guest itself."""
    accesses = failures = 0
    ends: dict[str, int] = {}
    core = cpu if cores.get(cpu).bits == 64 else "e5500"  # the sweep has doubleword accesses
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with bare_machine(SWEEP, core, cores=4, serial=[None, None]) as machine:
            watch, vcpu = Watch(machine), machine.vcpus[0]
            windows = machine.space.windows
            mapped = []
            for number, base in enumerate(sorted({w.base & ~(16 * MIB - 1) for w in windows})):
                map_page(vcpu, 1 + number, 0x8000_0000 + number * 16 * MIB, base, 16 * MIB)
                mapped.append((0x8000_0000 + number * 16 * MIB, base))
            rows = []
            for _ in range(4000):
                window = rng.choice(windows)
                ea = next(ea for ea, base in mapped if base <= window.base < base + 16 * MIB)
                offset = window.base % (16 * MIB) + rng.choice((rng.randrange(min(window.size, 0x400)),
                                                               rng.randrange(min(window.size, 8 * MIB))))  # fmt: skip
                data = rng.choice((0, 1, 0xFFFF_FFFF, 1 << rng.randrange(32), rng.getrandbits(32)))
                if rng.random() < 0.8:
                    offset &= ~3
                if window.name in ("gpio", "guts", "spin-table") and rng.random() < 0.95:
                    continue  # these end the run; now and then is enough
                rows.append((ea + offset, rng.randrange(8), data, 0))
            machine.memory[0x10_0000:0x10_0010] = struct.pack(">4I", len(rows), 0, 0, 0)
            machine.memory[0x10_0010 : 0x10_0010 + 16 * len(rows)] = b"".join(struct.pack(">4I", *r) for r in rows)
            sound = hashlib.sha256(machine.memory[0x8_0000:0xF_0000]).digest()
            machine.start()
            limit = time.monotonic() + 20
            over = machine.symbols["over"]  # type: ignore[attr-defined]
            while (outcome := machine.wait(0.02)) is None and time.monotonic() < limit:
                machine.vm.pause()
                stopped = vcpu.regs["pc"] == over
                machine.vm.resume()
                if stopped:
                    break
            how = f"{outcome.kind} {outcome.detail}".strip() if outcome else "done" if stopped else "held"
            ends[how] = ends.get(how, 0) + 1
            accesses += len(rows)
            machine.stop()
            failures += vcpu.regs["r21"]
            watch.check()
            if hashlib.sha256(machine.memory[0x8_0000:0xF_0000]).digest() != sound:
                raise Escaped("a device changed RAM that no DMA was asked for")
    return f"{accesses} accesses, {failures} machine checks, ends {ends}"


def parallel(rng: random.Random, cpu: str, seconds: float) -> str:
    """All vCPUs run random words at once in the same RAM, patching each other's code, while the host pokes them."""
    threads = 2 if cpu == "e6500" else 1
    total = 0
    ends: dict[str, int] = {}
    until = time.monotonic() + seconds
    with bare_machine(AGAIN, cpu, cores=4 // threads, threads=threads) as machine:
        watch = Watch(machine)
        word = random_words(rng, cpu)
        trampoline = list(struct.unpack(">8I", machine.memory[TRAMPOLINE : TRAMPOLINE + 32]))
        machine.start()
        while time.monotonic() < until:
            machine.vm.pause()
            total += sum(vcpu.instructions for vcpu in machine.vcpus)
            with machine.lock:
                fill(machine, TRAMPOLINE, trampoline)
                for start in range(0x2000, 0x1_0000, 0x1000):
                    fill(machine, start, [word() for _ in range(1024)])
                for vcpu in machine.vcpus:
                    vcpu.reset()
                for vcpu in machine.vcpus:
                    vcpu.state.halted = vcpu.state.disabled = 0
                    if int(vcpu.state.thread) == 0:
                        map_page(vcpu, 0, 0, 0, MAPPED)
                        map_page(vcpu, 2, 0xE000_0000, 0xF_E000_0000, 16 * MIB)
                    set_vectors(rng, vcpu, TRAMPOLINE, 0.05)
                    vcpu.regs["sprg3"] = MSR.ME | rng.choice((0, MSR.FP, MSR.EE | MSR.FP))
                    for number in range(32):
                        vcpu.regs[f"r{number}"] = value(rng)
                    vcpu.regs["msr"] = rng.choice((MSR.ME, MSR.ME | MSR.EE | MSR.FP, MSR.ME | MSR.PR | MSR.FP))
                    vcpu.regs["pc"] = rng.randrange(0x2000, 0xF000) & ~3
            machine.vm.resume()
            outcome = machine.wait(rng.choice((0.002, 0.02, 0.05)))
            if outcome is not None or any(not worker.is_alive() for worker in machine.vm._workers):
                kind = re.sub("cpu[0-9]", "cpu", f"{outcome.kind} {outcome.detail}") if outcome else "thread ended"
                ends[kind] = ends.get(kind, 0) + 1
                restart(machine)
        machine.vm.pause()
        total += sum(vcpu.instructions for vcpu in machine.vcpus)
        machine.vm.resume()
        machine.stop()
        watch.check()
    return f"{total} instructions, ends {ends}"


def restart(machine: Machine) -> None:
    """Let a machine that ended run again, as nobody but a test may."""
    machine.vm.stop()
    machine._outcome, machine.started, machine.vm._stopping = None, False, False
    machine.start()


KINDS = {f.__name__.replace("_", "-"): f for f in (supervisor_words, partition_words, user_words, devices, parallel)}


def have_image(cpu: str) -> None:
    """Wait for the real image: a quick one is added to when guests meet what it lacks."""
    with bare_machine("b .", cpu) as machine:
        if (coming := machine.vm.engine.coming) is not None:
            coming.wait()


def main() -> int:
    """Run one kind; exceptions and signals end the process with another status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cpu", default="e5500")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    begin = time.monotonic()
    have_image(options.cpu)
    said = KINDS[options.kind](random.Random(options.seed), options.cpu, options.seconds)
    if time.monotonic() - begin > options.seconds + BUILDING_SECONDS:
        raise Escaped(f"took {time.monotonic() - begin:.0f} s: a vCPU does not stop")
    print(f"survived {options.kind} --cpu {options.cpu} --seed {options.seed}: {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
