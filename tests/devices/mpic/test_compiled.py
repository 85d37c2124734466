"""The MPIC's compiled code: equal to its Python bodies, and sound when many threads use it."""

import contextlib
import ctypes
import itertools
import random
import sys
import threading
from functools import partial

import pytest

from powervisor.devices import mpic_delivery
from powervisor.devices.mpic import callable_at
from powervisor.devices.mpic_native import ENTRY_POINTS, mpic_acknowledge, mpic_set_irq, mpic_write
from powervisor.devices.mpic_registers import SOURCES, Offset, register_name
from powervisor.devices.mpic_state import MpicCpu, MpicState, Output
from powervisor.native import lang
from powervisor.native.ints import u32, u64
from powervisor.native.lang import at, atomic_load, atomic_xchg, field_addr, native
from powervisor.native.locks import host_syscall
from powervisor.vcpu import locks as vcpu_locks
from powervisor.vcpu.locks import FOREVER, sleep
from powervisor.vcpu.state import Vcpu, Vm

REGISTERS = [offset for offset in range(0, Offset.WINDOW, 4) if register_name(offset)]
BUSY = [
    *(Offset.SOURCE + n * 0x20 + register for n in (0, 1, 16, 17, 42, 176, 224, 255) for register in (0, 0x10, 0x18)),
    *range(Offset.IPIDR, Offset.EOI + 0x10, 0x10),
    *(Offset.IPIVPR + 0x10 * n for n in range(4)), Offset.GCR, Offset.PIR, Offset.EIMR,
    *(Offset.GROUP + Offset.TIMER + at for at in range(0, 0x80, 0x10)), 0x1300, 0x1410, 0x1500, 0x1510,
    Offset.MSI, Offset.MSI + Offset.MSIIR,
]  # fmt: skip


def image(mpic):
    """The state's bytes without addresses, which differ between two controllers."""
    data = bytearray(ctypes.string_at(mpic.state_address, MpicState.size))
    for cpu in range(32):
        words = MpicState.offset("cpus") + cpu * MpicCpu.size + MpicCpu.offset("lines_address")
        data[words : words + 24] = bytes(24)
    return bytes(data)


def value(rng, offset):
    """What a driver writes, or a madman; resets come rarely, or nothing would ever be pending."""
    word = rng.choice((0, 1, 3, 0xF, 0xFFFF_FFFF, rng.getrandbits(32), rng.getrandbits(32), rng.getrandbits(20)))
    name = (register_name(offset) or "").split()[-1:]
    kind = name[0].rstrip("0123456789ABC") if name else ""
    usual = {
        "GCR": (0x2000_0000, 0x6000_0000, word & 0x7FFF_FFFF), "CTPR": (0, 0, 4), "ILR": (0, 0, 1, 2),
        "IDR": (1, 2, 3), "TDR": (1, 2, 3), "TBCR": (0x8000_0000, 0, 1, 50, 2000),
        "IVPR": (word & 0x7FFF_FFFF | 0x1_0000,), "IPIVPR": (word & 0x7FFF_FFFF | 0x1_0000,),
        "TVPR": (word & 0x7FFF_FFFF | 0x1_0000,),
    }  # fmt: skip
    return rng.choice(usual[kind]) if kind in usual and rng.random() < 0.95 else word


def operation(rng, cpus):
    kind = rng.random()
    offset = rng.choice(BUSY) if rng.random() < 0.8 else rng.choice(REGISTERS)
    cpu = rng.randrange(cpus + 1)
    if kind < 0.10:
        return "acknowledge", rng.randrange(cpus)
    if kind < 0.20:
        return "write", Offset.EOI, 0, rng.randrange(cpus)
    if kind < 0.40:
        return "read", offset, cpu
    if kind < 0.75:
        return "write", offset, value(rng, offset), cpu
    if kind < 0.90:
        return "set_irq", rng.choice((0, 1, 16, 17, 42, 255, rng.randrange(SOURCES + 3))), rng.randrange(2)
    if kind < 0.93:
        return "set_error", rng.randrange(32), rng.randrange(2)
    if kind < 0.96:
        return "msi", rng.randrange(256)
    return rng.choice((("tick",), ("take_cores",), ("proxy",)))


def words(bench):
    return [(word.lines, word.requests) for word in bench.words]


