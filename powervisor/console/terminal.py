"""The user's terminal: raw while the guest has it, and given back whatever happens.

Ordinary ends (return, exception, exit) restore it through `restore` and atexit; being stopped and continued, through
signal handlers; a crash, through a small guard process that has the saved settings and acts when we are gone.
"""

import atexit
import errno
import os
import signal
import subprocess
import termios
from pathlib import Path
from types import FrameType

# Waits for a word from us; end of file without one means that we died (SIGKILL, a crash in native code).
# The terminal is its standard output: a shell can name only single digits as descriptors.
_GUARD = "trap '' HUP INT QUIT TERM TSTP TTIN TTOU; read -r word || stty \"$1\" <&1"


def _is_nobodys(fd: int) -> bool:
    """Whether a terminal controls no session, as a test's pseudo-terminal may not: no job has a better right to it."""
    try:
        os.tcgetpgrp(fd)
    except OSError as error:
        device = os.fstat(fd).st_rdev
        minor = os.minor(device)
        number = minor & 0xFF | os.major(device) << 8 | (minor & ~0xFF) << 12  # proc(5), tty_nr
        return error.errno == errno.ENOTTY and number not in _controlling_terminals()
    return False


def _controlling_terminals() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.add(int(path.read_text().rpartition(")")[2].split()[4]))
        except OSError:
            continue  # it has ended meanwhile
    return found


class Terminal:
    """Raw mode on a file descriptor; where that is not a terminal, everything here does nothing."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.interactive = os.isatty(fd)
        self._free = self.interactive and _is_nobodys(fd)
        self.raw = False
        self._saved: list[object] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def ours(self) -> bool:
        """Whether we may read and set the terminal: a job in the background would be stopped for it."""
        try:
            return not self.interactive or self._free or os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return False  # not our controlling terminal any more: hung up

    def enter(self) -> None:
        """Switch to raw mode, if the terminal is ours; every key goes to the guest, Ctrl-C too."""
        if not self.interactive or self.raw or not self.ours():
            return
        if self._saved is None:
            self._saved = termios.tcgetattr(self.fd)
            self._guard = self._start_guard()
            atexit.register(self.restore)
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
        mode[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
        mode[1] |= termios.OPOST  # for guests that end lines with a bare \n, and for our own messages
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        self._set(mode)
        self.raw = True

    def restore(self) -> None:
        """Give the terminal back as it was found; may be called at any time and any number of times."""
        if self.raw and self._saved is not None:
            self.raw = False
            self._set(self._saved)

    def close(self) -> None:
        """Restore, and send the guard home."""
        self.restore()
        atexit.unregister(self.restore)
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            try:
                guard.stdin.write(b"done\n")
                guard.stdin.close()
            except BrokenPipeError:
                pass  # somebody ended it before us; there is nothing left to guard
            guard.wait()

    def handle_job_control(self) -> None:
        """Restore on a stop from outside (Ctrl-Z itself goes to the guest) and take over again after `fg`."""
        if self.interactive:
            signal.signal(signal.SIGTSTP, self._stop)
            signal.signal(signal.SIGCONT, self._continue)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # stops here until SIGCONT
        signal.signal(signal.SIGTSTP, self._stop)
        self.enter()

    def _continue(self, number: int, frame: FrameType | None) -> None:
        self.raw = False  # after SIGSTOP the shell has set its own mode without our knowing
        self.enter()

    def _set(self, mode: list[object]) -> None:
        # In the background this would stop us, and a job being killed there must still give its terminal back.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, mode)  # type: ignore[arg-type]
        except (termios.error, OSError):
            self.interactive = False  # the terminal is gone (its window closed): nothing to restore
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start_guard(self) -> "subprocess.Popen[bytes] | None":
        try:
            saved = subprocess.run(["stty", "-g"], stdin=self.fd, capture_output=True, text=True, check=True).stdout
            return subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "powervisor-terminal-guard", saved.strip()],
                stdin=subprocess.PIPE,
                stdout=self.fd,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError):
            return None  # a system without sh or stty: the other ways of restoring remain
