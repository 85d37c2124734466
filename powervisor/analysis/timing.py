"""Exit timing: how long the answers to exits take, by vCPU, reason and register; where the time goes; latencies.

    with measure(machine):
        machine.run(seconds=5)
        print(machine.statistics()["vcpus"][0]["timing"]["MMIO"]["p99"])

While anybody measures, `Machine.statistics` tells more; what that is, docs/statistics.md says. Names are those of
KVM's exit timing for Book E where it has them.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from ..devices.mpic_registers import register_name
from ..hv.exits import (
    Budget,
    Checkstop,
    CodeFull,
    Debug,
    Exit,
    Hcall,
    Hot,
    Interrupt,
    Kick,
    Mmio,
    NoHandler,
    Reset,
    Watched,
)
from ..hv.vcpu import Vcpu
from ..machine import Machine
from ..machine.places import Places
from ..native.histogram import Histogram
from ..vcpu.timing import Latency, VcpuTiming
from .distribution import Distribution, Json
from .samples import Samples
from .sources import source_label, sources

TYPES: dict[type[Any], str] = {
    Mmio: "MMIO", Kick: "SIGNAL", Hcall: "HCALL", Debug: "DEBUG", Watched: "DEBUG", Interrupt: "DEBUG",
    Reset: "RESET", Budget: "BUDGET", Hot: "HOT", NoHandler: "HANDLER", CodeFull: "CODE_FULL", Checkstop: "CHECKSTOP",
}  # fmt: skip
"""What exits are called."""
_REASONS = {
    "kick": "SIGNAL", "threads": "SIGNAL", "watch": "DEBUG", "interrupt": "DEBUG", "watchdog": "RESET",
}  # fmt: skip
LATENCIES = {
    Latency.EXTERNAL: "EXTINT", Latency.DECREMENTER: "DEC", Latency.FIT: "FIT", Latency.WATCHDOG: "WATCHDOG",
    Latency.DOORBELL: "DBELL",
}  # fmt: skip
SAMPLE_SECONDS = 1.0
LOOKS = 100
"""At vCPUs that change while they are looked at."""
NOWHERE = "nowhere"
"""The device of addresses where nothing answers."""
NS = 1_000_000_000

_Reading = tuple[tuple[int, int, int, int], int, int, int, int, int, int]
"""`_Account.spent`, `Vcpu.entered` and `Vcpu.left`, and of VcpuTiming left_ns, rests_since, waits.total, held_ns."""
_LEFT, _SINCE, _HELD = (VcpuTiming.offset(name) // 8 for name in ("left_ns", "rests_since", "held_ns"))
_WAITED = (VcpuTiming.offset("waits") + Histogram.offset("total")) // 8


class Measurement:
    """Somebody measures a machine until `close`; a context manager."""

    def __init__(self, machine: Machine) -> None:
        self._machine: Machine | None = machine
        with _changing:
            timing = _timings.get(machine)
            if timing is None:
                timing = _timings[machine] = _Timing(machine)
            timing.users += 1

    def close(self) -> None:
        """Measure no more; with the last one, what was measured is forgotten."""
        machine, self._machine = self._machine, None
        if machine is None:
            return
        with _changing:
            timing = _timings[machine]
            timing.users -= 1
            if not timing.users:
                del _timings[machine]
                timing.close()

    def __enter__(self) -> Measurement:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure(machine: Machine) -> Measurement:
    """Measure until the answer is closed. Several may at once: nothing is measured twice."""
    return Measurement(machine)


class _Account:
    """One vCPU's times. Its thread only gathers them; they are counted when somebody looks, every second at least."""

    __slots__ = ("cells", "gathered", "guest", "guest_gathered", "spent", "vcpu", "words")

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu
        self.spent = 0, 0, 0, 0
        """When the last answer was given; waited and held, in the guest, and answering until then. Replaced as a whole:
        whoever reads it sees all of an exit or nothing."""
        self.guest_gathered: list[int] = []
        self.guest = Distribution()
        self.gathered: dict[int | type[Exit], list[int]] = {}
        """Handling times: of Mmio exits by address * 2 + whether it is a write, of others by class."""
        self.cells: dict[int | type[Exit], Distribution] = {}
        self.words = memoryview((ctypes.c_char * VcpuTiming.size).from_address(vcpu.timing.address)).cast("B").cast("Q")

    def read(self) -> _Reading:
        """Where the vCPU is, and what it has spent. It goes on meanwhile: see `_Timing._moment`."""
        vcpu, words = self.vcpu, self.words
        return self.spent, vcpu.entered, vcpu.left, words[_LEFT], words[_SINCE], words[_WAITED], words[_HELD]

    def count(self) -> None:
        """Count what was gathered until now; one thread at a time."""
        _count(self.guest, self.guest_gathered)
        for key, times in list(self.gathered.items()):
            _count(self.cells.setdefault(key, Distribution()), times)


