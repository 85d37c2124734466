"""What a machine takes of the host, and gives back: CPU time, memory, threads; running, holding, stopping it."""

from __future__ import annotations

import gc
import os
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.errors import PowervisorError
from tests.system.bare import bare_machine, results
from tests.system.booting import options

MIB = 1 << 20
COUNT = """
    li    r3, 0
1:  addi  r3, r3, 1
    cmpwi r3, -1
    bne   2f
    nop
2:  b     1b
"""


def cpu_seconds(words: list[str]) -> float:
    """CPU time of a command, the better of three: a loaded host makes caches cold."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(taken)


def test_import_is_quick():
    assert cpu_seconds([sys.executable, "-c", "import powervisor"]) < 0.15


def test_help_is_quick():
    assert cpu_seconds([sys.executable, "-m", "powervisor", "--help"]) < 0.3
    assert cpu_seconds([sys.executable, "-m", "powervisor", "run", "--help"]) < 0.4


def test_instructions_are_counted_exactly():
    with bare_machine(COUNT) as machine:
        cpu, total = machine.vcpus[0], 0
        for number in (1, 2, 3, 127, 128, 129, 1000, 5000, 100_000, 1, 3_000_017):
            assert machine.run(instructions=number) is None
            total += number
            assert cpu.instructions == total
        rounds, rest = divmod(total - 1, 4)
        assert cpu.regs["r3"] == rounds + (rest > 0)


def test_device_accesses_and_interrupts_count_once():
    source = """
        devices
        load32 r3, DEVICES + 0x4500
        li    r4, 0x41
    start:
        stb   r4, 7(r3)
        lbz   r5, 7(r3)
        b     start
    """
    with bare_machine(source) as machine:
        cpu = machine.vcpus[0]
        while cpu.regs["pc"] != machine.symbols["start"]:
            machine.run(instructions=1)
        machine.run(instructions=3000)
        assert cpu.regs["pc"] == machine.symbols["start"]
        assert machine.run(instructions=2) is None and cpu.regs["r5"] == 0x41


def test_statistics_count_what_the_guest_did():
    with bare_machine("devices\n lis r3, DEVICES@h\n lbz r4, 0x4503(r3)\n lbz r4, 0x4503(r3)\n" + COUNT) as machine:
        assert machine.statistics()["seconds"] == 0
        machine.run(instructions=3000)
        counted = machine.statistics()
        exits = counted["vcpus"][0]["exits"]
        exits.pop("handler", None)  # a quick image compiles what it meets
        assert exits == {"mmio": 2, "budget": 1}
        counters = counted["vcpus"][0]["counters"]
        assert counters["instructions"] == 3000
        assert counters["translated-blocks"] >= 3
        assert 0 < counted["code-bytes"] < counted["translation-bytes"] < 8 * MIB


def test_run_for_a_time_holds_the_machine_afterwards():
    with bare_machine(COUNT) as machine:
        begin = time.monotonic()
        assert machine.run(seconds=0.2) is None
        assert 0.2 <= time.monotonic() - begin < 5
        first = machine.vcpus[0].regs["r3"]
        time.sleep(0.05)
        assert machine.vcpus[0].regs["r3"] == first > 0
        machine.run(instructions=4)
        assert machine.vcpus[0].regs["r3"] == first + 1
        machine.run(seconds=0.05)
        assert machine.vcpus[0].regs["r3"] > first + 1


def test_run_after_start_holds_it_too():
    with bare_machine(COUNT) as machine:
        machine.start()
        assert machine.run(seconds=0.05) is None
        first = machine.vcpus[0].regs["r3"]
        time.sleep(0.05)
        assert machine.vcpus[0].regs["r3"] == first


def test_an_idle_machine_uses_no_host_cpu():
    with Machine(**options("k32", ""), serial=[None], memory=128 * MIB) as machine:
        machine.start()
        machine.console.expect("/ # ", timeout=100)
        time.sleep(2)
        before, begin = time.process_time(), time.monotonic()
        time.sleep(2)
        share = (time.process_time() - before) / (time.monotonic() - begin)
        assert share < 0.05
        machine.console.send("echo AWAKE-$((6 * 7))\n")
        machine.console.expect("AWAKE-42", timeout=30)


def test_a_bare_machine_that_waits_uses_no_host_cpu():
    with bare_machine("1: wait; b 1b", cores=8) as machine:
        machine.start()
        time.sleep(0.3)
        before = time.process_time()
        time.sleep(1)
        assert time.process_time() - before < 0.05


def test_two_machines_run_at_once_in_one_process():
    with bare_machine(COUNT, "e500mc") as one, bare_machine(COUNT, "e6500", cores=2, threads=2) as two:
        one.start()
        two.start()
        time.sleep(0.2)
        one.stop()
        two.stop()
        assert one.vcpus[0].regs["r3"] > 1000 and two.vcpus[0].regs["r3"] > 1000


def test_stopping_in_the_middle_of_a_boot_is_prompt():
    for delay in (0.0, 0.05, 0.3, 0.6):
        machine = Machine(**options("k32"), serial=[None])
        machine.start()
        time.sleep(delay)
        begin = time.monotonic()
        machine.close()
        assert time.monotonic() - begin < 5
        machine.close()


def held() -> tuple[int, int, int, int]:
    """Threads, file descriptors, MiB of address space and of memory."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    size, resident = (int(re.search(rf"{name}:\s*(\d+) kB", status)[1]) >> 10 for name in ("VmSize", "VmRSS"))
    return threading.active_count(), len(os.listdir("/proc/self/fd")), size, resident


