"""The programs as processes, started as libvirt starts them: what they inherit, whom they tell, and how they end."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from powervisor.guests.builtin import image
from tests.launcher.lines import started
from tests.manage.conftest import Client
from tests.support.waiting import until

TREE = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "powervisor.cli.system"]
PROMPT = b"help lists the commands.\r\n> "
PROBE = "-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg -daemonize".split()


def environment(home: Path) -> dict[str, str]:
    """What libvirt leaves of it, and where this tree is."""
    kept = {name: os.environ[name] for name in ("PATH", "POWERVISOR_CACHE") if name in os.environ}
    kept.setdefault("POWERVISOR_CACHE", os.path.expanduser("~/.cache/powervisor"))
    return {**kept, "LC_ALL": "C", "HOME": str(home), "PYTHONPATH": str(TREE)}


@pytest.fixture
def client():
    """`client(path)`: a client of the monitor there."""
    with ExitStack() as stack:

        def connect(path: Path) -> Client:
            made = Client(str(path))
            stack.callback(made.close)
            return made

        yield connect


def gone(pid: int) -> bool:
    """Whether a process that is no child of ours ends soon."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def read_until(fd: int, text: bytes, seconds: float = 60) -> bytes:
    """What comes from a descriptor, up to some text."""
    found, deadline = b"", time.monotonic() + seconds
    while text not in found:
        assert select.select([fd], [], [], deadline - time.monotonic())[0], found
        data = os.read(fd, 4096)
        assert data, found
        found += data
    return found


def test_a_probe_answers_when_its_parent_has_ended(tmp_path, client):
    monitor, pidfile = tmp_path / "monitor", tmp_path / "pid"
    words = [*PROBE, "-qmp", f"unix:{monitor},server=on,wait=off", "-pidfile", str(pidfile)]
    parent = subprocess.run(
        [*PROGRAM, *words], env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert (parent.returncode, parent.stdout, parent.stderr) == (0, b"", b"")
    pid = int(pidfile.read_text())
    try:
        qmp = client(monitor)
        assert qmp.ask("query-target") == {"arch": "ppc64"}
        assert qmp.ask("query-machines")[0]["default-ram-id"] == "ppce500.ram"
        assert qmp.ask("query-status") == {"running": False, "singlestep": False, "status": "prelaunch"}
        options = {one["option"]: {p["name"] for p in one["parameters"]} for one in
                   qmp.ask("query-command-line-options")}  # fmt: skip
        assert "sandbox" not in options and {"id", "fd", "logfile"} <= options["chardev"]
        assert "there is no machine" in qmp.refused("cont")[1]
        assert "there is no machine" in qmp.refused("query-cpus-fast")[1]
        assert "there is no machine" in qmp.refused("human-monitor-command", command_line="info")[1]
        assert os.readlink(f"/proc/{pid}/fd/2") == os.devnull
        assert qmp.ask("quit") == {} and qmp.hung_up()
        assert gone(pid) and not monitor.exists() and not pidfile.exists()
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


def test_what_goes_wrong_behind_daemonize_is_told_by_the_parent(tmp_path):
    words = ["-daemonize", "-nodefaults", "-pidfile", str(tmp_path / "pid"), "-kernel", str(tmp_path / "none")]
    parent = subprocess.run(
        [*PROGRAM, *words], env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert parent.returncode == 1 and not (tmp_path / "pid").exists()
    assert re.fullmatch(rb"powervisor-system-ppc64: -kernel \S+: .*\n", parent.stderr), parent.stderr


@pytest.mark.parametrize("form", ["json", "key=value"])
def test_a_machine_as_libvirt_starts_it(tmp_path, client, form):
    (tmp_path / "key").write_bytes(bytes(32))
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "monitor"))
        listener.listen(1)
        log, told = os.pipe()
        held = os.open(tmp_path / "pidfile", os.O_CREAT | os.O_RDWR)  # as libvirt's, which is locked
        errors = stack.enter_context((tmp_path / "errors").open("w+b"))
        line = started(form, kernel=str(image(32)), key=str(tmp_path / "key"), monitor=listener.fileno(), log=told)
        home = tmp_path / "home"
        home.mkdir()
        machine = subprocess.Popen(
            [*PROGRAM, *line, "-append", "echo hello"], env=environment(home), pass_fds=(listener.fileno(), told, held),
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
        )  # fmt: skip
        stack.callback(machine.wait)
        stack.callback(machine.kill)
        os.close(told)
        home.rmdir()  # libvirt removes it behind a machine, and does not wait
        qmp = client(tmp_path / "monitor")
        threads = [one["thread-id"] for one in qmp.ask("query-cpus-fast")]
        assert len(set(threads)) == 2 and all(os.path.exists(f"/proc/{machine.pid}/task/{one}") for one in threads)
        assert {Path(f"/proc/{machine.pid}/task/{one}/comm").read_text() for one in threads} == {"cpu0\n", "cpu1\n"}
        assert qmp.ask("query-status")["status"] == "prelaunch"
        assert os.readlink(f"/proc/{machine.pid}/fd/{held}") == str(tmp_path / "pidfile")
        (chardev,) = qmp.ask("query-chardev")
        assert chardev["label"] == "charserial0"
        terminal = os.open(chardev["filename"].removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY)
        stack.callback(os.close, terminal)
        qmp.close()  # as when libvirtd is started again
        qmp = client(tmp_path / "monitor")
        qmp.ask("cont")
        qmp.event("RESUME")
        assert b"hello" in read_until(terminal, PROMPT)
        assert b"hello" in read_until(log, PROMPT)
        os.close(log)  # virtlogd has gone: the machine stays
        os.write(terminal, b"echo again\r")
        read_until(terminal, b"again\r\n> ")
        machine.terminate()
        assert qmp.event("SHUTDOWN") == {"guest": False, "reason": "host-signal"}
        assert qmp.hung_up() and machine.wait(20) == 128 + signal.SIGTERM
        errors.seek(0)
        lines = errors.read().decode().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", line) for line in lines), lines
        assert any(line.endswith("-usb: the board has no USB; the guest finds none") for line in lines)


