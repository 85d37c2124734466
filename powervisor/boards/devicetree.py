"""The device tree as objects: nodes with ordered properties, flattened, parsed, or printed as source.

Reading and writing blobs is done here, not by libfdt: that aborts the process on some damaged trees, and its
Python writer fails on some sizes. The tests compare with it and with dtc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from powervisor.errors import UserError

_MAGIC = 0xD00D_FEED
_HEADER = struct.Struct(">10I")
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
FIRST_PHANDLE = 0x8000  # where QEMU's ppce500 begins, so that trees compare


class Node:
    """One node. A property value is a list of cells, strings and bytes; a Node as a cell is its phandle."""

    def __init__(self, name: str = "", parent: Node | None = None) -> None:
        self.name = name
        self.parent = parent
        self.properties: dict[str, tuple[Value, ...]] = {}
        self.children: list[Node] = []
        self.phandle: int | None = None
        self.reservations: list[tuple[int, int]] = []
        """Of a root: memory (address, size) that guests leave alone."""
        if parent:
            parent.children.append(self)

    def set(self, name: str, *value: Value) -> Node:
        """Set property `name`: ints are 32-bit cells, Nodes references, strings NUL-terminated; none is empty."""
        for cell in value:
            if isinstance(cell, int) and not 0 <= cell < 1 << 32:
                raise ValueError(f"{self.path}:{name}: {cell:#x} is not a 32-bit cell")
        self.properties[name] = value
        return self

    def child(self, name: str) -> Node:
        """The child `name`, made when it is not there yet."""
        for node in self.children:
            if node.name == name:
                return node
        return Node(name, self)

    def find(self, path: str) -> Node | None:
        """The node at `path` below this one (`/soc@fe0000000/serial@4500`), or None."""
        node: Node | None = self
        for name in filter(None, path.split("/")):
            node = next((c for c in node.children if c.name == name), None) if node else None
        return node

    @property
    def path(self) -> str:
        """The full path, `/` for the root."""
        if self.parent is None:
            return "/"
        return self.parent.path.rstrip("/") + "/" + self.name

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        yield self
        for node in self.children:
            yield from node.walk()

    def number_phandles(self) -> None:
        """Give a phandle to every node some property refers to, in order of appearance."""
        root = self
        while root.parent:
            root = root.parent
        taken = {node.phandle for node in root.walk() if node.phandle is not None}
        targets = [c for node in root.walk() for value in node.properties.values() for c in value]
        free = FIRST_PHANDLE
        for node in (c for c in targets if isinstance(c, Node)):
            if node.phandle is None:
                while free in taken:
                    free += 1
                node.phandle = free
                taken.add(free)

    def items(self) -> list[tuple[str, tuple[Value, ...]]]:
        """Properties with references as numbers, and this node's own phandle in both spellings."""
        items: list[tuple[str, tuple[Value, ...]]] = [
            (name, tuple(v.phandle or 0 if isinstance(v, Node) else v for v in value))
            for name, value in self.properties.items()
        ]
        if self.phandle is not None:
            items += [("phandle", (self.phandle,)), ("linux,phandle", (self.phandle,))]
        return items


Value = int | Node | str | bytes


def cells64(value: int) -> tuple[int, int]:
    """A 64-bit number as two cells."""
    return value >> 32, value & 0xFFFF_FFFF


def encode(value: tuple[Value, ...]) -> bytes:
    """A property's bytes."""
    out = b""
    for part in value:
        if isinstance(part, bytes):
            out += part
        elif isinstance(part, str):
            out += part.encode(errors="surrogateescape") + b"\0"
        elif isinstance(part, int):
            out += part.to_bytes(4, "big")
        else:
            raise TypeError("number_phandles() comes before encode()")
    return out


def flatten(root: Node) -> bytes:
    """The tree as a flattened device tree, version 17."""
    root.number_phandles()
    structure, strings = bytearray(), bytearray()
    offsets: dict[str, int] = {}

    def put(token: int, data: bytes = b"") -> None:
        structure.extend(token.to_bytes(4, "big") + data + bytes(-len(data) % 4))

    def add(node: Node) -> None:
        put(_BEGIN_NODE, node.name.encode() + b"\0")
        for name, value in node.items():
            if name not in offsets:
                offsets[name] = len(strings)
                strings.extend(name.encode() + b"\0")
            data = encode(value)
            put(_PROPERTY, struct.pack(">II", len(data), offsets[name]) + data)
        for child in node.children:
            add(child)
        put(_END_NODE)

    add(root)
    put(_END)
    reserved = b"".join(struct.pack(">QQ", *range_) for range_ in (*root.reservations, (0, 0)))
    at_structure = _HEADER.size + len(reserved)
    at_strings = at_structure + len(structure)
    total = at_strings + len(strings)
    sizes = len(strings), len(structure)
    header = _HEADER.pack(_MAGIC, total, at_structure, at_strings, _HEADER.size, 17, 16, 0, *sizes)
    return header + reserved + structure + strings


