"""Real guests: where their files are, and boots through the command line."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from powervisor.guests import catalogue
from powervisor.guests.archive import Cpio
from powervisor.guests.linux.initramfs import add_own_files

TREE = Path(__file__).resolve().parents[2]
_UIMAGE_HEADER = 64
TROUBLE = re.compile(r"Oops|BUG:|WARNING:|Call Trace|Kernel panic|rcu_\w+ detected|soft lockup|Bad page|segfault")
"""What a healthy kernel does not print."""


def files(name: str) -> dict[str, str]:
    """A guest's files by the option that takes them; the test is skipped where there are none."""
    found = {role: catalogue.locate(artifact) for role, artifact in catalogue.get(name).files.items()}
    if missing := [role for role, path in found.items() if path is None]:
        pytest.skip(f"guest {name}: no {', '.join(missing)} (powervisor guests build {name})")
    return {role: str(path) for role, path in found.items()}


def options(name: str, append: str = "stop") -> dict[str, Any]:
    """Keywords of `Machine` that boot a guest; Linux powers off at the end."""
    chosen = {**catalogue.get(name).options, **files(name)}
    if "append" in chosen:
        chosen["append"] = f"{chosen['append']} {append}"
    return chosen


def with_own_files(chosen: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The same keywords with /init and the answer to the power button of this tree in the RAM disk that was found."""
    ours = Cpio()
    add_own_files(ours)
    path = directory / "initramfs"
    path.write_bytes(Path(chosen["initrd"]).read_bytes() + gzip.compress(ours.data(), 1))
    return chosen | {"initrd": str(path)}


def needs(name: str, *switches: str) -> None:
    """Skip the test where the guest's kernel was built without a driver, by the configuration inside it."""
    image = Path(files(name)["kernel"]).read_bytes()
    vmlinux = zlib.decompressobj(31).decompress(image[_UIMAGE_HEADER:])
    configuration = zlib.decompressobj(31).decompress(vmlinux[vmlinux.index(b"IKCFG_ST") + 8 :])
    missing = [switch for switch in switches if f"{switch}=y\n".encode() not in configuration]
    if missing:
        pytest.skip(f"guest {name}: its kernel has no {', '.join(missing)} (powervisor guests build {name} makes one)")


class Boot(NamedTuple):
    """How a boot ended."""

    status: int
    output: str
    errors: str


def boot(name: str, *words: str, append: str = "stop", timeout: float = 200) -> Boot:
    """Boot a guest through the command line, with further options."""
    command = [sys.executable, "-m", "powervisor", "run", "-timeout", str(timeout)]
    for option, value in options(name, append).items():
        flag = {"cores": "-smp"}.get(option, f"-{option}")
        if flag not in words:
            command += [flag, str(value)]
    done = subprocess.run(
        [*command, *words], cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout + 60
    )
    return Boot(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def check_linux(done: Boot, cpus: int) -> None:
    """It came up with so many CPUs, had no trouble, and powered off."""
    tail = f"status {done.status}\n{done.errors[-2000:]}\n{done.output[-2000:]}"
    assert done.status == 0, tail
    assert "BOOT-OK" in done.output, tail
    assert not (found := TROUBLE.search(done.output)), f"{found}\n{tail}"
    assert len(re.findall(r"^processor\s*:", done.output, re.MULTILINE)) == cpus, tail
