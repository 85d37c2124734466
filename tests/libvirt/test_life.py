"""From define to undefine: starts, resets, endings of all kinds."""

from __future__ import annotations

import os
import pty
import select
import signal
import time

from tests.libvirt.guests import UP, linux


def test_a_machine_from_its_start_to_a_crash(daemons, guests):
    guest = guests(linux(daemons))
    guest.start(paused=True)
    assert guest.state == "paused (user)"
    time.sleep(0.3)
    assert guest.output() == ""
    guest.virsh("resume")
    guest.expect(UP)
    guest.expect("#")
    assert "typed there" in on_the_console(daemons, guest.name, "echo typed th''ere", "typed there")
    guest.virsh("reset")
    guest.expect(UP)
    assert guest.state.startswith("running")
    os.kill(guest.process(), signal.SIGKILL)
    guest.until_state("shut off (crashed)")


def on_the_console(daemons, name, line, answer):
    """What `virsh console` shows after a line was typed there."""
    process, terminal = pty.fork()
    if not process:
        os.execvp("virsh", ["virsh", "-c", daemons.uri, "console", name])
    shown = b""
    deadline = time.monotonic() + 30
    try:
        while answer.encode() not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 4096)
            if line and b"Escape character" in shown:
                time.sleep(0.2)
                os.write(terminal, f"\n{line}\n".encode())
                line = ""
        os.write(terminal, b"\x1d")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    return shown.decode(errors="replace")