@pytest.mark.parametrize("seed", range(4))
def test_random_accesses_leave_python_and_compiled_code_in_the_same_state(pair_of, seed):
    rng = random.Random(seed)
    cpus = rng.choice((1, 2, 5, 32))
    benches = interpreted, compiled = pair_of(cpus)
    for b in benches:
        b.ready()
    for step in range(6000):
        entry, *arguments = operation(rng, cpus)
        results = [b.mpic._call(entry, *arguments) for b in benches]
        assert results[0] == results[1], f"step {step}: {entry} {arguments}"
        passed = rng.choice((0, 0, 10, 1000, 100_000))
        for b in benches:
            b.clock.advance(passed)
        if step % 50 == 0:
            assert words(interpreted) == words(compiled)
            assert image(interpreted.mpic) == image(compiled.mpic), f"step {step}: {entry} {arguments}"
            compiled.mpic._call("proxy")  # takes over the clock's time
            before = image(compiled.mpic)
            compiled.mpic._call("rebuild")
            assert image(compiled.mpic) == before, f"step {step}: what is derived was wrong"
    assert interpreted.mpic.delivered == compiled.mpic.delivered
    assert interpreted.mpic.save() == compiled.mpic.save()


def test_fuzz_reaches_interrupts_of_every_kind(pair_of):
    """The random test above is worth nothing if nothing is ever delivered."""
    rng = random.Random(0)
    _, b = pair_of(2)
    b.ready()
    seen = 0
    for _ in range(4000):
        entry, *arguments = operation(rng, 2)
        b.mpic._call(entry, *arguments)
        b.clock.advance(1000)
        seen |= b.lines(0) | b.lines(1)
    assert seen == Output.ALL
    kinds = {name.rstrip("0123456789") for name in b.mpic.delivered}
    assert kinds == {"", "ipi", "timer"}
    assert b.mpic.eois > 100


# ---- threads -------------------------------------------------------------------------------------------------------


@native
def sleep_until_line(cpu: Vcpu, timeout_ns: u64) -> u32:
    """Wait for the external line between two instructions; 0 when nobody woke this vCPU in time."""
    while True:
        atomic_xchg(u32, field_addr(cpu, "requests"), u32(0))
        if atomic_load(u32, field_addr(cpu, "lines")) & Output.EXTERNAL:
            return u32(1)
        sleep(cpu, timeout_ns)
        if cpu.requests == 0:
            return u32(0)


@native
def play(state: u64, cpu: u64, me: u32, other: u32, rounds: u32, timeout_ns: u64) -> u32:
    """Take an IPI and send one back, `rounds` times; returns how often it came."""
    done = u32(0)
    while done < rounds:
        if sleep_until_line(at(Vcpu, cpu), timeout_ns) == 0:
            return done
        if mpic_acknowledge(state, me) == 0x100:
            done += 1
            mpic_write(state, u32(Offset.EOI), u32(0), me)
            mpic_write(state, u32(Offset.IPIDR), u32(1) << other, me)
    return done


@native
def hammer(state: u64, me: u32, rounds: u32, seed: u32) -> None:
    """What a CPU and its devices do to a controller, at random and as fast as they can."""
    x = seed
    for _ in range(rounds):
        x ^= x << 13
        x ^= x >> 17
        x ^= x << 5
        source = 17 + (x >> 8 & 7)
        kind = x & 7
        if kind < 3:
            mpic_set_irq(state, source, x >> 16 & 1)
        elif kind == 3:
            mpic_acknowledge(state, me)
        elif kind == 4:
            mpic_write(state, u32(Offset.EOI), u32(0), me)
        elif kind == 5:
            mpic_write(state, u32(Offset.IPIDR), x >> 16 & 15, me)
        elif kind == 6:
            mpic_write(state, Offset.SOURCE + source * Offset.SOURCE_STRIDE + Offset.IDR, u32(1) << (x >> 16 & 3), me)
        else:
            mpic_write(state, Offset.SOURCE + source * Offset.SOURCE_STRIDE + Offset.ILR, x >> 16 & 3, me)


@pytest.fixture(scope="module")
def players(loader):
    """`play` and `hammer` compiled along with a controller: callables, and all addresses."""
    symbols, space = loader([play, hammer, *ENTRY_POINTS.values()])
    yield {f.body.__name__: callable_at(f, symbols[f.name]) for f in (play, hammer)}, symbols
    space.close()


def run_together(jobs):
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def vcpus_of(bench):
    """Real vCPU states in place of the bench's words."""
    vm = Vm.new()
    vm.futex = host_syscall()
    vcpus = []
    for index in range(len(bench.words)):
        vcpu = Vcpu.new()
        vcpu.vm = vm
        bench.mpic.attach(index, *(vcpu.address + Vcpu.offset(name) for name in ("lines", "requests", "asleep")))
        vcpus.append(vcpu)
    return vcpus, vm