def _count(distribution: Distribution, gathered: list[int]) -> None:
    """Count times that another thread goes on adding at the end."""
    distribution.add(times := gathered[:])
    del gathered[: len(times)]


class _Timing:
    """The observer of a machine, and what it adds to the machine's statistics."""

    def __init__(self, machine: Machine) -> None:
        self.users = 0
        self._machine, self._vm = machine, machine.vm
        self._accounts = [_Account(vcpu) for vcpu in machine.vcpus]
        self._space = Places(machine.space)
        self._places: dict[int, Json] = {}
        """What was at an address when it was met first: device, register, address."""
        self._native_rows: dict[int, tuple[tuple[int, int], Json]] = {}
        self._samples, self._over, self._counting = Samples(), threading.Event(), threading.Lock()
        self._delivered = machine.mpic.delivered
        self._begin = time.monotonic_ns()
        machine.mpic.measure(True)
        self._vm.observe(self)
        self._vm.measure(True)
        machine.counted.more.append(self.add_to)
        self._sampler = threading.Thread(target=self._sample_often, name="statistics", daemon=True)
        self._sampler.start()

    def close(self) -> None:
        """Cost nothing any more."""
        self._over.set()
        self._sampler.join()
        self._machine.counted.more.remove(self.add_to)
        self._vm.unobserve(self)
        self._vm.measure(False)
        with self._machine.lock:  # which a machine that is closed takes before its native code goes
            self._machine.mpic.measure(False)

    # ---- every exit --------------------------------------------------------------------------------------------------

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        """Account an exit."""
        account = self._accounts[vcpu.index]
        words = account.words
        native = words[_LEFT]
        if entered < native < left:
            left = native  # what came after it was waiting for the GIL
        if entered < self._begin:
            entered, left = self._begin, max(left, self._begin)
        waited = words[_WAITED] + words[_HELD]
        _, before, guest, answering = account.spent
        executing = left - entered + before - waited
        if executing < 0:
            executing = 0
        account.guest_gathered.append(executing)
        key = exit_.pa << 1 | exit_.write if type(exit_) is Mmio else type(exit_)
        gathered = account.gathered.get(key)
        if gathered is None:
            gathered = account.gathered[key] = []
            if type(exit_) is Mmio:
                self._place(exit_.pa)
        gathered.append(answered - left)
        account.spent = answered, waited, guest + executing, answering + answered - left

    def _place(self, pa: int) -> Json:
        found = self._places.get(pa)
        if found is None:
            mpic = self._machine.mpic
            if 0 <= pa - mpic.base < mpic.size and (register := register_name(pa - mpic.base & ~3)) is not None:
                device = mpic.name  # a guest initialises hundreds of its registers
            else:
                place = self._space.find(pa, 1)
                device = NOWHERE if place is None else place.device
                register = f"0x{pa:x}" if place is None else place.name.removeprefix(device).removeprefix(".")
            found = self._places[pa] = {"device": device, "register": register, "address": f"0x{pa:x}"}
        return found

    # ---- what it comes to --------------------------------------------------------------------------------------------

    def add_to(self, statistics: Json) -> None:
        """Tell what was measured."""
        with self._counting:
            self._add_to(statistics)

    def _add_to(self, statistics: Json) -> None:
        for account in self._accounts:
            account.count()
        now, splits = self._moment()
        statistics["measured"] = (now - self._begin) / NS
        for account, split, told in zip(self._accounts, splits, statistics["vcpus"], strict=True):
            vcpu = account.vcpu
            told["time"] = {name: round(ns / NS, 6) for name, ns in split.items()}
            told["timing"] = {name: part.json() for name, part in sorted(_by_type(vcpu, account).items())}
            told["latency"] = {
                name: Distribution.of_native(part).json()
                for kind, name in LATENCIES.items()
                if (part := vcpu.timing.latency[kind]).count
            }
        statistics["registers"] = self._registers()
        statistics["sources"] = self._sources()
        statistics["samples"] = self._samples.json()

    def _moment(self) -> tuple[int, list[dict[str, int]]]:
        """A time, and how each vCPU's time until then is split, in ns.

        vCPUs go on while they are looked at, and this thread may be kept from it for long: what was read counts when
        it is the same after the time was taken. On a host where that never comes, the last look has to do.
        """
        for _ in range(LOOKS):
            readings = [account.read() for account in self._accounts]
            now = time.monotonic_ns()
            if readings == [account.read() for account in self._accounts]:
                break
        splits = zip(self._accounts, readings, strict=True)
        return now, [self._split(account.vcpu.halted, reading, now) for account, reading in splits]

    def _split(self, halted: bool, reading: _Reading, now: int) -> dict[str, int]:
        """A vCPU's time since the measurement began, in ns: what a run that is under way has spent counts too."""
        (answered, waited, guest, answering), entered, left, native, since, waiting, held = reading
        inside = guest + waited
        if entered > answered:
            left = now if left <= entered else native if entered < native < left else left
            left, entered = max(left, self._begin), max(entered, self._begin)
            inside += left - entered
            answering += now - left
            if since and halted:
                held += now - since
            elif since:
                waiting += now - since
        held = min(held, inside)
        waiting = min(waiting, inside - held)
        stopped = max(now - self._begin - inside - answering, 0)
        parts = {"guest": inside - waiting - held, "vmm": answering, "waiting": waiting, "held": held}
        return parts | {"stopped": stopped}

    def _registers(self) -> list[Json]:
        """Accesses by register, those that took longest first."""
        reads, writes = dict[int, Distribution](), dict[int, Distribution]()
        for account in self._accounts:
            for key, cell in list(account.cells.items()):
                if isinstance(key, int):
                    (writes if key & 1 else reads).setdefault(key >> 1, Distribution()).merge(cell)
        mpic = self._machine.mpic
        native = self._vm.native_accesses() | {mpic.base + at: counts for at, counts in mpic.accesses().items()}
        rows = []
        timed = reads.keys() | writes.keys()
        for pa in timed:
            row = self._place(pa).copy()
            if pa in reads:
                row["reads"] = reads[pa].json()
            if pa in writes:
                row["writes"] = writes[pa].json()
            if pa in native:
                row["native-reads"], row["native-writes"] = native[pa]
            rows.append(row)
        for pa in native.keys() - timed:  # many of an interrupt controller, of which most are written once
            counts, row = self._native_rows.get(pa, _NO_ROW)
            if counts != native[pa]:
                row = {**self._place(pa), "native-reads": native[pa][0], "native-writes": native[pa][1]}
                self._native_rows[pa] = native[pa], row
            rows.append(row)
        return sorted(rows, key=_weight, reverse=True)

    def _sources(self) -> list[Json]:
        """Interrupts by source, since the measurement began; the most frequent first."""
        drivers, latencies = sources(self._machine), self._machine.mpic.latencies()
        rows: list[Json] = []
        for name, count in self._machine.mpic.delivered.items():
            if (since := count - self._delivered.get(name, 0)) or name in latencies:
                row: Json = {"source": name, "device": source_label(name, drivers), "delivered": since}
                if name in latencies:
                    row["latency"] = Distribution.of_native(latencies[name]).json()
                rows.append(row)
        return sorted(rows, key=lambda row: -int(row["delivered"]))

    # ---- over time ---------------------------------------------------------------------------------------------------

    def _sample_often(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS if self._samples.seconds else 0):
            self._sample()

    def _sample(self) -> None:
        with self._counting:
            for account in self._accounts:
                account.count()
            if self._samples.due():
                self._samples.add(*self._look())

    def _look(self) -> tuple[float, dict[str, dict[str, float]]]:
        """What is counted over time: until when, and what."""
        exits, interrupts, split = Counter[str](), Counter[str](), Counter[str]()
        now, splits = self._moment()
        for vcpu, parts in zip(self._machine.vcpus, splits, strict=True):
            exits.update(vcpu.exit_counts())
            interrupts.update(vcpu.interrupts())
            split.update(parts)
        counts: dict[str, dict[str, float]] = {
            "exits": dict(exits),
            "interrupts": dict(interrupts),
            "time": {name: round(ns / NS, 6) for name, ns in split.items()},
            "counts": {"instructions": sum(vcpu.instructions for vcpu in self._machine.vcpus)},
        }
        return (now - self._begin) / NS, counts


def exit_type(reason: str) -> str:
    """What exits of a reason (`Vcpu.exit_counts`) are called here."""
    return _REASONS.get(reason, reason.upper())


def _by_type(vcpu: Vcpu, account: _Account) -> dict[str, Distribution]:
    parts = {"TIMEINGUEST": account.guest, "HALT": Distribution.of_native(vcpu.timing.waits)}
    for key, cell in list(account.cells.items()):
        parts.setdefault(TYPES[Mmio if isinstance(key, int) else key], Distribution()).merge(cell)
    return {name: part for name, part in parts.items() if part.buckets}


def _weight(row: Json) -> tuple[int, int]:
    timed = sum(row.get(way, {}).get("sum", 0) for way in ("reads", "writes"))  # no sum: nothing of it is counted yet
    return timed, row.get("native-reads", 0) + row.get("native-writes", 0)


_NO_ROW: tuple[tuple[int, int], Json] = (0, 0), {}
_timings: WeakKeyDictionary[Machine, _Timing] = WeakKeyDictionary()
_changing = threading.Lock()
