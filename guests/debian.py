"""Sources and tools from Debian: packages downloaded without touching the system, build tools installed if we may."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from powervisor.errors import UserError
from powervisor.guests.progress import Progress

_ETC = Path("/etc/apt")


def require(packages: Iterable[str], progress: Progress) -> None:
    """See to it that `packages` are installed: as root install them, else raise UserError with the command to type."""
    _need_apt()
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise UserError(f"building needs packages that are missing: sudo apt-get install {' '.join(missing)}")
    progress.step(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qy", "--no-install-recommends", *missing]
    first = subprocess.run(install, capture_output=True, env=environment)
    if first.returncode != 0:  # no package lists yet, or old ones
        run(["apt-get", "update", "-q"], "apt-get update")
        run(install, "apt-get install", environment=environment)


def download(package: str, directory: Path, *, source: bool = False) -> list[Path]:
    """The files of a binary or source package, in `directory`. Raises UserError.

    apt runs on package lists of its own below `directory`: that needs no root, finds source packages without a deb-src
    line on the system, and leaves the system as it is.
    """
    _need_apt()
    state = directory / "apt"
    target = directory / package
    shutil.rmtree(target, ignore_errors=True)
    for path in (state / "lists" / "partial", state / "cache" / "archives" / "partial", target):
        path.mkdir(parents=True, exist_ok=True)
    entries = source_entries(_read_sources(), _codename())
    if not entries:
        raise UserError(f"{_ETC}/sources.list*: no Debian archive for {_codename()} with main; add one")
    lines = [f"{kind} {entry}\n" for entry in entries for kind in ("deb", "deb-src")]
    (state / "sources.list").write_text("".join(lines))
    options = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # the directory may be one that apt's own user cannot enter
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    run([*apt, "update"], "apt-get update")
    if source:
        run([*apt, "source", "--download-only", package], f"downloading the source of {package}", cwd=target)
    else:
        run([*apt, "download", package], f"downloading {package}", cwd=target)
    return sorted(target.iterdir())


def extract(package: Path, target: Path) -> None:
    """Unpack a .deb into `target`."""
    run(["dpkg-deb", "-x", str(package), str(target)], f"unpacking {package.name}")


def run(command: Sequence[str], what: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its output. Raises UserError with its last line of complaint."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise UserError(f"{what}: {command[0]} is not installed; sudo apt-get install {command[0]}") from None
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith("E:")), lines[-1] if lines else "it said nothing")
        raise UserError(f"{what} failed: {said}")
    return done.stdout


def source_entries(files: Iterable[tuple[str, str]], codename: str) -> list[str]:
    """The archives of this Debian release, as the part of a sources.list line after `deb`.

    `files` are (name, text) of /etc/apt/sources.list and its parts, in one-line or deb822 form. Archives of others are
    left out: their suites are named differently, and most have no sources.
    """
    entries: list[str] = []
    for name, text in files:
        found = _deb822(text) if name.endswith(".sources") else _one_line(text)
        for options, uri, suite, components in found:
            ours = suite == codename or suite.startswith((f"{codename}-", f"{codename}/"))
            if ours and "main" in components:
                entries.append(" ".join((*([f"[{options}]"] if options else []), uri, suite, "main")))
    return list(dict.fromkeys(entries))


_Found = tuple[str, str, str, list[str]]  # options, uri, suite, components


def _one_line(text: str) -> list[_Found]:
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] not in ("deb", "deb-src"):
            continue
        options, rest = "", words[1:]
        if rest and rest[0].startswith("["):
            close = next((n for n, word in enumerate(rest) if word.endswith("]")), len(rest) - 1)
            inside = " ".join(rest[: close + 1]).strip("[] ").split()
            options = " ".join(word for word in inside if not word.startswith("arch="))
            rest = rest[close + 1 :]
        if len(rest) >= 3:
            found.append((options, rest[0], rest[1], rest[2:]))
    return found


def _deb822(text: str) -> list[_Found]:
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        fields: dict[str, str] = {}
        key = ""
        for line in lines:
            if line[:1].isspace():
                fields[key] += "\n" + line.strip()
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if fields.get("enabled", "yes").lower() == "no" or "\n" in fields.get("signed-by", ""):
            continue  # switched off; or its key stands in the text, which a one-line entry cannot say
        options = " ".join(f"{k}={fields[k]}" for k in ("signed-by", "trusted") if k in fields)
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                found.append((options, uri, suite, fields.get("components", "").split()))
    return found


def _read_sources() -> list[tuple[str, str]]:
    parts = sorted((_ETC / "sources.list.d").glob("*"))
    paths = [_ETC / "sources.list", *(path for path in parts if path.suffix in (".list", ".sources"))]
    return [(path.name, path.read_text(errors="replace")) for path in paths if path.is_file()]


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    return ""


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def _need_apt() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise UserError(
            "guests are built from Debian's packages, and this system has no apt-get; build them on Debian 12 and "
            "set POWERVISOR_GUESTS to the directory with the files"
        )