def test_a_machine_that_was_daemonized(tmp_path, client):
    monitor, pidfile, log = tmp_path / "monitor", tmp_path / "pid", tmp_path / "log"
    words = ["-kernel", str(image(32)), "-append", "poweroff", "-m", "64", "-daemonize", "-pidfile", str(pidfile)]
    words += ["-S", "-qmp", f"unix:{monitor},server=on,wait=off", "-serial", f"file:{log}", "-D", f"{tmp_path}/said"]
    parent = subprocess.run([*PROGRAM, *words], env=environment(tmp_path), stdin=subprocess.DEVNULL, timeout=60)
    assert parent.returncode == 0
    pid = int(pidfile.read_text())
    qmp = client(monitor)
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == [os.devnull, os.devnull, f"{tmp_path}/said"]
    qmp.ask("cont")
    assert qmp.event("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
    qmp.close()
    assert gone(pid) and b"Powervisor" in log.read_bytes() and not pidfile.exists()


@pytest.mark.parametrize("waits", ["-serial", "-qmp"])
def test_a_signal_before_anybody_connects_leaves_nothing_behind(tmp_path, waits):
    sockets, pidfile = [tmp_path / "a", tmp_path / "b"], tmp_path / "pid"
    words = ["-kernel", str(image(32)), "-m", "64", "-nodefaults", "-pidfile", str(pidfile)]
    words += ["-qmp", f"unix:{sockets[0]},server=on,wait=off", waits, f"unix:{sockets[1]},server=on,wait=on"]
    machine = subprocess.Popen([*PROGRAM, *words], env=environment(tmp_path), stderr=subprocess.DEVNULL)
    try:
        until(sockets[1].exists)
        assert int(pidfile.read_text()) == machine.pid and sockets[0].exists()
        machine.terminate()
        assert machine.wait(20) == 128 + signal.SIGTERM
        assert not any(path.exists() for path in (pidfile, *sockets))
    finally:
        machine.kill()
        machine.wait()


def test_nohup_is_heeded(tmp_path):
    pidfile = tmp_path / "pid"
    words = ["-M", "none", "-pidfile", str(pidfile), "-qmp", f"unix:{tmp_path}/monitor,server=on,wait=off"]
    machine = subprocess.Popen(["nohup", *PROGRAM, *words], env=environment(tmp_path), stderr=subprocess.DEVNULL)
    try:
        until((tmp_path / "monitor").exists)
        machine.send_signal(signal.SIGHUP)
        machine.terminate()
        assert machine.wait(20) == 128 + signal.SIGTERM and not pidfile.exists()
    finally:
        machine.kill()
        machine.wait()


def test_a_second_machine_does_not_take_the_pidfile(tmp_path):
    monitor, pidfile = tmp_path / "monitor", tmp_path / "pid"
    words = [*PROBE, "-pidfile", str(pidfile), "-qmp"]
    places = [f"unix:{monitor}{n},server=on,wait=off" for n in range(2)]
    assert subprocess.run([*PROGRAM, *words, places[0]], env=environment(tmp_path), timeout=60).returncode == 0
    pid = int(pidfile.read_text())
    second = subprocess.run(
        [*PROGRAM, *words, places[1]], env=environment(tmp_path), stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert second.returncode == 1 and "another process has it" in second.stderr
    assert int(pidfile.read_text()) == pid
    os.kill(pid, signal.SIGTERM)
    assert gone(pid)


def test_a_probe_does_without_what_a_machine_is_made_of(tmp_path):
    says = "import sys, powervisor.cli.system, powervisor.manage; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", says], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "powervisor.manage.server" in modules
    assert not modules & {"powervisor.machine.machine", "powervisor.insns", "powervisor.hv.vm", "llvmlite"}