def test_sleeping_cpus_never_miss_an_interrupt(pair_of, players):
    """Two threads that sleep between IPIs; a lost wake-up would leave one asleep until its time is over."""
    rounds = 20_000
    functions, symbols = players
    _, b = pair_of(2)
    b.mpic.bind_addresses(symbols)
    vcpus, _vm = vcpus_of(b)
    b.ready()
    b.ipi(0)
    done = [0, 0]

    def run(me):
        done[me] = functions["play"](b.mpic.state_address, vcpus[me].address, me, 1 - me, rounds, 10 * 10**9)

    b.write(Offset.IPIDR, 1)
    run_together([lambda: run(0), lambda: run(1)])
    assert done == [rounds, rounds]
    assert b.mpic.delivered["ipi0"] == b.mpic.eois == 2 * rounds


def test_threads_that_hammer_the_controller_leave_it_consistent(pair_of, players):
    functions, symbols = players
    _, b = pair_of(4)
    b.mpic.bind_addresses(symbols)
    b.ready()
    b.ipi(0)
    for source in range(17, 25):
        b.source(source, priority=source - 10)
    jobs = [partial(functions["hammer"], b.mpic.state_address, me, 500_000, 77 + me) for me in range(4)]
    run_together(jobs)
    before, lines = image(b.mpic), words(b)
    b.mpic._call("rebuild")
    assert image(b.mpic) == before and words(b) == lines
    for source in range(17, 25):
        b.mpic.line(source).set(False)
    for index in (0, 1, 2, 3, 0, 1, 2, 3):  # twice: an IPI may wait behind one in service
        while b.iack(index) != 0xFFFF:
            pass
        for _ in range(16):
            b.eoi(index)
    assert [line for line, _ in words(b)] == [0] * 4
    assert b.mpic.eois == sum(b.mpic.delivered.values())


# ---- every order of a sleeper's and a waker's steps ------------------------------------------------------------------


class Baton:
    """Lets two threads make their next memory access in a given order, and knows who sleeps in a futex."""

    def __init__(self, order):
        self.order = list(order)
        self.turn = threading.Condition()
        self.finished, self.asleep, self.lost = set(), False, False

    def step(self, who, access):
        with self.turn:
            self.turn.wait_for(lambda: self.lost or self.next() == who)
            if self.lost:
                raise TimeoutError
            result = access()
            if self.order:
                self.order.pop(0)
            self.next()
            self.turn.notify_all()
            return result

    def next(self):
        """Whose turn it is; who sleeps or has finished lets the other one go."""
        can = {"sleeper", "waker"} - self.finished - ({"sleeper"} if self.asleep else set())
        if not can:
            self.lost = self.asleep
            return None
        return self.order[0] if self.order and self.order[0] in can else sorted(can)[0]

    def finish(self, who):
        with self.turn:
            self.finished.add(who)
            self.next()
            self.turn.notify_all()

    def wait(self, address, expected):
        def go_to_sleep():
            self.asleep = lang.atomic_load(u32, address) == expected

        self.step("sleeper", go_to_sleep)
        with self.turn:
            self.turn.wait_for(lambda: self.lost or not self.asleep)
        return 0

    def wake(self):
        def wake():
            self.asleep = False

        self.step("waker", wake)


SLEEPER_STEPS, WAKER_STEPS = 5, 4


@pytest.mark.parametrize(
    "waker_steps", list(itertools.combinations(range(SLEEPER_STEPS + WAKER_STEPS), WAKER_STEPS)), ids=str
)
def test_no_order_of_steps_loses_a_wake_up(pair_of, monkeypatch, waker_steps):
    """An IPI races with a vCPU going to sleep, one access to memory at a time: it must not sleep on."""
    b, _ = pair_of(1)
    (vcpu,), _vm = vcpus_of(b)
    b.ready()
    b.ipi(0)
    baton = Baton("waker" if i in waker_steps else "sleeper" for i in range(SLEEPER_STEPS + WAKER_STEPS))

    def turns(module, who, *names):
        for name in names:
            access = getattr(lang, name)
            step = partial(lambda access, *arguments: baton.step(who, lambda: access(*arguments)), access)
            monkeypatch.setattr(module, name, step)

    turns(mpic_delivery, "waker", "atomic_or", "atomic_and", "atomic_load")
    turns(vcpu_locks, "sleeper", "atomic_load", "atomic_store")
    turns(sys.modules[__name__], "sleeper", "atomic_load", "atomic_xchg")
    monkeypatch.setattr(mpic_delivery, "futex_wake", lambda *arguments: baton.wake())
    monkeypatch.setattr(vcpu_locks, "futex_wait", lambda address, expected, *rest: baton.wait(address, expected))

    def sleeper():
        with contextlib.suppress(TimeoutError):
            sleep_until_line(vcpu, FOREVER)
        baton.finish("sleeper")

    def waker():
        b.mpic._call("write", Offset.IPIDR, 1, 0)
        baton.finish("waker")

    run_together([sleeper, waker])
    assert not baton.lost
    assert vcpu.lines == Output.EXTERNAL
