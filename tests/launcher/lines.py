"""Command lines as libvirt 9.0 writes them, with JSON and with key=value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

KEY_BYTES = 32


def words(form: str, kind: str, members: Mapping[str, Any]) -> str:
    """The value of an option as JSON, or with the member `kind` first."""
    if form == "json":
        return json.dumps(members)
    first, rest = members[kind], {name: value for name, value in members.items() if name != kind}
    shown = {name: ("off", "on")[value] if isinstance(value, bool) else value for name, value in rest.items()}
    return ",".join([first, *(f"{name}={value}" for name, value in shown.items())])


def started(
    form: str,
    *,
    kernel: str,
    key: str,
    monitor: int,
    disk: str = "",
    log: int | None = None,
    cpu: str = "e500mc",
    more: Sequence[str] = (),
) -> list[str]:
    """A domain with two vCPUs, a serial line and its log, a monitor; and a disk, network ... where `disk` is."""

    def option(name: str, kind: str, **members: Any) -> list[str]:
        return [name, words(form, kind, {key.replace("__", "-"): value for key, value in members.items()})]

    found = [
        "-name", "guest=lab,debug-threads=on", "-S",
        *option("-object", "qom-type", qom__type="secret", id="masterKey0", format="raw", file=key),
        "-machine", "ppce500,usb=off,dump-guest-core=off,memory-backend=ppce500.ram", "-accel", "tcg", "-cpu", cpu,
        "-m", "64", *option("-object", "qom-type", qom__type="memory-backend-ram", id="ppce500.ram", size=64 << 20),
        "-overcommit", "mem-lock=off", "-smp", "2,sockets=2,cores=1,threads=1",
        "-uuid", "0d9e2b28-6d9b-4b5c-9f63-a9bd2c1f1e8a", "-display", "none", "-no-user-config", "-nodefaults",
        "-chardev", f"socket,id=charmonitor,fd={monitor},server=on,wait=off",
        "-mon", "chardev=charmonitor,id=monitor,mode=control", "-rtc", "base=utc", "-no-shutdown", "-boot", "strict=on",
        "-usb",
        "-kernel", kernel, "-append", "a=1,2 'b'",
    ]  # fmt: skip
    if disk:
        storage = {
            "driver": "file", "filename": disk, "node-name": "libvirt-1-storage", "auto-read-only": True,
            "discard": "unmap", "cache": {"direct": True, "no-flush": False}, "aio": "native",
        }  # fmt: skip
        node = {"node-name": "libvirt-1-format", "read-only": False, "driver": "raw", "file": "libvirt-1-storage"}
        found += ["-blockdev", json.dumps(storage), "-blockdev", json.dumps(node)]
        place = {"bus": "pci.0", "addr": "0x3"}
        found += option(
            "-device", "driver", driver="virtio-blk-pci", **place, drive="libvirt-1-format", id="virtio-disk0",
            bootindex=1, write__cache="on",
        )  # fmt: skip
        found += option("-netdev", "type", type="user", id="hostnet0")
        place["addr"] = "0x1"
        found += option(
            "-device", "driver", driver="virtio-net-pci", netdev="hostnet0", id="net0", mac="52:54:00:12:34:56", **place
        )
        place["addr"] = "0x4"
        found += option("-device", "driver", driver="virtio-balloon-pci", id="balloon0", **place)
        found += option("-object", "qom-type", qom__type="rng-random", id="objrng0", filename="/dev/urandom")
        place["addr"] = "0x5"
        found += option("-device", "driver", driver="virtio-rng-pci", rng="objrng0", id="rng0", **place)
    logged = ""
    if log is not None:
        found += ["-add-fd", f"set=0,fd={log},opaque=serial0-log"]
        logged = ",logfile=/dev/fdset/0,logappend=on"
    found += ["-chardev", f"pty,id=charserial0{logged}", "-serial", "chardev:charserial0"]
    found += option("-audiodev", "driver", id="audio1", driver="none")
    return [*found, "-sandbox", "off", *more, "-msg", "timestamp=on"]
