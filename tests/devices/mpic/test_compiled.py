"""The MPIC's compiled code: equal to its Python bodies, and sound when many threads use it."""

import ctypes
import random
import threading

import pytest

from powervisor.devices.mpic_native import ENTRY_POINTS, mpic_acknowledge, mpic_write
from powervisor.devices.mpic_registers import SOURCES, Offset, register_name
from powervisor.devices.mpic_state import MpicCpu, MpicState, Output
from powervisor.native.ints import u32, u64
from powervisor.native.lang import atomic_and, atomic_load, atomic_store, native
from powervisor.native.locks import futex_wait, host_syscall

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
        at = MpicState.offset("cpus") + cpu * MpicCpu.size + MpicCpu.offset("lines_address")
        data[at : at + 24] = bytes(24)
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
def sleep_until_line(lines: u64, requests: u64, halted: u64, timeout: u64, syscall: u64) -> u32:
    """Wait for the external line as a vCPU does; 0 when nobody woke it in time."""
    while True:
        atomic_and(u32, requests, ~u32(2))
        if atomic_load(u32, lines) & Output.EXTERNAL:
            return u32(1)
        atomic_store(u32, halted, u32(1))
        if atomic_load(u32, requests) == 0:
            slept = futex_wait(requests, u32(0), timeout, syscall)
            if slept != 0 and atomic_load(u32, requests) == 0:
                return u32(0)
        atomic_store(u32, halted, u32(0))


@native
def play(state: u64, me: u32, other: u32, rounds: u32, words: u64, timeout: u64, syscall: u64) -> u32:
    """Take an IPI and send one back, `rounds` times; returns how often it came."""
    done = u32(0)
    while done < rounds:
        if sleep_until_line(words, words + 4, words + 8, timeout, syscall) == 0:
            return done
        if mpic_acknowledge(state, me) == 0x100:
            done += 1
            mpic_write(state, u32(Offset.EOI), u32(0), me)
            mpic_write(state, u32(Offset.IPIDR), u32(1) << other, me)
    return done


def compiled_play(loader):
    """`play` with a controller compiled along, and the memory of both."""
    symbols, space = loader([play, *ENTRY_POINTS.values()])
    kinds = [ctypes.c_uint64, *[ctypes.c_uint32] * 3, *[ctypes.c_uint64] * 3]
    return ctypes.CFUNCTYPE(ctypes.c_uint32, *kinds)(symbols[play.name]), symbols, space


def test_sleeping_cpus_never_miss_an_interrupt(pair_of, loader):
    """Two threads that sleep between IPIs; a lost wake-up would leave one asleep until its time is over."""
    rounds = 20_000
    function, symbols, space = compiled_play(loader)
    _, b = pair_of(2)
    b.mpic.bind_addresses(symbols)
    b.ready()
    b.ipi(0)
    timeout = (ctypes.c_int64 * 2)(10, 0)
    done = [0, 0]

    def run(me):
        done[me] = function(
            b.mpic.state_address, me, 1 - me, rounds, ctypes.addressof(b.words[me]), ctypes.addressof(timeout),
            host_syscall(),
        )  # fmt: skip

    threads = [threading.Thread(target=run, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    b.write(Offset.IPIDR, 1)
    for thread in threads:
        thread.join()
    assert done == [rounds, rounds]
    assert b.mpic.delivered["ipi0"] == b.mpic.eois == 2 * rounds
    space.close()


def test_threads_that_hammer_the_controller_leave_it_consistent(pair_of):
    _, b = pair_of(4)
    b.ready()
    failures = []

    def device(seed):
        rng = random.Random(seed)
        try:
            for _ in range(3000):
                b.mpic._call("set_irq", rng.choice((1, 17, 18, 42)), rng.randrange(2))
                b.mpic._call("write", rng.choice(BUSY[:24]), value(rng, 0), seed % 4)
        except Exception as error:
            failures.append(error)

    def cpu(index):
        for _ in range(3000):
            b.mpic._call("acknowledge", index)
            b.mpic._call("write", Offset.EOI, 0, index)

    threads = [threading.Thread(target=device, args=(seed,)) for seed in range(3)]
    threads += [threading.Thread(target=cpu, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    before, lines = image(b.mpic), words(b)
    b.mpic._call("rebuild")
    assert image(b.mpic) == before and words(b) == lines
    for source in (1, 17, 18, 42):
        b.mpic.line(source).set(False)
    b.write(Offset.GCR, 0xA000_0000)
    assert [line for line, _ in words(b)] == [0] * 4
