"""Launchers for libvirt: it knows an emulator, and the architecture that this one has, by its path."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import powervisor

from .access import become
from .host import Host

_LONGEST = 255
"""Bytes that the kernel reads of the line with the interpreter."""
_TEXT = """\
#!{python} -I
# Written by powervisor libvirt setup for Powervisor {version}; when it changes, libvirt asks anew what it can do.
import sys
{place}
from powervisor.cli.system import main

sys.exit(main())
"""
_PLACE = """
import os

sys.path.insert(0, {place!r})
os.environ["PYTHONPATH"] = {place!r}
"""


def text() -> str:
    """The program: this Python and this Powervisor."""
    place = _uninstalled()
    setting = "" if place is None else _PLACE.format(place=str(place))
    return _TEXT.format(python=sys.executable, version=powervisor.__version__, place=setting)


def trouble() -> str | None:
    """Why no launcher can name this Python."""
    if len(f"#!{sys.executable} -I") > _LONGEST or " " in sys.executable:
        return f"{sys.executable}: a path that no program can begin with; install Powervisor at a shorter one"
    return None


def uncompiled() -> list[Path]:
    """Our modules without bytecode beside them, which machines cannot put there: each start would compile them."""
    package = Path(powervisor.__file__).resolve().parent
    return [path for path in package.rglob("*.py") if not Path(cache_from_source(path)).exists()]


def _uninstalled() -> Path | None:
    """Where our package is, if this Python does not find it by itself."""
    place = Path(powervisor.__file__).resolve().parent.parent
    found = subprocess.run(
        [sys.executable, "-I", "-c", "import powervisor; print(powervisor.__file__)"],
        cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    same = found.returncode == 0 and Path(found.stdout.strip()).resolve().parent.parent == place
    return None if same else place


def run(launcher: Path, host: Host) -> str | None:
    """Run a launcher as libvirt does, and as whom it does where we may; why it does not answer, else None."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": "/"}
    try:
        done = subprocess.run(
            [launcher, "-version"], cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=60, **become(host.account),
        )  # fmt: skip
    except OSError as error:
        return error.strerror
    except subprocess.TimeoutExpired:
        return "no answer within 60 s"
    if done.returncode != 0:
        return (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
    if powervisor.__version__ not in done.stdout:
        return f"it is another Powervisor ({done.stdout.strip() or 'that says nothing'})"
    return None
