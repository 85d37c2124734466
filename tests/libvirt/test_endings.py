"""How machines end, and what libvirt does then: on_poweroff, on_reboot, on_crash."""

from __future__ import annotations

import pytest

from powervisor.insns import assemble_source
from powervisor.isa import cores
from tests.libvirt.conftest import CORES
from tests.libvirt.domains import NO_BALLOON, Domain, serial
from tests.libvirt.guests import KERNELS, UP, linux, unique
from tests.manage.test_life import CHECKSTOP
from tests.system.bare import MACROS, ORIGIN
from tests.system.booting import needs

SAYS_A = """
    devices
    load32 r3, DEVICES + 0x4500
    li    r4, 'A'
    stb   r4, 0(r3)
"""


def program(daemons, source, **changes):
    """A domain that runs a program without an operating system."""
    name = unique("bare")
    path = daemons.directory / f"{name}.bin"
    path.write_bytes(assemble_source(MACROS + source, ORIGIN, cores.get("e500mc")).data)
    arguments = "-device", f"loader,file={path},addr={ORIGIN:#x},cpu-num=0"
    devices = (serial(daemons.directory / f"{name}.console"), NO_BALLOON)
    return Domain(name, daemons.emulators["ppc64"], model="e500mc", devices=devices, arguments=arguments, **changes)


SLOWER = pytest.param("preserve", "crashed (panicked)", marks=pytest.mark.slow)


@pytest.mark.parametrize("action, state", [("destroy", "shut off (crashed)"), SLOWER])
def test_a_checkstop_is_a_crash_of_the_guest(daemons, guests, action, state):
    guest = guests(program(daemons, CHECKSTOP, actions={"on_crash": action}))
    guest.start()
    guest.until_state(state)


@pytest.mark.slow
def test_a_guest_that_crashes_is_started_anew(daemons, guests):
    guest = guests(program(daemons, SAYS_A + CHECKSTOP, actions={"on_crash": "restart"}))
    guest.start()
    guest.expect("AAA")


@pytest.mark.slow
def test_a_guest_that_switches_itself_off(daemons, guests):
    guest = guests(linux(daemons, append="stop"))
    guest.start()
    guest.until_state("shut off (shutdown)")
    assert UP in guest.output()


@pytest.mark.slow
@pytest.mark.parametrize("action", ["restart", "destroy"])
def test_a_guest_that_resets_itself(daemons, guests, action):
    guest = guests(linux(daemons, actions={"on_reboot": action}))
    guest.boot()
    guest.send("reboot -f\n")
    if action == "restart":
        guest.expect(UP)
        assert guest.state == "running (booted)"
        assert guest.domain.ID() > 0
    else:
        guest.until_state("shut off (shutdown)")


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CORES)
def test_the_power_button_ends_linux_in_order_or_begins_it_anew(daemons, guests, cpu):
    needs(KERNELS[cpu], "CONFIG_KEYBOARD_GPIO", "CONFIG_INPUT_EVDEV")
    guest = guests(linux(daemons, cpu))
    guest.boot()
    domain = guest.domain.ID()
    guest.virsh("reboot")
    guest.expect("power button was pressed")
    guest.expect(UP)
    guest.expect("#")
    assert guest.state.startswith("running") and guest.domain.ID() == domain
    guest.virsh("shutdown")
    guest.expect("power button was pressed")
    guest.until_state("shut off (shutdown)")
