"""Machines that run on this host: found, asked, watched; and all that can go wrong between two processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from powervisor.analysis import control
from powervisor.analysis.control import ControlSocket, Gone, Remote
from powervisor.cli.main import main
from powervisor.errors import UserError
from tests.support.waiting import until
from tests.system.bare import bare_machine

from .conftest import BUSY


@contextmanager
def published(**options):
    """A machine that runs, and its socket."""
    with bare_machine(BUSY, **options) as machine:
        listener = ControlSocket(machine)
        try:
            machine.start()
            yield machine, listener
        finally:
            listener.close()


def socket_of(runtime: str) -> Path:
    return Path(runtime) / "powervisor" / str(os.getpid())


def stat(capsys, *words: str):
    status = main(["stat", *words])
    return status, *capsys.readouterr()


def test_only_its_owner_can_reach_a_machine(runtime):
    with published():
        path = socket_of(runtime)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.exists()


def test_it_says_what_it_is(runtime):
    with published(name="lab", cores=2):
        (found,) = control.running()
        assert (found.pid, found.name) == (os.getpid(), "lab")
        assert found.description["cores"] == 2 and found.description["cpu"] == "e5500"


def test_statistics_are_measured_while_somebody_looks(runtime):
    with published() as (machine, _):
        with Remote(socket_of(runtime)) as remote:
            remote.ask("describe")
            assert machine.vm.observers == ()
            first = remote.ask("statistics")
            assert len(machine.vm.observers) == 1
            time.sleep(0.2)
            then = remote.ask("statistics")
            assert then["measured"] > first["measured"]
            assert then["registers"][0]["reads"]["count"] > 0
        until(lambda: machine.vm.observers == ())


def test_a_client_that_dies_is_as_good_as_gone(runtime):
    with published() as (machine, _):
        watcher = subprocess.Popen(
            [sys.executable, "-c", f"""