def test_closing_gives_everything_back():
    def use(times: int) -> None:
        for number in range(times):
            with bare_machine(COUNT, "e500mc", cores=4) as machine:
                if number % 2:
                    machine.run(seconds=0.01)

    use(6)  # what the first ones load stays: LLVM, malloc's arenas
    threads, descriptors, size, resident = held()
    use(20)
    now = held()
    assert now[0] <= threads
    assert now[1] <= descriptors
    assert now[2] - size < 200, "address space of 20 machines, one alone takes 500 MiB"
    assert now[3] - resident < 40


MEMORY = """
import re, sys
from powervisor import Machine
from powervisor.errors import PowervisorError
from tests.system.booting import options
with Machine(**options("k32", ""), memory=512 << 20, serial=[None]) as machine:
    machine.start()
    machine.console.expect("BOOT-OK", timeout=200)
    total = guest = 0
    for line in open("/proc/self/smaps"):
        if re.match("[0-9a-f]+-", line):
            ram = "powervisor-ram" in line
        elif line.startswith("Rss:"):
            total += int(line.split()[1])
            guest += int(line.split()[1]) * ram
    print(total >> 10, guest >> 10)
"""


def test_a_booted_machine_takes_little_memory_beyond_its_guests():
    tree = Path(__file__).resolve().parents[2]
    options("k32")  # skips without the guest
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    total, guest = map(int, done.stdout.split())
    assert 8 <= guest < 400
    assert total - guest < 300


def test_what_nobody_waits_for_still_ends():
    with bare_machine("b .", no_reboot=True) as machine:
        machine.start()
        machine.stop()
        outcome = machine.wait(1)
        assert outcome is not None and outcome.kind == "stopped"
        assert results(machine, 1) == (0,)


@pytest.mark.parametrize("cpu", ["e500mc", "e5500", "e6500"])
def test_registers_and_memory_can_be_changed_between_runs(cpu):
    with bare_machine("1: stw r3, 0(r4); b 1b", cpu) as machine:
        cpu0 = machine.vcpus[0]
        cpu0.regs["r3"], cpu0.regs["r4"] = 0x1234_5678, 0x10_0000
        machine.run(instructions=10)
        assert results(machine, 1) == (0x1234_5678,)
        machine.memory[0x1000:0x1004] = b"\x60\0\0\0"
        cpu0.regs["r3"] = 1
        machine.run(instructions=2000)
        assert results(machine, 1) == (0x1234_5678,)


def test_a_counted_run_ends_when_somebody_gives_the_machine_up():
    with bare_machine("    wait\n") as machine:
        threading.Timer(0.3, lambda: machine.give_up(PowervisorError("too long"))).start()
        with pytest.raises(PowervisorError, match="too long"):
            machine.run(instructions=10**12)
