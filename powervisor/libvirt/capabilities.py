"""What libvirt remembers of emulators: it looks at the launcher only, and not whether Powervisor is another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import powervisor

from .host import ARCHITECTURES, Host


def stale(host: Host) -> Iterator[Path]:
    """Files about launchers that are gone, or older than the Powervisor that answers now. Raises OSError."""
    newest: float | None = None
    if not host.capabilities.is_dir():
        return
    for path in sorted(host.capabilities.glob("*.xml")):
        emulator = _emulator(path)
        if emulator is None or emulator.name not in {f"powervisor-system-{one}" for one in ARCHITECTURES}:
            continue
        if newest is None:
            newest = changed()
        launcher = host.at(emulator)
        if not launcher.exists() or path.stat().st_mtime < newest:
            yield path


def changed() -> float:
    """When something of this Powervisor changed on this host, in seconds since 1970."""
    package = Path(powervisor.__file__).parent
    return max(path.stat().st_ctime for path in package.rglob("*.py"))


def _emulator(path: Path) -> Path | None:
    """Of which emulator a file tells."""
    try:
        found = ElementTree.parse(path).findtext("emulator")
    except ElementTree.ParseError:
        return None
    return Path(found) if found else None
