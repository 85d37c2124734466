"""How a run ends: exit statuses, messages, keys, signals, and output that nobody reads."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest


def test_a_guest_that_powers_off_ends_with_0_and_its_output_is_all_there(command, machine):
    def script(m):
        m.say("BOOT-OK\n" * 1000)
        m.end("poweroff")

    machine.script = staticmethod(script)
    done = command("run")
    assert (done.status, done.out, done.err) == (0, "BOOT-OK\n" * 1000, "")
    assert machine.last.closed


@pytest.mark.parametrize("option", ["-stat", "--stat", "-stats"])
def test_statistics_are_written_however_the_run_ends(command, machine, measured, tmp_path, option):
    path = tmp_path / "stats.json"
    for end in ("poweroff", "reset", "guest-error"):
        machine.script = staticmethod(lambda m, end=end: m.end(end))
        command("run", option, str(path))
        told = json.loads(path.read_text())
        assert told["vcpus"][0]["exits"] == {"mmio": 3} and told["ended"]
        assert os.listdir(tmp_path) == ["stats.json"]
        assert measured == ["begun", "over"]
        measured.clear()
        path.unlink()


def test_statistics_are_rewritten_while_the_machine_runs(command, machine, measured, monkeypatch, tmp_path):
    monkeypatch.setattr("powervisor.analysis.record.EVERY", 0.05)
    path, seen = tmp_path / "stats.json", []

    def script(m):
        for _ in range(2):
            end = time.monotonic() + 10
            while not path.read_bytes() and time.monotonic() < end:
                time.sleep(0.01)
            seen.append(json.loads(path.read_text())["ended"])
            path.write_bytes(b"")
        m.end("poweroff")

    machine.script = staticmethod(script)
    assert command("run", "-stat", str(path)).status == 0
    assert seen == [False, False]
    assert json.loads(path.read_text())["ended"]


def test_statistics_go_into_a_pipe_once(command, machine, measured, tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def read():
        while not got or not got[-1]:  # that it can be written is tried first
            got.append(pipe.read_text())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert command("run", "-stat", str(pipe)).status == 0
    reader.join(10)
    assert json.loads(got[-1])["ended"]


def test_statistics_that_cannot_be_written_any_more_are_told_and_the_machine_goes_on(
    command, machine, measured, monkeypatch, tmp_path
):
    monkeypatch.setattr("powervisor.analysis.record.EVERY", 0.05)
    place = tmp_path / "place"
    place.mkdir()

    def script(m):
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
        time.sleep(0.3)
        m.say("still here")
        m.end("poweroff")

    machine.script = staticmethod(script)
    done = command("run", "-stat", str(place / "stats.json"))
    assert (done.status, done.out) == (0, "still here")
    assert "-stat" in done.err and "cannot be written (No such file or directory)" in done.err


def test_a_file_for_statistics_that_cannot_be_written_is_refused_before_the_start(command, machine, tmp_path):
    done = command("run", "-stat", str(tmp_path / "none" / "stats.json"))
    assert (done.status, done.out) == (1, "")
    assert "-stat" in done.err and "cannot be written (No such file or directory)" in done.err


def test_a_machine_has_the_name_that_it_is_given(command, machine):
    for words in (["-name", "lab"], ["-name", "guest=lab"]):
        command("run", *words)
        assert machine.last.arguments["name"] == "lab"
    for name in ("", "42", "12-1", "a\tb", "x" * 65, "guest=", "process=x"):
        done = command("run", "-name", name)
        assert done.status == 1 and done.err.startswith(f"powervisor run: -name {name}: "), done.err


def test_a_machine_that_cannot_be_found_runs_all_the_same(command, machine, monkeypatch, tmp_path):
    (tmp_path / "powervisor").write_text("in the way")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = command("run")
    assert done.status == 0
    assert done.err.count("\n") == 1 and "powervisor stat will not find this machine" in done.err


def test_a_guest_fault_ends_with_3_and_the_registers(command, machine):
    machine.script = staticmethod(
        lambda m: m.end("guest-error", "e5500 cpu1 pc=0x1234: checkstop", "r0 00000000\nr1 1")
    )
    done = command("run")
    assert done.status == 3
    assert done.err == "powervisor run: e5500 cpu1 pc=0x1234: checkstop\nr0 00000000\nr1 1\n"


def test_a_reset_under_no_reboot_ends_with_4(command, machine):
    machine.script = staticmethod(lambda m: m.end("reset", "watchdog"))
    done = command("run", "-no-reboot")
    assert done.status == 4
    assert "reset: watchdog" in done.err


def test_expected_text_ends_the_run_with_0_and_stops_the_machine(command, machine):
    machine.script = staticmethod(lambda m: m.say("U-Boot\n=> "))
    done = command("run", "--expect", "=> ", "--timeout", "10")
    assert (done.status, done.err) == (0, "")
    assert done.out == "U-Boot\n=> "
    assert machine.last.stopped


def test_expected_text_in_the_guests_last_breath_counts(command, machine):
    def script(m):
        m.say("done")
        m.end("poweroff")

    machine.script = staticmethod(script)
    for _ in range(20):
        assert command("run", "-expect", "done").status == 0


def test_a_guest_that_ends_without_the_expected_text_is_a_failure(command, machine):
    done = command("run", "-expect", "login:")
    assert done.status == 1
    assert "ended before 'login:' came" in done.err
    machine.script = staticmethod(lambda m: m.end("guest-error", "checkstop"))
    assert command("run", "-expect", "login:").status == 3


def test_the_timeout_ends_with_124(command, machine):
    machine.script = staticmethod(lambda m: None)
    begin = time.monotonic()
    done = command("run", "-timeout", "0.1")
    assert done.status == 124
    assert time.monotonic() - begin < 3
    assert "still runs after 0.1 s" in done.err
    done = command("run", "-timeout", "0.1", "-expect", "BOOT-OK")
    assert (done.status, "'BOOT-OK' did not come" in done.err) == (124, True)


def test_an_error_while_running_is_a_bug_with_a_traceback(command, machine):
    def script(m):
        m.outcome = RuntimeError("engine broke")
        m.over.set()

    machine.script = staticmethod(script)
    done = command("run")
    assert done.status == 70
    assert "RuntimeError: engine broke" in done.err


def test_two_serial_lines_and_their_places(command, machine, tmp_path):
    def script(m):
        m.say("first", 0)
        m.say("second", 1)
        m.end("poweroff")

    machine.script = staticmethod(script)
    done = command("run", "-serial", f"file:{tmp_path}/0", "-serial", "pty")
    assert done.status == 0
    assert (tmp_path / "0").read_text() == "first"
    assert "serial1: /dev/pts/" in done.err


def test_no_serial_line_at_all(command, machine):
    assert command("run", "-serial", "none").status == 0
    assert machine.last.serial == [None]


PROGRAM = """
import sys, time, threading
sys.path.insert(0, sys.argv.pop(1))
import conftest, powervisor
from powervisor.cli.main import main

