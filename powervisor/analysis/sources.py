"""Who drives the interrupt controller's sources, by name."""

from __future__ import annotations

from ..devices.irq import controller_input
from ..devices.mpic_registers import MSI_SOURCE
from ..machine import Machine


def sources(machine: Machine) -> dict[str, list[str]]:
    """Devices by the name of the source (`Mpic.delivered`) that their pins lead to; several may share one."""
    found: dict[str, list[str]] = {}
    for device in machine.built.everything():
        for pin in device.irqs().values():
            source = machine.mpic.source_of(controller_input(pin))
            if source is not None and device.name not in (names := found.setdefault(str(source), [])):
                names.append(device.name)
    return found


def source_label(name: str, devices: dict[str, list[str]]) -> str:
    """What a source is, for people: its devices, or what the controller itself does with it."""
    if name in devices:
        return ", ".join(devices[name])
    return "msi" if name.isdecimal() and int(name) >= MSI_SOURCE else name.rstrip("0123456789")
