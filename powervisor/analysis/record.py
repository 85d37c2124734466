"""A machine's statistics in a file, rewritten every second, so that a run that dies leaves them."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .. import __version__
from ..errors import UserError
from ..machine import Machine
from .distribution import Json
from .shape import STATISTICS, Misshapen
from .timing import measure

FORMAT = "powervisor-statistics"
VERSION = 1
EVERY = 1.0
"""Seconds from one writing to the next, or some times that:"""
SHARE = 0.01
"""writing may take that of the processor time that the machine takes,"""
LEAST = 10
"""unless so many times have passed, in an idle machine for one."""


def document(machine: Machine, ended: bool = False) -> Json:
    """`machine.statistics()`, and by whom it was written."""
    return {"format": FORMAT, "version": VERSION, "powervisor": __version__, "ended": ended, **machine.statistics()}


def load(path: str) -> Json:
    """What a file that `StatisticsFile` wrote says. Raises UserError for any other."""
    try:
        with open(path, encoding="utf-8") as file:
            found: Any = json.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: is no JSON; name a file that powervisor run -stat wrote") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{path}: holds no statistics; name a file that powervisor run -stat wrote")
    if found.get("version") != VERSION:
        known = f"this powervisor knows version {VERSION}"
        raise UserError(f"{path}: is of version {found.get('version')}, {known}; use the one that wrote it")
    try:
        STATISTICS(found, "")
    except Misshapen as error:
        where = str(error).removeprefix(".")
        raise UserError(f"{path}: is damaged: {where} is not as it was written; write it anew with run -stat") from None
    return found


class StatisticsFile:
    """Measures a machine and keeps `path` up to date until `close`. Raises UserError when it cannot be written.

    The file is replaced as a whole: readers never see half of it. What cannot be replaced, a pipe for one, is written
    once, at the end.
    """

    def __init__(self, path: str, option: str, warn: Callable[[str], None]) -> None:
        self._path, self._where, self._warn = os.path.realpath(path), f"{option} {path}", warn
        try:
            with open(path, "a", encoding="utf-8"):
                regular = stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            raise UserError(f"{self._where}: cannot be written ({error.strerror})") from None
        self._replaced = regular and os.access(os.path.dirname(self._path), os.W_OK)
        self._machine: Machine | None = None
        self._over = threading.Event()

    def follow(self, machine: Machine) -> None:
        """Measure it from now on."""
        self._machine, self._measurement = machine, measure(machine)
        self._thread = threading.Thread(target=self._write_often, name="statistics-file", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write for the last time; the machine has stopped, but it is not closed yet."""
        if self._machine is None:
            return
        self._over.set()
        self._thread.join()
        self._write(document(self._machine, ended=True))
        self._measurement.close()

    def _write_often(self) -> None:
        assert self._machine is not None
        spent, waited, since = 0.0, 0, time.process_time()
        while self._replaced and not self._over.wait(EVERY):
            waited += 1
            if waited < LEAST and (time.process_time() - since) * SHARE < spent:
                continue
            before, waited = time.thread_time(), 0
            self._write(document(self._machine))
            spent, since = time.thread_time() - before, time.process_time()

    def _write(self, told: Json) -> None:
        beside = f"{self._path}.{os.getpid()}.tmp"
        try:
            if not self._replaced:
                with open(self._path, "w", encoding="utf-8") as file:
                    json.dump(told, file)
                    file.write("\n")
                return
            with open(beside, "w", encoding="utf-8") as file:
                file.write(json.dumps(told))
                file.write("\n")
            os.replace(beside, self._path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(beside)
            if not self._over.is_set():
                self._over.set()  # said once; the machine goes on
            self._warn(f"{self._where}: cannot be written ({error.strerror}); it is not kept up to date any more")
