"""AppArmor: what its profiles of libvirt and of emulators lack for Powervisor, as site-specific rules."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from .blocks import replaced
from .host import ARCHITECTURES, Host

_DIRECTORY = Path("/etc/apparmor.d")
_PROFILES = {"usr.sbin.libvirtd": "libvirtd", "usr.sbin.virtqemud": "virtqemud"}
"""Profiles of daemons by file: they let the daemon run what is in /usr/bin only."""
_EMULATORS = "abstractions/libvirt-qemu"
"""What all profiles of emulators have in common; each is made when its machine starts."""
_MODULES = ("powervisor", "powervisor.guests", "llvmlite", "elftools", "msgpack", "rich", "zstandard")
_HELPERS = {"sh": "rmix", "setpriv": "rmix", "qemu-nbd": "rmix", "passt": "PUx", "passt.avx2": "PUx"}
"""Programs that drives and networks use: with the emulator's rights, or with their own profile where they have one."""
_REST = (
    'owner "/{,var/}tmp/*" rw,',
    'owner "/{,var/}tmp/powervisor-*/**" rwk,',
    "owner @{PROC}/@{pid}/{maps,stat,statm,mounts,mountinfo} r,",
    "owner @{PROC}/@{pid}/{fd,task}/ r,",
    "@{PROC}/{filesystems,uptime,loadavg,version} r,",
    "@{PROC}/sys/{net/core/somaxconn,net/core/wmem_max,vm/max_map_count} r,",
    "/sys/devices/system/{cpu,node}/ r,",
    "/sys/devices/system/{cpu,node}/** r,",
    "/{etc,usr/lib}/ssl/openssl.cnf r,",
    "signal (send) peer={unconfined,passt},",
)


def in_force(host: Host) -> bool:
    """Whether AppArmor confines emulators on this host, or will."""
    if host.session or host.settings.get("security_driver") == "none":
        return False
    if not host.at(_DIRECTORY / _EMULATORS).exists():
        return False
    enabled = host.at("/sys/module/apparmor/parameters/enabled")
    return not host.live or (enabled.exists() and enabled.read_text().startswith("Y"))


def wanted(host: Host) -> Iterator[tuple[Path, str, str]]:
    """Files with our rules, as they are and as they should be; only those that differ."""
    files = {_EMULATORS: emulator_rules(host)}
    files |= {name: daemon_rules(host) for name in _PROFILES if host.at(_DIRECTORY / name).exists()}
    for name, rules in files.items():
        path = host.at(_DIRECTORY / "local" / name)
        try:
            now = path.read_text()
        except FileNotFoundError:
            now = ""
        if (text := replaced(now, rules)) != now:
            yield path, now, text


def profile_of(host: Host, path: Path) -> Path | None:
    """The profile of a daemon that has to be loaded again when this file changes."""
    found = host.at(_DIRECTORY / path.name)
    return found if path.name in _PROFILES else None


def daemon_rules(host: Host) -> list[str]:
    """The daemon asks launchers what they can do."""
    return [f'  "{host.name(host.launcher(architecture))}" PUx,' for architecture in ARCHITECTURES]


def emulator_rules(host: Host) -> list[str]:
    """A launcher, its Python, what is imported, and what is started."""
    launchers = [host.name(host.launcher(architecture)) for architecture in ARCHITECTURES]
    cache = host.name(host.cache)
    programs: list[str | Path] = [
        *launchers,
        sys.executable,
        *(f"/usr/bin/{name}" for name, how in _HELPERS.items() if how == "rmix"),
    ]
    rules = [f'"{path}" rmix,' for path in dict.fromkeys(host.real(program) for program in programs)]
    rules += [f'"/usr/bin/{name}" {how},' for name, how in _HELPERS.items() if how != "rmix"]
    for path in _outermost(_libraries()):
        rules += [f'"{path.parent}/" r,', f'"{path}/" r,', f'"{path}/**" mr,']
    rules += [f'"{sysconfig.get_config_var("LIBDIR")}/libpython3*" mr,', f'"{sys.prefix}/pyvenv.cfg" r,']
    rules += [f'"{cache}/" r,', f'"{cache}/**" r,', f'owner "{cache}/[0-9]*/**" rwk,', *_REST]
    return [f"  {rule}" for rule in rules]


def _libraries() -> Iterator[Path]:
    for scheme in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield Path(os.path.realpath(sysconfig.get_path(scheme)))
    for name in _MODULES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            yield Path(os.path.realpath(spec.origin)).parent


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in others."""
    found = set(paths)
    return sorted(path for path in found if not found & set(path.parents))