def to_dts(root: Node) -> str:
    """The tree as device-tree source."""
    root.number_phandles()
    lines = ["/dts-v1/;", ""]

    def text(value: tuple[Value, ...]) -> str:
        groups: list[str] = []
        cells: list[str] = []
        for part in (*value, None):
            if isinstance(part, int):
                cells.append(f"0x{part:x}")
                continue
            if cells:
                groups.append(f"<{' '.join(cells)}>")
                cells = []
            if isinstance(part, bytes):
                groups.append(f"[{part.hex(' ')}]")
            elif isinstance(part, str):
                groups.append('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"')
        return ", ".join(groups)

    def add(node: Node, indent: str) -> None:
        lines.append(f"{indent}{node.name or '/'} {{")
        for name, value in node.items():
            lines.append(f"{indent}\t{name} = {text(value)};" if value else f"{indent}\t{name};")
        for child in node.children:
            lines.append("")
            add(child, indent + "\t")
        lines.append(f"{indent}}};")

    add(root, "")
    return "\n".join(lines) + "\n"


def blob_to_dts(blob: bytes) -> str:
    """A flattened tree as source; what a property's bytes mean is guessed, as dtc does."""
    root = parse(blob, "device tree")
    for node in root.walk():
        node.properties = {name: _guess(b"".join(map(_bytes, value))) for name, value in node.properties.items()}
    return to_dts(root)


def _bytes(value: Value) -> bytes:
    return encode((value,))


def _guess(data: bytes) -> tuple[Value, ...]:
    """Strings where all is printable text, else cells where the length allows, else bytes."""
    if data[-1:] == b"\0" and data[:1] != b"\0" and b"\0\0" not in data:
        strings = data[:-1].split(b"\0")
        if all(part.isascii() and part.decode("ascii").isprintable() for part in strings):
            return tuple(part.decode("ascii") for part in strings)
    if data and len(data) % 4 == 0:
        return struct.unpack(f">{len(data) // 4}I", data)
    return (data,) if data else ()


def parse(blob: bytes, where: str) -> Node:
    """The tree in `blob`; every property is bytes. Raises UserError, naming `where`."""
    check_header(blob, where)
    total, structure, strings, reserved = struct.unpack_from(">4I", blob, 4)
    blob = blob[:total]

    def broken(what: str) -> UserError:
        return UserError(f"{where}: broken device tree ({what}); check it with dtc -I dtb")

    def word(at: int) -> int:
        if at + 4 > total:
            raise broken(f"it ends at 0x{total:x}")
        return int.from_bytes(blob[at : at + 4], "big")

    def text(at: int) -> str:
        end = blob.find(b"\0", at)
        if at >= total or end < 0:
            raise broken(f"name at 0x{at:x}")
        try:
            return blob[at:end].decode("ascii")
        except UnicodeDecodeError as error:
            raise broken(f"name at 0x{at:x}") from error

    root = node = None
    at = structure
    while (token := word(at)) != _END:
        at += 4
        if token == _BEGIN_NODE:
            name = text(at)
            at += (len(name) + 4) & ~3
            if node:
                node = Node(name, node)
            elif root is None:
                root = node = Node()
            else:
                raise broken("two roots")
        elif token == _PROPERTY and node:
            length, name = word(at), text(strings + word(at + 4))
            if at + 8 + length > total:
                raise broken(f"property {name} of {length} bytes")
            node.properties[name] = (blob[at + 8 : at + 8 + length],) if length else ()
            at += (length + 11) & ~3
        elif token == _END_NODE and node:
            node = node.parent
        elif token != _NOP:
            raise broken(f"token {token} at 0x{at - 4:x}")
    if root is None or node:
        raise broken("it ends inside a node")
    while reserved + 16 <= total:
        address, size = struct.unpack_from(">QQ", blob, reserved)
        if not size:
            break
        root.reservations.append((address, size))
        reserved += 16
    return root


def check_header(blob: bytes, where: str) -> None:
    """Raise UserError unless `blob` begins like a flattened device tree and is all there."""
    if len(blob) < _HEADER.size or int.from_bytes(blob[:4], "big") != _MAGIC:
        raise UserError(f"{where}: not a flattened device tree (compile source with dtc -O dtb)")
    total = int.from_bytes(blob[4:8], "big")
    if not _HEADER.size <= total <= len(blob):
        raise UserError(f"{where}: truncated device tree, {total} bytes expected and {len(blob)} found; copy it again")
    version, last = (int.from_bytes(blob[at : at + 4], "big") for at in (20, 24))
    if version < 16 or last > 17:
        raise UserError(f"{where}: device tree version {version} is not supported; rebuild it with dtc")


def amend(blob: bytes, properties: dict[str, dict[str, tuple[Value, ...]]], where: str) -> bytes:
    """`blob` with `{node path: {property: value}}` set, missing nodes made. Raises UserError, naming `where`."""
    root = parse(blob, where)
    for path, values in properties.items():
        node = root
        for name in filter(None, path.split("/")):
            node = node.child(name)
        node.properties.update(values)
    return flatten(root)
