"""What the command line says of the process itself: -daemonize, -pidfile, -add-fd, -D, -msg."""

from __future__ import annotations

import argparse
import fcntl
import os
import stat
from contextlib import ExitStack

from powervisor.console import stdio
from powervisor.errors import UserError
from powervisor.fdsets import FdSets, opened_from

_READY = b"\0"


class Daemon:
    """The process that stays, while the one that was started waits to know how that goes."""

    def __init__(self, told: int) -> None:
        self._told = told

    @classmethod
    def fork(cls) -> Daemon:
        """Returns in the process that stays; before there are threads. The other one ends here, with its status."""
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(heard)
            os.setsid()
            return cls(told)
        os.close(told)
        if os.read(heard, 1) == _READY:
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code > 0 else 128 - code if code < 0 else 1)

    def ready(self) -> None:
        """Clients can come: let go of the terminal, and of whoever waits."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.close(nowhere)
        os.write(self._told, _READY)
        os.close(self._told)


class Process:
    """What was asked for; closed by `stack` at the end."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        """Forks. Raises UserError."""
        if options.daemonize:
            places = (*(options.serial or ()), *(options.qmp or ()), *(options.chardevs or ()), options.monitor or "")
            if any(place.partition(",")[0] in ("stdio", "mon:stdio") for place in places):
                raise UserError("-daemonize: there is no terminal then for stdio; use pty or a socket")
        self._log = None if options.log is None else _opened(options.log, "-D", os.O_TRUNC)
        if options.msg is not None:
            name = options.machine_name.guest if options.msg.guest_name and options.machine_name else None
            stdio.stamp(options.msg.timestamp, name)
        self.fd_sets = FdSets()
        for one in options.add_fds:
            _add(self.fd_sets, one)
        stack.enter_context(opened_from(self.fd_sets))
        self._daemon = Daemon.fork() if options.daemonize else None
        if options.pidfile is not None:
            _write_pid(options.pidfile, stack)

    def ready(self) -> None:
        """The machine has started, or waits for whoever connects."""
        if self._daemon is not None:
            self._daemon.ready()
        if self._log is not None:
            os.dup2(self._log, 2)
            os.close(self._log)


def _add(sets: FdSets, options: argparse.Namespace) -> None:
    where = "-add-fd"
    if options.fd is None or options.set is None:
        raise UserError(f"{where}: fd= and set= are both needed; write fd=N,set=S")
    try:
        if options.fd <= 2 or not fcntl.fcntl(options.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC == 0:
            raise UserError(f"{where} fd={options.fd}: not one that was handed over; those are above 2")
        os.set_inheritable(options.fd, False)
    except OSError as error:
        raise UserError(f"{where} fd={options.fd}: {error.strerror}; open it before, and let it be inherited") from None
    sets.add(options.fd, options.set, options.opaque or None)


def _opened(path: str, option: str, flags: int) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
    except OSError as error:
        remedy = "name a file in a directory of yours"
        raise UserError(f"{option} {path}: cannot write there ({error.strerror}); {remedy}") from None


def _write_pid(path: str, stack: ExitStack) -> None:
    """Locked as long as we are there, so that nobody else takes the file."""
    fd = _opened(path, "-pidfile", 0)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise UserError(f"-pidfile {path}: another process has it; choose another, or end that one") from None
    stack.callback(_remove, os.path.abspath(path), fd)
    try:
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise UserError(f"-pidfile {path}: cannot be written ({error.strerror}); name another file") from None


def _remove(path: str, fd: int) -> None:
    if stat.S_ISREG(os.fstat(fd).st_mode) and os.path.exists(path):
        os.unlink(path)
    os.close(fd)
