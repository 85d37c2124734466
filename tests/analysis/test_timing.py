"""Exit timing of real vCPUs: what is counted where, and that nobody pays when nobody looks."""

from __future__ import annotations

import time

import pytest

from powervisor.analysis.tables import exits_text
from powervisor.analysis.timing import measure
from powervisor.hv.vm import Vm
from tests.support.waiting import until
from tests.system.bare import bare_machine, results

ACCESSES = """
    devices
    load32 r4, DEVICES + 0xE00A4    # GUTS SVR: a read that leaves
    load32 r5, DEVICES + 0x4507     # serial0's scratch register: bits that native code holds
    load32 r6, DEVICES + 0x3018     # where I2C has no register
    li    r7, 100
    mtctr r7
again:
    lwz   r8, 0(r4)
    stb   r8, 0(r5)
    bdnz  again
    lbz   r8, 0(r6)
    load32 r6, RESULTS
    li    r8, 1
    stw   r8, 0(r6)
forever:
    b     forever
"""
SLEEP = """
    li    r3, 0
    mtspr 340, r3                   # TCR: no timer wakes it
asleep:
    wait
    b     asleep
"""
FOREVER = """
forever:
    b     forever
"""


def ran(machine) -> None:
    """Run until the program has said that it is done."""
    end = time.monotonic() + 20
    while not any(results(machine, 1)):
        machine.run(seconds=0.05)
        assert time.monotonic() < end
    machine.run(seconds=0.05)


def registers(statistics) -> dict:
    return {(row["device"], row["register"]): row for row in statistics["registers"]}


def test_each_access_is_counted_under_the_names_of_device_and_register():
    with bare_machine(ACCESSES) as machine, measure(machine):
        ran(machine)
        told = registers(machine.statistics())
        assert told["guts", "svr"]["reads"]["count"] == 100
        assert "writes" not in told["guts", "svr"]
        assert told["guts", "svr"]["address"] == "0xfe00e00a4"
        assert told["serial0", "scratch"]["native-writes"] == 100
        assert "writes" not in told["serial0", "scratch"]
        unknown = [row for (device, _), row in told.items() if device == "i2c"]
        assert [row["register"] for row in unknown] == ["+0x18"]


def test_times_of_a_type_are_the_sum_of_its_registers():
    with bare_machine(ACCESSES) as machine, measure(machine):
        ran(machine)
        statistics = machine.statistics()
        (vcpu,) = statistics["vcpus"]
        parts = [row[kind] for row in statistics["registers"] for kind in ("reads", "writes") if kind in row]
        mmio = vcpu["timing"]["MMIO"]
        assert mmio["count"] == sum(part["count"] for part in parts) == vcpu["exits"]["mmio"]
        assert mmio["sum"] == sum(part["sum"] for part in parts)
        assert 0 < mmio["min"] <= mmio["p50"] <= mmio["p90"] <= mmio["p99"] <= mmio["max"]


def test_a_vcpu_that_never_leaves_is_in_the_guest():
    with bare_machine(FOREVER) as machine:
        machine.start()
        until(lambda: machine.vcpus[0].instructions > 100_000_000)  # hot code has been compiled
        with measure(machine):
            time.sleep(0.5)
            times = machine.statistics()["vcpus"][0]["time"]
        assert times["guest"] > 0.8 * sum(times.values()) > 0.35
        assert times["waiting"] == 0


def test_a_vcpu_that_sleeps_waits():
    with bare_machine(SLEEP) as machine:
        machine.start()
        with measure(machine):
            time.sleep(0.5)
            times = machine.statistics()["vcpus"][0]["time"]
            assert times["waiting"] > 0.8 * sum(times.values()) > 0.35


def test_a_cpu_in_the_spin_table_is_held_and_one_that_is_stopped_is_stopped():
    with bare_machine(FOREVER, cores=2) as machine, measure(machine):
        machine.run(seconds=0.3)
        before = machine.statistics()["vcpus"]
        assert before[1]["time"]["held"] > 0.2
        time.sleep(0.3)
        after = machine.statistics()["vcpus"]
        assert after[0]["time"]["stopped"] - before[0]["time"]["stopped"] > 0.25
        assert after[0]["time"]["guest"] - before[0]["time"]["guest"] < 0.05


def test_the_parts_of_the_time_come_to_all_of_it():
    with bare_machine(ACCESSES, cores=2) as machine, measure(machine):
        ran(machine)
        told = machine.statistics()
        for vcpu in told["vcpus"]:
            assert sum(vcpu["time"].values()) == pytest.approx(told["measured"], rel=0.02)


def test_counting_runs_are_measured_too():
    with bare_machine(ACCESSES) as machine, measure(machine):
        machine.run(instructions=5_000)
        assert registers(machine.statistics())["guts", "svr"]["reads"]["count"] == 100


def test_when_nobody_measures_native_code_and_python_have_nothing_to_do():
    with bare_machine(ACCESSES) as machine:
        machine.start()
        with measure(machine) as first:
            second = measure(machine)
            assert len(machine.vm.observers) == 1  # nothing is measured twice
            first.close()
            assert machine.vm.observers and machine.vcpus[0].state.timing
            second.close()
        assert machine.vm.observers == ()
        assert not machine.vcpus[0].state.timing and not machine.mpic.state.timing
        told = machine.statistics()
        assert "registers" not in told and "time" not in told["vcpus"][0]


def test_measuring_again_begins_anew():
    with bare_machine(ACCESSES) as machine:
        with measure(machine):
            ran(machine)
        with measure(machine):
            told = machine.statistics()
        assert told["registers"] == [] and "MMIO" not in told["vcpus"][0]["timing"]
        assert told["vcpus"][0]["exits"]["mmio"] >= 100  # counts are for ever


def test_a_measurement_may_be_closed_after_its_machine_and_twice():
    with bare_machine(ACCESSES) as machine:
        measurement = measure(machine)
        machine.run(seconds=0.1)
    measurement.close()
    measurement.close()


def test_measuring_survives_being_switched_while_vcpus_run():
    with bare_machine(ACCESSES.replace("b     forever", "b     again - 8"), cores=1) as machine:
        machine.start()
        for _ in range(40):
            with measure(machine):
                machine.statistics()
        assert machine.wait(0) is None


def test_the_monitors_table_has_times_while_somebody_measures_and_counts_otherwise():
    with bare_machine(ACCESSES) as machine:
        with measure(machine):
            ran(machine)
            timed = exits_text(machine)
        counted = exits_text(machine)
    assert "p99" in timed and "guts" in timed and "TIMEINGUEST" in timed
    lines = [line.split() for line in counted.splitlines()]
    assert ["exit", "count"] in lines and "p99" not in counted
    assert any(line[0] == "mmio" and int(line[1]) >= 100 for line in lines if len(line) == 2)


def test_an_answer_that_takes_long_is_the_vmms_time(monkeypatch):
    with bare_machine(ACCESSES) as machine, measure(machine):
        read = machine.space.read

        def slow(pa: int, size: int, cpu: int = 0) -> int:
            time.sleep(0.002)
            return read(pa, size, cpu)

        monkeypatch.setattr(machine.space, "read", slow)
        ran(machine)
        (vcpu,) = machine.statistics()["vcpus"]
        assert vcpu["timing"]["MMIO"]["min"] >= 2_000_000
        assert vcpu["time"]["vmm"] >= 0.2
        assert isinstance(machine.vm, Vm)
