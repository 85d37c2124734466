"""The monitor at `powervisor run`: on the terminal beside the console, on sockets, from a pipe."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time

import pytest

from tests.cli.test_interactive import Terminal
from tests.system.booting import TREE


@pytest.fixture
def terminal(monkeypatch, tmp_path):
    """Runs a command line on a terminal; left at the end."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    opened = []

    def terminal(*words):
        opened.append(Terminal(*words))
        return opened[-1]

    yield terminal
    for one in opened:
        if one.status is None:
            one.type(b"\x01x")
            one.leave()


@pytest.fixture(params=["dumb", "xterm"])
def kind(request, monkeypatch):
    if request.param == "xterm":
        pytest.importorskip("prompt_toolkit")
    monkeypatch.setenv("TERM", request.param)
    return request.param


def test_console_and_monitor_share_a_terminal(terminal, kind):
    run = terminal("builtin", "-append", "dt")
    run.read_until(b"help lists the commands.\n> ")
    run.type(b"\x01c")
    run.read_until(b"help lists commands\n")
    run.type(b"info cpus\r")
    run.read_until(b" cpu0: pc 0x")
    run.read_until(b", waits, ")
    run.type(b"stop\r")
    run.read_until(b"cpu0 at 0x")
    run.type(b"nonsense\r")
    run.read_until(b"nonsense: no such command; help lists them\n")
    run.type(b"\x01c\x01s")  # back to the console, and Ctrl-A s as ever
    run.read_until(b"pc ")
    run.type(b"ver\x01c")  # keys wait for the stopped guest
    time.sleep(0.3)
    run.type(b"cont\r")
    time.sleep(0.3)
    run.type(b"\x01c")
    run.type(b"\r")
    run.read_until(b"> ")
    run.type(b"\x01c")
    run.type(b"quit\r")
    assert run.leave() == 0
    assert run.as_found()


def test_python_stops_the_guest_until_it_is_left(terminal, kind):
    run = terminal("builtin", "-smp", "2")
    run.read_until(b"\n> ")
    run.type(b"\x01p")
    run.read_until(b"exit()")
    run.read_until(b'monitor("info tlb")\n')
    run.type(b"print('held' if machine.held else 'running', len(cpus))\r")
    run.read_until(b"held 2\n")
    run.type(b"while True: pass\r")
    time.sleep(0.3)
    run.type(b"\r")
    time.sleep(0.5)
    run.type(b"\x03")
    run.read_until(b"KeyboardInterrupt")
    run.type(b"exit()\r")
    time.sleep(0.3)
    run.type(b"info status\r")
    run.read_until(b"running\n")
    run.type(b"\x04")  # the console again
    time.sleep(0.3)
    run.type(b"help\r")
    run.read_until(b"reset")


def test_a_breakpoint_is_told_at_the_console(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    run = terminal("builtin")
    run.read_until(b"\n> ")
    run.type(b"\x01cbreak $pc\r")
    run.read_until(b"\n0x1")
    run.read_until(b"(powervisor) ")
    run.type(b"\x01c\r")
    run.read_until(b"breakpoint (Ctrl-A c: monitor)")


def powervisor(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "powervisor", "run", *words],
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


def test_lines_from_a_pipe_are_for_the_monitor_that_is_in_front():
    done = powervisor("builtin", "-monitor", "stdio", "-serial", "null", input="info version\nx /2i 0x100000\nquit\n")
    assert done.returncode == 0 and not done.stderr
    assert re.search(r"\(powervisor\) powervisor \d", done.stdout)
    assert done.stdout.startswith("powervisor monitor: help lists commands\n") and "0x100004: " in done.stdout


def test_a_monitor_on_a_socket(tmp_path):
    words = ["builtin", "-serial", "null", "-monitor", f"unix:{tmp_path}/m,server=on,wait=off", "-timeout", "50"]
    run = subprocess.Popen(
        [sys.executable, "-m", "powervisor", "run", *words], cwd=TREE, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not (tmp_path / "m").exists():
        assert run.poll() is None, run.stdout.read()
        time.sleep(0.02)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "m"))
        client.settimeout(30)
        text = client.makefile(newline="\n")
        client.sendall(b"info status\nquit\n")
        assert "help lists commands" in text.readline()
        assert text.readline() == "(powervisor) running\n"
        text.close()
    with run.stdout:
        run.stdout.read()
    assert run.wait(30) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-monitor", "file:x"], "-monitor file:x: no lines come from there"),
        (["-monitor", "stdio:x"], "-monitor stdio:x: 'stdio' takes nothing more"),
        (["-monitor", "chardev:x"], "-monitor chardev:x: no such chardev is left; there is none"),
        (["-monitor", "unx:/tmp/x"], "-monitor unx:/tmp/x: no such kind; did you mean unix:PATH"),
        (["-monitor", "tcp:1"], "-monitor tcp:1: connecting out is not supported"),
        (["-monitor", "unix:/nowhere/m,server=on"], "-monitor unix:/nowhere/m: cannot listen there"),
    ],
)
def test_a_wrong_place_is_one_line(words, message):
    done = powervisor("builtin", *words, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


def test_without_a_monitor_there_is_no_key_for_it(terminal):
    run = terminal("builtin", "-monitor", "none")
    run.read_until(b"\n> ")
    run.type(b"\x01c\x01h")
    run.read_until(b"Ctrl-A h       this help\n")
    run.read_until(b"Ctrl-A s")
