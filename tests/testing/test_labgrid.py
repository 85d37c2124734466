"""The labgrid driver: against labgrid where it is installed, and what those see who have it not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from powervisor.errors import UserError

INSTALLED = importlib.util.find_spec("labgrid") is not None
ENVIRONMENT = """
targets:
  main:
    drivers:
      PowervisorDriver:
        options: {cpu: e500mc, memory: 67108864, %s}
imports:
  - powervisor.testing.labgrid
"""


@pytest.mark.skipif(INSTALLED, reason="labgrid is there")
def test_without_labgrid_one_line_says_what_to_install():
    with pytest.raises(UserError, match=r"no module (attr|labgrid|pexpect); pip install 'powervisor\[labgrid\]'"):
        importlib.import_module("powervisor.testing.labgrid")


def driver_in(path: Path, options: str):
    """The driver of a labgrid target."""
    labgrid = pytest.importorskip("labgrid")
    path.write_text(ENVIRONMENT % options)
    target = labgrid.Environment(str(path)).get_target("main")
    return target.get_driver("PowervisorDriver")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_board_is_a_console_and_a_power_switch(tmp_path: Path):
    driver = driver_in(tmp_path / "env.yaml", "no_reboot: false")
    driver.on()
    driver.expect("> ", timeout=60)
    driver.sendline("help")
    driver.expect("poweroff", timeout=20)
    assert driver.machine.topology.core == "e500mc"
    first = driver.machine
    driver.cycle()
    assert driver.machine is not first
    driver.expect("> ", timeout=60)
    driver.off()
    assert driver.machine is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_mistake_in_its_options_is_an_execution_error(tmp_path: Path):
    driver = driver_in(tmp_path / "env.yaml", "cores: 99")
    from labgrid.driver import ExecutionError  # type: ignore[import-not-found,unused-ignore]

    with pytest.raises(ExecutionError, match="cores 99: ppce500 has 1 to 32 CPUs"):
        driver.on()
    with pytest.raises(ExecutionError, match="the machine is off"):
        driver.sendline("x")
