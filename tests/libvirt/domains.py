"""Domain XML, made of what a test needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
NO_BALLOON = "<memballoon model='none'/>"


@dataclass(frozen=True)
class Domain:
    """A machine as libvirt is told of it; `devices` and `extra` are elements, in the places of those names."""

    name: str
    emulator: Path
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    arch: str = "ppc64"
    model: str = ""
    """Of the CPU."""
    memory: int = 256
    """In MiB."""
    vcpus: int = 2
    devices: Sequence[str] = ()
    extra: Sequence[str] = ()
    boot: Sequence[str] = ()
    """In <os>."""
    arguments: Sequence[str] = ()
    """Added to the emulator's command line."""
    actions: dict[str, str] = field(default_factory=dict)
    """on_reboot and the like."""

    def xml(self) -> str:
        """The whole document."""
        files = {"kernel": self.kernel, "initrd": self.initrd, "cmdline": self.append}
        boot = [f"<{name}>{escape(str(value))}</{name}>" for name, value in files.items() if value]
        cpu = f"<cpu mode='custom'><model fallback='forbid'>{self.model}</model></cpu>" if self.model else ""
        arguments = [f"<qemu:arg value={quoteattr(argument)}/>" for argument in self.arguments]
        return "\n".join([
            f"<domain type='qemu' xmlns:qemu='{QEMU_NAMESPACE}'>",
            f"<name>{self.name}</name>",
            f"<memory unit='MiB'>{self.memory}</memory>",
            f"<vcpu>{self.vcpus}</vcpu>",
            f"<os><type arch='{self.arch}' machine='ppce500'>hvm</type>", *boot, *self.boot, "</os>",
            cpu, *self.extra,
            *(f"<{name}>{value}</{name}>" for name, value in self.actions.items()),
            f"<devices><emulator>{self.emulator}</emulator>",
            *self.devices, "</devices>",
            *(["<qemu:commandline>", *arguments, "</qemu:commandline>"] if arguments else []),
            "</domain>",
        ])  # fmt: skip


def disk(path: Path, target: str = "vda", form: str = "raw") -> str:
    """A virtio disk."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{form}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


def serial(log: Path | None = None) -> str:
    """A serial line at a pty."""
    kept = f"<log file='{log}' append='on'/>" if log else ""
    return f"<serial type='pty'>{kept}</serial>"


NETWORK = "<interface type='user'><model type='virtio'/></interface>"
RANDOM = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
