"""Life of a machine over QMP: run states, events, endings."""

from __future__ import annotations

import json
import os
import time

from tests.system.bare import ORIGIN

POWER_OFF = """
    devices
    load32 r3, DEVICES + 0xFF000
    lis   r4, 0x8000
    stw   r4, 0(r3)
    stw   r4, 8(r3)
loop:
    b     loop
"""
RESET = """
    devices
    load32 r3, DEVICES + 0xE00B0
    li    r4, 2
    stw   r4, 0(r3)
loop:
    b     loop
"""
CHECKSTOP = """
    vector 63, 0x20000000
    sc
"""
LISTENS = """
    devices
    load32 r3, DEVICES + 0xFF000
    lis   r4, 0x4000
    stw   r4, 0x10(r3)
loop:
    b     loop
"""


def test_the_greeting_tells_the_version_and_capabilities_are_negotiated_first(managed):
    client = managed().client(negotiate=False)
    assert client.greeting["QMP"]["version"]["qemu"] == {"major": 7, "minor": 2, "micro": 0}
    assert client.greeting["QMP"]["version"]["package"].startswith("powervisor")
    assert client.greeting["QMP"]["capabilities"] == []
    assert client.refused("query-status")[0] == "CommandNotFound"
    assert client.refused("qmp_capabilities", enable=["oob"])[0] == "GenericError"
    assert client.ask("qmp_capabilities") == {}
    assert client.refused("qmp_capabilities")[0] == "CommandNotFound"
    assert client.ask("query-status")["running"]


def test_a_machine_is_stopped_and_goes_on(managed):
    made = managed()
    client, other = made.client(), made.client()
    assert client.ask("stop") == {}
    assert client.event("STOP") == {} == other.event("STOP")
    assert client.ask("query-status") == {"running": False, "singlestep": False, "status": "paused"}
    before = made.machine.vcpus[0].instructions
    time.sleep(0.05)
    assert made.machine.vcpus[0].instructions == before
    assert client.ask("stop") == {} and client.ask("cont") == {}
    assert client.event("RESUME") == {} == other.event("RESUME")
    deadline = time.monotonic() + 20
    while made.machine.vcpus[0].instructions == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert client.ask("query-status")["status"] == "running"
    assert not [event for event in client.events if event["event"] == "STOP"]


def test_a_machine_held_at_its_start_is_in_prelaunch(managed):
    made = managed(started=False)
    client = made.client()
    assert client.ask("query-status") == {"running": False, "singlestep": False, "status": "prelaunch"}
    assert made.machine.vcpus[0].instructions == 0
    client.ask("cont")
    client.event("RESUME")
    assert client.ask("query-status")["status"] == "running"


def test_ids_come_back_whatever_they_are(managed):
    client = managed().client()
    for value in (b"7", b'"libvirt-12"', b"null", b'{"a": [1, 2.5]}', b"[]"):
        client.send(b'{"execute": "query-status", "id": ' + value + b"}")
        assert client.reply()["id"] == json.loads(value)
    client.send(b'{"execute": "nonsense", "id": 1}')
    assert client.reply() == {
        "error": {
            "class": "CommandNotFound",
            "desc": "nonsense: there is no such command; query-commands lists what there is",
        },
        "id": 1,
    }


def test_requests_need_no_line_ends_and_may_have_them_inside(managed):
    client = managed().client()
    client.send(b'{"execute":"query-name"}{"execute":"query-kvm","id":1}\n{\n "execute":\n "query-uuid" }')
    assert client.reply() == {"return": {}}
    assert client.reply() == {"return": {"enabled": False, "present": False}, "id": 1}
    assert client.reply() == {"return": {"UUID": "00000000-0000-0000-0000-000000000000"}}
    for byte in b'{"execute": "query-name", "id": "a\\"}"}':
        client.send(bytes([byte]))
    assert client.reply() == {"return": {}, "id": 'a"}'}


def test_quit_is_answered_told_and_ends_the_machine(managed):
    made = managed()
    client = made.client()
    assert client.ask("quit") == {}
    assert client.event("SHUTDOWN") == {"guest": False, "reason": "host-qmp-quit"}
    assert made.machine.wait(20).kind == "stopped"
    assert client.refused("cont") == ("GenericError", "the machine has ended")
    made.server.close()
    assert client.hung_up()
    assert not os.path.exists(made.path)


def test_a_guest_that_powers_off_ends_the_machine(managed):
    made = managed(POWER_OFF, started=False)
    client = made.client()
    client.ask("cont")
    assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
    assert made.machine.wait(20).kind == "poweroff"


def test_a_machine_that_is_kept_stands_still_until_it_is_reset(managed):
    made = managed(POWER_OFF, started=False)
    client = made.client()
    client.ask("set-action", shutdown="pause")
    for _ in range(2):
        client.ask("cont")
        assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        client.event("STOP")
        assert client.ask("query-status")["status"] == "shutdown" and not made.machine.ended
        assert "system_reset" in client.refused("cont")[1]
        client.ask("system_reset")
        assert client.event("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
        assert client.ask("query-status")["status"] == "prelaunch"
        assert made.machine.vcpus[0].regs["pc"] == ORIGIN


def test_a_reset_by_the_guest_is_told_and_may_be_a_shutdown(managed):
    made = managed(RESET, started=False)
    client = made.client()
    client.ask("cont")
    for _ in range(2):
        assert client.event("RESET") == {"guest": True, "reason": "guest-reset"}
    client.ask("set-action", shutdown="pause", reboot="shutdown")
    assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-reset"}
    client.event("STOP")
    assert client.ask("query-status")["status"] == "shutdown"


def test_a_checkstop_is_a_panic(managed):
    made = managed(CHECKSTOP, started=False)
    client = made.client()
    client.ask("set-action", panic="pause")
    client.ask("cont")
    assert client.event("GUEST_PANICKED") == {"action": "pause"}
    client.event("STOP")
    assert client.ask("query-status")["status"] == "guest-panicked"
    client.ask("set-action", panic="shutdown")
    client.ask("system_reset")
    client.ask("cont")
    assert client.event("GUEST_PANICKED") == {"action": "poweroff"}
    assert client.event("SHUTDOWN") == {"guest": True, "reason": "guest-panic"}
    assert made.machine.wait(20).kind == "guest-error"


def test_the_power_button_is_pressed_for_guests_that_listen_to_it(managed):
    client = managed().client()
    assert "CONFIG_KEYBOARD_GPIO" in client.refused("system_powerdown")[1]
    listening = managed(LISTENS)
    client = listening.client()
    deadline = time.monotonic() + 20
    while "error" in client.call("system_powerdown"):
        assert time.monotonic() < deadline
    assert client.event("POWERDOWN") == {}


def test_resets_of_a_running_machine_leave_it_running(managed):
    made = managed()
    client = made.client()
    client.ask("system_reset")
    assert client.event("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
    assert client.ask("query-status")["status"] == "running"
    client.ask("stop")
    client.ask("system_reset")
    assert client.ask("query-status")["status"] == "prelaunch"


def test_a_watchdog_that_resets_the_board_is_told(managed):
    made = managed("load32 r3, 0xA0140000; mtspr 340, r3\nloop: b loop", started=False)
    client = made.client()
    client.ask("cont")
    assert client.event("WATCHDOG") == {"action": "reset"}
    assert client.event("RESET") == {"guest": True, "reason": "guest-reset"}