class Machine(conftest.FakeMachine):
    @staticmethod
    def script(m):
        m.say("READY\\n")
        end = time.monotonic() + 20
        while time.monotonic() < end and not m.over.is_set():
            {body}
            time.sleep(0.01)
        if not m.over.is_set():
            m.end("poweroff")  # a test that waits for more fails, instead of waiting for ever

powervisor.Machine = Machine
sys.exit(main(["run", *sys.argv[1:]]))
"""


@pytest.fixture
def start():
    """Starts a `powervisor run` of its own with a fake guest; ended afterwards."""
    children: list[subprocess.Popen] = []

    def run(*words: str, body: str = "pass", **settings) -> subprocess.Popen:
        arguments = [sys.executable, "-c", PROGRAM.format(body=textwrap.indent(body, " " * 12).strip())]
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        children.append(subprocess.Popen([*arguments, os.path.dirname(__file__), *words], **settings))
        return children[-1]

    yield run
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_run_with_128_and_its_number(start, number):
    child = start()
    assert child.stdout.read(6) == b"READY\n"
    child.send_signal(number)
    assert child.wait(5) == 128 + number
    assert child.stderr.read() == b""


def test_a_second_signal_ends_a_machine_that_does_not_stop(start):
    child = start(body="m.stop = lambda: time.sleep(30)")
    assert child.stdout.read(6) == b"READY\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == 128 + signal.SIGTERM


def test_a_reader_that_leaves_ends_the_run_as_sigpipe_would(start):
    child = start(body="m.say('x')")
    assert child.stdout.read(6) == b"READY\n"
    child.stdout.close()
    assert child.wait(5) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("stdin", ["closed", "null", "ended"])
def test_the_machine_runs_with_standard_input_closed_at_its_end_or_no_terminal(start, stdin):
    settings = {"preexec_fn": lambda: os.close(0)} if stdin == "closed" else {}
    read, write = os.pipe()
    os.close(write)
    child = start("-expect", "READY", stdin=read if stdin == "ended" else subprocess.DEVNULL, **settings)
    os.close(read)
    assert child.communicate(timeout=30) == (b"READY\n", b"")
    assert child.returncode == 0


def test_the_machine_runs_with_standard_output_closed(start):
    child = start("-expect", "READY", preexec_fn=lambda: os.close(1))
    child.communicate(timeout=30)
    assert child.returncode == 0


def test_piped_input_reaches_the_guest_and_ctrl_a_x_leaves(start):
    child = start(body="m.say(m.heard())", stdin=subprocess.PIPE)
    assert child.stdout.read(6) == b"READY\n"
    child.stdin.write(b"ls -l\n")
    child.stdin.flush()
    assert child.stdout.read(6) == b"ls -l\n"
    child.stdin.write(b"\x01s\x01x")
    child.stdin.flush()
    out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, b"")
    assert b"cpu0 pc=0xc0000000" in out


def test_a_reader_that_never_reads_delays_nothing_for_ever(start):
    read, write = os.pipe()
    child = start("-timeout", "4", body="m.say('x' * 100000)", stdout=write)
    os.close(write)
    assert child.wait(15) == 124
    assert b"bytes of output were not read in time and dropped" in child.stderr.read()
    os.close(read)


def test_with_wait_the_machine_starts_when_the_client_has_come(command, machine, tmp_path):
    import socket

    path = str(tmp_path / "s")
    seen = SimpleNamespace(text=b"")

    def client():
        while not os.path.exists(path):
            time.sleep(0.01)
        time.sleep(0.1)
        assert not machine.last.started
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            seen.text = s.recv(100)

    machine.script = staticmethod(lambda m: (m.say("hello"), m.end("poweroff")))
    thread = threading.Thread(target=client)
    thread.start()
    assert command("run", "-serial", f"unix:{path},server=on").status == 0
    thread.join(5)
    assert seen.text == b"hello"


def one_stream(start, **settings) -> str:
    """What a user sees who sends output and messages to one place, as a terminal does."""
    read, write = os.pipe()
    child = start(stdout=write, stderr=write, **settings)
    os.close(write)
    with open(read) as stream:
        text = stream.read()
    assert child.wait(5) >= 0
    return text


def test_a_message_begins_a_line_of_its_own_after_a_prompt(start):
    body = "m.say('login: '); m.end('reset', 'watchdog')"
    lines = one_stream(start, body=body).splitlines()
    assert lines == ["READY", "login: ", "powervisor run: the guest reset: watchdog (-no-reboot)"]


def test_a_message_after_a_whole_line_leaves_none_empty(start):
    lines = one_stream(start, body="m.end('reset')").splitlines()
    assert lines == ["READY", "powervisor run: the guest reset (-no-reboot)"]


def test_an_error_while_running_begins_a_line_of_its_own_too(start):
    body = "m.say('login: '); m.outcome = RuntimeError('engine broke'); m.over.set()"
    lines = one_stream(start, body=body).splitlines()
    assert lines[:3] == ["READY", "login: ", "Traceback (most recent call last):"]


def test_messages_to_a_file_of_their_own_are_as_they_were(start):
    child = start(body="m.say('login: '); m.end('reset')")
    assert child.communicate(timeout=30) == (b"READY\nlogin: ", b"powervisor run: the guest reset (-no-reboot)\n")


@pytest.mark.parametrize("where", ["__init__", "start"])
def test_the_timeout_covers_what_is_built_before_the_start(command, machine, monkeypatch, where):
    slow = getattr(machine, where)

    def build(self, *words, **arguments):
        slow(self, *words, **arguments)
        time.sleep(20)

    monkeypatch.setattr(machine, where, build)
    begin = time.monotonic()
    done = command("run", "-timeout", "0.3")
    assert done.status == 124
    assert time.monotonic() - begin < 5
    assert done.err == "powervisor run: the machine was not ready after 0.3 s (-timeout)\n"
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_the_timeout_counts_what_was_built_before_the_start(command, machine, monkeypatch):
    monkeypatch.setattr(machine, "start", lambda self: time.sleep(1))
    machine.wait = lambda self: time.sleep(30)
    begin = time.monotonic()
    assert command("run", "-timeout", "1.5").status == 124
    assert time.monotonic() - begin < 2.3


def test_the_timeout_covers_the_wait_for_a_client(command, machine, tmp_path):
    done = command("run", "-timeout", "0.3", "-serial", f"unix:{tmp_path}/s,server=on")
    assert (done.status, machine.last.started) == (124, False)
