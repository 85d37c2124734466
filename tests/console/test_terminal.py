"""The terminal is raw while a guest has it and is given back however the program ends."""

import contextlib
import os
import pathlib
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

PRELUDE = """
import os, signal, sys, threading, time
from powervisor.console.stdio import Command, Stdio
got = bytearray()
line = Stdio()
line.on_receive = got.extend
line.can_receive = lambda: 100
quit = threading.Event()
def wait():
    while not quit.wait(0.01):  # the kernel may give a signal to any thread; the handler runs when this one wakes
        pass
line.commands["x"] = Command("leave", quit.set)
line.terminal.handle_job_control()
line.start(lambda function: function())
line.write(b"READY\\n")
"""

# A shell's part in job control: a child in a process group of its own, in the foreground.
JOB = """
import os, signal, time
child = os.fork()
if child:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(child, child)
    os.tcsetpgrp(0, child)
    os.waitpid(child, 0)
    os._exit(0)
while os.tcgetpgrp(0) != os.getpid():
    time.sleep(0.005)
os.write(1, b"PID %d.\\n" % os.getpid())
"""

OTHER_SESSION = """
import os
if os.fork():
    os.wait()
    os._exit(0)
os.setsid()
"""


class Session:
    """A program with a terminal of its own."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self.fd, self.out = pid, fd, b""

    def read_until(self, text: bytes, timeout: float = 5.0) -> None:
        end = time.monotonic() + timeout
        os.set_blocking(self.fd, False)
        while text not in self.out:
            assert time.monotonic() < end, self.out
            try:
                self.out += os.read(self.fd, 4096)
            except BlockingIOError:
                time.sleep(0.005)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def raw(self) -> bool:
        return not termios.tcgetattr(self.fd)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.out
            time.sleep(0.005)


@pytest.fixture
def run() -> Iterator[Callable[[str], Session]]:
    sessions: list[Session] = []

    def start(program: str, before: str = "", controlling: bool = True) -> Session:
        words = [sys.executable, "-c", before + PRELUDE + textwrap.dedent(program)]
        if controlling:
            pid, fd = pty.fork()
        else:
            fd, slave = os.openpty()
            pid = os.fork()
        if pid == 0:
            if not controlling:
                os.setsid()
                for number in range(3):
                    os.dup2(slave, number)
            os.execv(sys.executable, words)
        sessions.append(Session(pid, fd))
        sessions[-1].read_until(b"READY")
        return sessions[-1]

    yield start
    for session in sessions:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(session.pid, signal.SIGKILL)
            os.waitpid(session.pid, 0)
        os.close(session.fd)


def test_keys_go_to_the_guest_ctrl_c_and_ctrl_z_too_and_ctrl_a_x_leaves(run):
    session = run("wait(); line.close(); print('GOT', bytes(got))")
    assert session.raw()
    session.type(b"ls\r\x03\x1a\x01\x01\x01x")
    session.read_until(b"GOT b'ls\\r\\x03\\x1a\\x01'")
    assert os.waitpid(session.pid, 0)[1] == 0
    assert not session.raw()


def test_a_terminal_that_controls_no_session_is_used_like_any_other(run):
    session = run("wait(); line.close(); print('GOT', bytes(got))", controlling=False)
    assert session.raw()
    session.type(b"ls\r\x01x")
    session.read_until(b"GOT b'ls\\r'")
    session.wait_for(lambda: not session.raw())


def test_a_terminal_of_another_session_is_left_alone(run):
    session = run("time.sleep(0.2); print('GOT', bytes(got))", before=OTHER_SESSION)
    assert not session.raw()
    session.type(b"ls\r")
    session.read_until(b"GOT b''")


def test_ctrl_a_h_lists_the_keys(run):
    session = run("wait(); line.close()")
    session.type(b"\x01h")
    session.read_until(b"Ctrl-A x       leave")
    session.read_until(b"Ctrl-A Ctrl-A  send Ctrl-A to the guest")
    session.type(b"\x01x")


def test_escape_keys_work_under_a_guest_that_takes_nothing(run):
    session = run("line.can_receive = lambda: 0\nwait(); line.close(); print('LEFT')")
    session.type(b"abc" * 100)
    session.type(b"\x01x")
    session.read_until(b"LEFT")


def test_an_uncaught_exception_gives_the_terminal_back(run):
    session = run("time.sleep(0.1); raise RuntimeError('oops')")
    session.wait_for(lambda: not session.raw())
    session.read_until(b"RuntimeError: oops")


def test_a_crash_and_a_kill_give_the_terminal_back(run):
    session = run("time.sleep(60)")
    os.kill(session.pid, signal.SIGKILL)
    session.wait_for(lambda: not session.raw())
    session = run("time.sleep(0.1); import ctypes; ctypes.string_at(0)")
    session.wait_for(lambda: not session.raw())


def test_stop_and_continue_give_the_terminal_back_and_take_it_again(run):
    session = run("wait(); line.close(); print('LEFT', bytes(got))", before=JOB)
    child = int(session.out.partition(b"PID ")[2].partition(b".")[0])
    for _ in range(2):
        session.wait_for(session.raw)
        os.kill(child, signal.SIGTSTP)
        session.wait_for(lambda: pathlib.Path(f"/proc/{child}/stat").read_text().split()[2] == "T")
        assert not session.raw()
        os.kill(child, signal.SIGCONT)
        session.wait_for(session.raw)
    session.type(b"k\x01x")
    session.read_until(b"LEFT b'k'")


def test_stopped_by_force_the_shell_changes_the_mode_and_it_is_raw_again_after_continue(run):
    session = run("wait(); line.close()")
    os.kill(session.pid, signal.SIGSTOP)
    mode = termios.tcgetattr(session.fd)
    mode[3] |= termios.ICANON | termios.ECHO | termios.ISIG
    termios.tcsetattr(session.fd, termios.TCSANOW, mode)
    os.kill(session.pid, signal.SIGCONT)
    session.wait_for(session.raw)
    session.type(b"\x01x")


def test_the_guard_does_not_outlive_an_ordinary_end(run):
    session = run("guard = line.terminal._guard; line.close(); print('GUARD', guard.returncode)")
    session.read_until(b"GUARD 0")


@pytest.mark.parametrize("redirect", ["</dev/null", "0<&-", "<data"])
def test_without_a_terminal_nothing_is_asked_of_it(redirect, tmp_path):

    (tmp_path / "data").write_bytes(b"typed" * 1000)
    program = "\n".join(
        (
            "from powervisor.console.stdio import hold_standard_descriptors; hold_standard_descriptors()",
            PRELUDE,
            "time.sleep(0.3); line.write(b'%d bytes' % len(got)); line.close()",
        )
    )
    shell = f'exec {sys.executable} -c "$PROGRAM" {redirect}'
    done = subprocess.run(
        ["sh", "-c", shell], env={**os.environ, "PROGRAM": program}, cwd=tmp_path, capture_output=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"READY\n%d bytes" % (5000 if redirect == "<data" else 0)


def test_output_whose_reader_has_left_is_reported():
    read, write = os.pipe()
    nobody, _ = os.pipe()
    from powervisor.console.stdio import Stdio

    line, seen = Stdio(nobody, write), []
    line.on_broken = seen.append
    os.close(read)
    line.write(b"x")
    deadline = time.monotonic() + 2
    while not seen and time.monotonic() < deadline:
        time.sleep(0.005)
    line.close()
    assert isinstance(seen[0], BrokenPipeError)
    for fd in (write, nobody, _):
        os.close(fd)
