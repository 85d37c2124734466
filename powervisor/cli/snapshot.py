"""powervisor snapshot: what a snapshot file holds."""

import datetime
import json
from typing import Any

from powervisor.cli.options import Parser, table


def main(words: list[str]) -> int:
    """Tell about a file, without restoring it."""
    parser = Parser("snapshot", "Tell what a snapshot file holds: powervisor run -loadvm FILE goes on from it.")
    parser.add_argument("action", choices=("info",), help="info: tell what is in FILE")
    parser.add_argument("file", metavar="FILE")
    parser.option("-json", action="store_true", help="as JSON")
    options = parser.parse(words)
    from powervisor.machine.stored import describe

    found = describe(options.file)
    print(json.dumps(found, indent=1) if options.json else table(_rows(found)))
    return 0


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    machine, sections = found["options"], found["sections"]
    cpus = f"{machine['cores']} x {machine['cpu']}"
    if machine["threads"] > 1:
        cpus += f", {machine['threads']} threads each"
    kind = ", deterministic" * bool(machine.get("deterministic"))
    taken = datetime.datetime.fromtimestamp(found["taken"]).astimezone().isoformat(" ", "seconds")
    words = [f"-{kind} {word}" for kind, name in _WORDS.items() for word in machine[name]]
    return [
        ("taken", f"{taken}, after {found['guest-seconds']:.3f} s of the guest's time"),
        ("by", f"Powervisor {found['powervisor']}"),
        ("machine", f"{machine['board']}, {cpus}, {machine['memory'] >> 20} MiB{kind}"),
        *[("booted", path) for path, *_ in machine.get("programs", ())],
        *[("with", word) for word in words],
        ("file", f"{_mib(found['file-bytes'])}, compressed"),
        *[(f"  {name}", _mib(size)) for name, size in sections.items()],
    ]


_WORDS = {"device": "devices", "drive": "drives", "blockdev": "blockdevs", "netdev": "netdevs", "virtfs": "virtfs"}


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