import time
from pathlib import Path
from powervisor.analysis.control import Remote
remote = Remote(Path({str(socket_of(runtime))!r}))
remote.ask("statistics")
print("asked", flush=True)
time.sleep(60)
"""], stdout=subprocess.PIPE,
        )  # fmt: skip
        assert watcher.stdout.readline() == b"asked\n"
        assert machine.vm.observers
        watcher.send_signal(signal.SIGKILL)
        watcher.communicate()
        until(lambda: machine.vm.observers == ())


def test_a_silent_client_is_sent_away(runtime, monkeypatch):
    monkeypatch.setattr(control, "PATIENCE", 0.2)
    with published() as (machine, _), Remote(socket_of(runtime)) as remote:
        remote.ask("statistics")
        until(lambda: machine.vm.observers == ())
        with pytest.raises(Gone):
            remote.ask("statistics")


def test_a_client_that_asks_and_never_reads_is_sent_away(runtime, monkeypatch):
    monkeypatch.setattr(control, "PATIENCE", 0.3)
    with published() as (machine, _):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_of(runtime)))
            client.sendall(b"statistics\n" * 400)
            until(lambda: bool(machine.vm.observers))
            until(lambda: machine.vm.observers == ())
        assert control.running()


def test_unknown_words_and_endless_lines_do_no_harm(runtime):
    with published():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_of(runtime)))
            for line in (b"\xff\0garbage", b"x" * 3000, b"describe "):
                client.sendall(line + b"\n")
            with client.makefile("rb") as answers:
                told = [json.loads(answers.readline()) for _ in range(3)]
        assert "error" in told[0] and "error" in told[1] and told[2]["pid"] == os.getpid()


def test_more_clients_than_there_is_room_for_are_turned_away_and_others_served(runtime):
    with published():
        clients = []
        for _ in range(control.MOST_CLIENTS + 8):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(socket_of(runtime)))
            clients.append(client)
        for client in clients:
            client.close()

        def found() -> bool:
            return len(control.running()) == 1

        until(found)


def test_watchers_hear_of_the_end(runtime):
    with published() as (_, listener), Remote(socket_of(runtime)) as remote:
        remote.ask("statistics")
        threading.Timer(0.2, listener.close).start()
        with pytest.raises(Gone, match="the machine has ended"):
            while True:
                remote.ask("statistics")


def test_several_machines_of_one_process_have_a_socket_each(runtime):
    with published(name="one"), published(name="two"):
        assert {machine.path.name: machine.name for machine in control.running()} == {
            str(os.getpid()): "one",
            f"{os.getpid()}-1": "two",
        }
        assert control.find("two").path.name == f"{os.getpid()}-1"
        assert control.find(f"{os.getpid()}").name == "one"


def test_sockets_that_nobody_listens_on_are_removed(runtime):
    place = Path(runtime) / "powervisor"
    place.mkdir(mode=0o700)
    stale = place / "99999999"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    other = place / "notes"
    other.write_text("not ours")
    assert control.running() == []
    assert not stale.exists() and other.exists()


def test_a_number_left_over_by_a_dead_process_is_taken_over(runtime):
    place = Path(runtime) / "powervisor"
    place.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / str(os.getpid())))
    with published(name="next"):
        assert [machine.name for machine in control.running()] == ["next"]


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_directory_that_others_can_enter_is_refused(runtime, mode):
    (Path(runtime) / "powervisor").mkdir()
    (Path(runtime) / "powervisor").chmod(mode)
    with bare_machine(BUSY) as machine, pytest.raises(UserError, match="not a directory of yours alone"):
        ControlSocket(machine)


def test_a_link_to_a_directory_is_refused(runtime, tmp_path):
    (Path(runtime) / "powervisor").symlink_to(tmp_path)
    with pytest.raises(UserError, match="not a directory of yours alone"):
        control.running()


# ---- the command ---------------------------------------------------------------------------------------------------


def test_without_machines_it_says_so(runtime, capsys):
    assert stat(capsys) == (0, "no machine runs; start one with powervisor run\n", "")


def test_the_only_machine_is_shown_and_several_are_listed(runtime, capsys):
    with published(name="one"):
        status, out, err = stat(capsys, "-interval", "0.3")
        assert (status, err) == (0, "")
        assert out.startswith(f"one ({os.getpid()}): ppce500, 1 x e5500, 64 MiB\n")
        assert re.search(r"^MMIO +\d+ ", out, re.MULTILINE) and re.search(r"^guts +svr +\d+ ", out, re.MULTILINE)
        with published(name="two", cores=2):
            status, _, err = stat(capsys, "-json")
            listed = f"{os.getpid()}, {os.getpid()}-1"
            assert (status, err) == (1, f"powervisor stat: name one of the machines: {listed}\n")
            status, out, err = stat(capsys)
            assert [line.split() for line in out.splitlines()] == [
                ["PID", "NAME", "BOARD", "CPUS", "CORE", "RAM"],
                [str(os.getpid()), "one", "ppce500", "1", "e5500", "64", "MiB"],
                [f"{os.getpid()}-1", "two", "ppce500", "2", "e5500", "64", "MiB"],
            ]


def test_json_can_be_made_a_page(runtime, capsys, tmp_path):
    with published(name="one"):
        status, out, _ = stat(capsys, "one", "-json", "-interval", "1.2")
    assert status == 0
    (tmp_path / "x.json").write_text(out)
    assert main(["report", str(tmp_path / "x.json")]) == 0


def test_unknown_and_ambiguous_machines_are_refused_in_one_line(runtime, capsys):
    with published(name="same"), published(name="same"):
        status, out, err = stat(capsys, "same")
        assert (status, out) == (1, "")
        assert err == (
            f"powervisor stat: same: 2 machines are called so; name one of them by number: "
            f"{os.getpid()}, {os.getpid()}-1\n"
        )
        status, _, err = stat(capsys, "1")
        assert status == 1 and err.startswith("powervisor stat: 1: no such machine runs; there are ")
        assert err.count("\n") == 1
    status, _, err = stat(capsys, "same")
    assert (status, err) == (1, "powervisor stat: same: no such machine runs; there are none\n")


@pytest.mark.parametrize("interval", ["0", "-1", "soon", "inf", "11"])
def test_an_interval_is_a_time(interval, capsys):
    status, _, err = stat(capsys, "-interval", interval)
    assert status == 1 and "-interval" in err


def test_a_machine_of_another_version_is_told_apart(runtime, capsys, monkeypatch):
    monkeypatch.setattr(control, "describe", lambda machine: {"name": "odd"})
    with published():
        assert control.running() == []
        assert socket_of(runtime).exists()  # somebody listens there
        with Remote(socket_of(runtime)) as remote, pytest.raises(Gone, match="another version"):
            remote.ask("describe")


def test_a_machine_that_ends_while_it_is_measured_is_one_line(runtime, capsys):
    with published(name="one") as (_, listener):
        threading.Timer(0.3, listener.close).start()
        status, out, err = stat(capsys, "one", "-interval", "2")
    assert (status, out, err) == (1, "", "powervisor stat: the machine has ended\n")


def test_a_machine_is_found_though_others_are_looked_for_while_it_comes(runtime):
    looked, ended = threading.Event(), threading.Event()

    def look() -> None:
        while not ended.is_set():
            control.running()
            looked.set()

    looker = threading.Thread(target=look)
    with bare_machine(BUSY) as machine:
        looker.start()
        try:
            looked.wait()
            for _ in range(50):
                listener = ControlSocket(machine)
                found = control.running()
                listener.close()
                assert len(found) == 1
        finally:
            ended.set()
            looker.join()
    assert not any((Path(runtime) / "powervisor").iterdir())


def test_the_live_view_shows_rates_and_leaves_at_a_key(runtime):
    with published(name="one", cores=2):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="120", LINES="40")
            os.execv(sys.executable, [sys.executable, "-m", "powervisor", "stat", "one", "-interval", "0.3"])
        shown = b""
        end = time.monotonic() + 30
        while shown.count(b"MIPS") < 6 and time.monotonic() < end:
            shown += os.read(terminal, 65536)
        os.write(terminal, b"q")
        with contextlib.suppress(OSError):  # how a pseudo-terminal ends
            while data := os.read(terminal, 65536):
                shown += data
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"MMIO +[1-9]\d* ", text) and re.search(r"guts +svr", text)
    assert re.search(r"cpu0 +█.* guest +\d+\.\d %", text)


def test_the_live_view_ends_with_its_machine(runtime):
    with published(name="one") as (_, listener):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm")
            os.execv(sys.executable, [sys.executable, "-m", "powervisor", "stat", "-interval", "0.2"])
        shown = b""
        with contextlib.suppress(OSError):
            while data := os.read(terminal, 65536):
                shown += data
                if b"MIPS" in shown:
                    listener.close()
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 1
    assert shown.rstrip().endswith(b"powervisor stat: the machine has ended")


def test_powervisor_run_is_found_by_its_name(runtime, capsys, tmp_path):
    words = ["run", "-name", "lab", "-serial", "null", "-stat", str(tmp_path / "run.json"), "-timeout", "150"]
    with subprocess.Popen([sys.executable, "-m", "powervisor", *words]) as process:
        until(lambda: [machine.name for machine in control.running()] == ["lab"], "the machine called lab", 120)
        status, out, err = stat(capsys, "lab", "-once", "-interval", "0.3")
        assert (status, err) == (0, "") and out.startswith(f"lab ({process.pid}): ppce500")
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert not any((Path(runtime) / "powervisor").iterdir())
    assert json.loads((tmp_path / "run.json").read_text())["machine"]["name"] == "lab"
