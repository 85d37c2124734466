"""The pytest plugin as a project's tests meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.console import open_chardev
from powervisor.testing.shell import CommandFailed, Shell
from tests.system.booting import files

TREE = Path(__file__).parents[2]
PLUGIN = [] if entry_points(group="pytest11", name="powervisor") else ["-p", "powervisor.testing.plugin"]
SECOND_LINE = open_chardev("null")
MISTAKES = """
import pytest

@pytest.mark.machine(cpuu="e5500")
def test_word(machine): pass

@pytest.mark.machine("e5500")
def test_position(machine): pass

@pytest.mark.machine(cpu="e500")
def test_core(machine): pass

@pytest.mark.machine(guest="k23")
def test_guest(booted_linux): pass
"""
FAILURES = """
import pytest

pytestmark = pytest.mark.machine(cpu="e500mc")

@pytest.mark.machine(memory=128 << 20)
def test_report(machine):
    machine.run(60, until="Core ")
    assert machine.ram.size == 128 << 20 and machine.topology.core == "e500mc"
    assert "nobody" in machine.console.text

@pytest.mark.machine(timeout=0.5)
def test_time(machine):
    machine.run()

def test_hook(machine):
    machine.hooks.at(0x100000, lambda cpu: 1 // 0)
    machine.run(60)

def test_two(make_machine):
    first, second = make_machine(), make_machine(cpu="e5500")
    assert [m.topology.core for m in (first, second)] == ["e500mc", "e5500"]
    assert first is second
"""


def run(pytester: pytest.Pytester, source: str, *words: str) -> pytest.RunResult:
    """A project's tests, in a process of their own."""
    pytester.makepyfile(source)
    pytester.plugins.clear()
    paths = [str(TREE), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        return pytester.runpytest_subprocess(*PLUGIN, "--strict-markers", "-p", "no:cacheprovider", *words)


def test_mistakes_in_markers_are_one_line_each(pytester: pytest.Pytester):
    result = run(pytester, MISTAKES)
    result.assert_outcomes(errors=4)
    text = result.stdout.str()
    for message in (
        "::test_word: machine(cpuu=...): there is no such option; there is cpu",
        "::test_position: machine('e5500',): give options as keywords, machine(cpu='e5500')",
        "::test_core: cpu e500: no such core; available: ",
        "::test_guest: -guest k23: no such guest; there is k32",
    ):
        assert message in text
    for noise in ("Traceback", "plugin.py", "another exception"):
        assert noise not in text


def test_the_report_of_a_failure_shows_the_machine(pytester: pytest.Pytester):
    result = run(pytester, FAILURES)
    result.assert_outcomes(failed=4)
    text = result.stdout.str()
    assert "- Powervisor machine -" in text and "- Powervisor machine 2 -" in text
    report, _, others = text.partition("test_time")
    for part in ("console, the last", "Core ", "msr 0x", "=> 0x", "last exits:", "of serial0."):
        assert part in others.partition("_ test_time _")[0] or part in report
    assert "TimeoutError: the test took more than 0.5 s (timeout= of its marker)" in text
    assert "HookError: cpu0 pc=0x100000 '" in text and "ZeroDivisionError" in text


@pytest.mark.slow
def test_workers_of_xdist_do_not_disturb_each_other(pytester: pytest.Pytester):
    source = """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_runs(machine, n):
            assert machine.run(instructions=100_000) is None
            assert machine.cpus[0].instructions == 100_000
    """
    run(pytester, source, "-n", "2").assert_outcomes(passed=4)


def test_a_session_without_machines_imports_nothing_of_the_product():
    check = (
        "import sys, pytest, powervisor.testing.plugin\n"
        "print([name for name in sys.modules if name.startswith('powervisor')])"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=TREE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['powervisor', 'powervisor.testing', 'powervisor.testing.plugin']"


@pytest.fixture
def guest() -> None:
    """Skips the test where there is no Linux."""
    files("k32")


def test_linux_is_at_its_prompt(guest: None, shell: Shell, booted_linux: Machine):
    assert shell.run("uname -m").output == "ppc"
    assert shell.run("echo one; echo two").output == "one\ntwo"
    assert shell.run("exit_with() { return 3; }; exit_with", check=False).status == 3
    with pytest.raises(CommandFailed, match="ls /nonesuch: status 1\n.*No such file"):
        shell.run("ls /nonesuch")
    shell.run("echo changed > /note")


def test_each_test_has_linux_as_it_was(guest: None, shell: Shell):
    assert shell.run("cat /note", check=False).status == 1


@pytest.mark.machine(deterministic=True, name="board", serial=[None, SECOND_LINE], cores=1)
def test_linux_is_the_machine_that_the_marker_asks_for(guest: None, shell: Shell, booted_linux: Machine):
    assert booted_linux.lockstep is not None and booted_linux.name == "board"
    assert booted_linux.chardevs["serial1"] is SECOND_LINE
    assert shell.run("grep -c ^processor /proc/cpuinfo").output == "1"


def test_faults_are_for_the_linux_of_the_test(guest: None, shell: Shell, booted_linux: Machine, faults):
    lost = faults.drop_interrupts(42)
    booted_linux.console.send("echo heard\n")
    booted_linux.run(0.3)
    assert "heard" not in booted_linux.console.text
    assert lost.count >= 1
    lost.undo()
    booted_linux.go_on()
    booted_linux.console.expect("heard\r\n", 60)
