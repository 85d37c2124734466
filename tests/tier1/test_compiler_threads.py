"""The threads behind hot code: one of each, however many vCPUs ask first, and none after `close`."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest

from powervisor.isa import cores
from powervisor.translate.tier1.compiler import RegionCompiler
from powervisor.translate.tier1.shape import Block, Region
from powervisor.translate.tier1.worker import Worker
from powervisor.vcpu.build import new_vm


class Deaf(RegionCompiler):
    """Takes requests, and does nothing about them."""

    def _find(self, request, store):
        request.done.set()


@pytest.fixture
def impatient():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_vcpus_that_find_hot_code_at_the_same_time_start_each_thread_once(impatient):
    store = SimpleNamespace(close=lambda: None)
    for _ in range(200):
        compiler = Deaf(cores.get("e500mc"), new_vm(0, 0), {}, lambda *_: lambda *_: None, lambda: store)
        together = threading.Barrier(4)

        def ask(compiler=compiler, together=together):
            together.wait()
            compiler.ask(0, 0, 0, {})

        vcpus = [threading.Thread(target=ask) for _ in range(4)]
        for vcpu in vcpus:
            vcpu.start()
        for vcpu in vcpus:
            vcpu.join()
        assert len(compiler._threads) == 2
        compiler.close()
        compiler.ask(0, 0, 0, {})
        assert not compiler._threads


def test_a_host_without_room_for_another_process_costs_regions_only(monkeypatch):
    region = Region("e5500", 1, (0,), (Block(0, (0x4800_0000,)),))
    worker = Worker()
    with monkeypatch.context() as patched:
        patched.setattr("powervisor.translate.tier1.worker.subprocess.Popen", no_process)
        assert worker.compile(region) == b""
    assert worker.compile(region), "later there is room"
    worker.close()


def no_process(*command, **options):
    raise OSError("Cannot allocate memory")
