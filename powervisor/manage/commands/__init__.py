"""The commands, a family a module; importing them declares them."""

from . import chardevs, descriptors, identity, life, memory, migration, network, objects, protocol, storage

FAMILIES = (protocol, life, identity, memory, storage, network, chardevs, objects, migration, descriptors)
"""In the order of the page."""
