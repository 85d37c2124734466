"""A vCPU that waits in a machine with others: how long it sleeps when its host thread was kept away."""

from __future__ import annotations

import ctypes

import pytest

from powervisor.native.ints import u64
from powervisor.native.locks import SYS_FUTEX, SYS_SCHED_YIELD
from powervisor.vcpu.timers import WATCH_LIMIT, doze

TIMEOUT = 10 * WATCH_LIMIT


@pytest.mark.parametrize("away, slept", [(WATCH_LIMIT, TIMEOUT - WATCH_LIMIT), (TIMEOUT, None), (100 * TIMEOUT, None)])
def test_time_lost_while_watching_is_no_longer_slept(make, away, slept):
    bench = make("e500mc", 2)
    cpu, vm = bench.cpu, bench.vm
    clock, sleeps = [1_000_000_000], []

    def gettime(_: int, where: int) -> int:
        (ctypes.c_int64 * 2).from_address(where)[:] = divmod(clock[0], 1_000_000_000)
        return 0

    def syscall(number: int, *_: int) -> int:
        if number == SYS_SCHED_YIELD:
            clock[0] += away
        elif number == SYS_FUTEX:
            sleeps.append(int(cpu.sleep_time[0]) * 1_000_000_000 + int(cpu.sleep_time[1]))
        return 0

    get = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_uint64, ctypes.c_uint64)(gettime)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5)(syscall)
    vm.clock_gettime = ctypes.cast(get, ctypes.c_void_p).value
    vm.futex = ctypes.cast(call, ctypes.c_void_p).value
    cpu.watch_ns = WATCH_LIMIT
    doze(cpu, u64(TIMEOUT))
    assert sleeps == ([] if slept is None else [slept])
