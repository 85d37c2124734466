"""The tree of objects, and the devices that there could be."""

from __future__ import annotations

from typing import Annotated, Any

from ...devices.models import MODELS, PORTS
from ...properties import properties
from ..command import command
from ..errors import DeviceNotFound, QmpError
from ..session import Session
from ..types import struct


@struct
class ObjectPropertyInfo:
    """A property, or a child, which has a type child<...>."""

    name: str
    type: str
    description: str | None = None
    default_value: Any = None


@struct
class ObjectTypeInfo:
    """A type."""

    name: str
    abstract: bool | None = None
    parent: str | None = None


@command("qom-list")
def qom_list(
    session: Session, *, path: Annotated[str, "/machine/peripheral has devices with an id"]
) -> list[ObjectPropertyInfo]:
    """Children and properties of an object."""
    node = session.manager.objects.find(path)
    children = [ObjectPropertyInfo(name=name, type=f"child<{child.type}>") for name, child in node.children.items()]
    own = [ObjectPropertyInfo(name=name, type=one.type) for name, one in node.properties.items()]
    return [ObjectPropertyInfo(name="type", type="string"), *own, *children]


@command("qom-get")
def qom_get(session: Session, *, path: str, property: str) -> Any:
    """The value of a property. A balloon's guest-stats are asked from the guest where guest-stats-polling-interval is
    not 0, once in so many seconds."""
    return session.manager.objects.property(path, property).get()


@command("qom-set")
def qom_set(session: Session, *, path: str, property: str, value: Any) -> None:
    """Set a property: a balloon's guest-stats-polling-interval."""
    found = session.manager.objects.property(path, property)
    if found.set is None:
        raise QmpError(f"{path}: {property} cannot be set")
    found.set(value)


@command("qom-list-types")
def qom_list_types(
    session: Session,
    *,
    implements: Annotated[str | None, "kinds of this: device, pci-device, powerpc-cpu, machine, accel"] = None,
    abstract: Annotated[bool, "those too that are only kinds of others"] = False,
) -> list[ObjectTypeInfo]:
    """All types: devices, cores, boards, and the accelerator by the name that QEMU has for translation."""
    from ..objects import types

    return [
        ObjectTypeInfo(name=name, parent=kinds[0])
        for name, kinds in types().items()
        if implements is None or implements in (name, *kinds)
    ]


@command("device-list-properties")
def device_list_properties(session: Session, *, typename: str) -> list[ObjectPropertyInfo]:
    """What -device takes with a device."""
    return _properties(typename)


@command("qom-list-properties")
def qom_list_properties(session: Session, *, typename: str) -> list[ObjectPropertyInfo]:
    """The same; empty for types that are no devices, and for unknown ones: libvirt 9.0 takes no error here."""
    try:
        return _properties(typename)
    except DeviceNotFound:
        return []


def _properties(typename: str) -> list[ObjectPropertyInfo]:
    model = MODELS.get(typename) or PORTS.get(typename)
    if model is None:
        raise DeviceNotFound(f"{typename}: no device is called so; qom-list-types lists them")
    return [
        ObjectPropertyInfo(
            name=one.name, type=_TYPES.get(one.kind.label, "str"), description=one.help,
            default_value=one.default if isinstance(one.default, bool | int | str) else None,
        )
        for one in properties(model.options_type)
    ]  # fmt: skip


_TYPES = {"on|off": "bool", "number": "int", "size": "size"}
