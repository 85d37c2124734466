"""The device tree as objects: nodes with ordered properties, flattened by libfdt or printed as source."""

from __future__ import annotations

from collections.abc import Iterator

from powervisor.errors import UserError

FIRST_PHANDLE = 0x8000  # where QEMU's ppce500 begins, so that trees compare


class Node:
    """One node. A property value is a list of cells, strings and bytes; a Node as a cell is its phandle."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.properties: dict[str, tuple[Value, ...]] = {}
        self.children: list[Node] = []
        self.parent: Node | None = None
        self.phandle: int | None = None

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
        node = Node(name)
        node.parent = self
        self.children.append(node)
        return node

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
            out += part.encode() + b"\0"
        elif isinstance(part, int):
            out += part.to_bytes(4, "big")
        else:
            raise TypeError("number_phandles() comes before encode()")
    return out


def flatten(root: Node) -> bytes:
    """The tree as a flattened device tree (version 17)."""
    import libfdt

    root.number_phandles()
    tree = libfdt.FdtSw()
    tree.finish_reservemap()

    def add(node: Node) -> None:
        with tree.add_node(node.name):
            for name, value in node.items():
                tree.property(name, encode(value))
            for child in node.children:
                add(child)

    add(root)
    fdt = tree.as_fdt()
    fdt.pack()
    return bytes(fdt.as_bytearray())


def to_dts(root: Node) -> str:
    """The tree as device-tree source."""
    root.number_phandles()
    lines = ["/dts-v1/;", ""]

    def text(value: tuple[Value, ...]) -> str:
        groups: list[str] = []
        cells: list[str] = []
        for part in (*value, ""):
            if isinstance(part, int):
                cells.append(f"0x{part:x}")
                continue
            if cells:
                groups.append(f"<{' '.join(cells)}>")
                cells = []
            if isinstance(part, bytes):
                groups.append(f"[{part.hex(' ')}]")
            elif isinstance(part, str) and part:
                groups.append(f'"{part}"')
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
    """A flattened tree as source, by way of `parse`."""
    return to_dts(parse(blob, "device tree"))


def parse(blob: bytes, where: str) -> Node:
    """The tree in `blob`; every property is bytes. Raises UserError, naming `where`."""
    import libfdt

    check_header(blob, where)
    try:
        fdt = libfdt.Fdt(blob)
        root = Node()

        def add(node: Node, offset: int) -> None:
            at = fdt.first_property_offset(offset, libfdt.QUIET_NOTFOUND)
            while at >= 0:
                prop = fdt.get_property_by_offset(at)
                node.properties[prop.name] = (bytes(prop),) if len(prop) else ()
                at = fdt.next_property_offset(at, libfdt.QUIET_NOTFOUND)
            sub = fdt.first_subnode(offset, libfdt.QUIET_NOTFOUND)
            while sub >= 0:
                add(node.child(fdt.get_name(sub)), sub)
                sub = fdt.next_subnode(sub, libfdt.QUIET_NOTFOUND)

        add(root, 0)
    except (libfdt.FdtException, ValueError, RecursionError) as error:
        raise UserError(f"{where}: broken device tree ({error}); check it with dtc -I dtb") from error
    return root


def check_header(blob: bytes, where: str) -> None:
    """Raise UserError unless `blob` begins like a flattened device tree and is all there."""
    if len(blob) < 40 or blob[:4] != b"\xd0\x0d\xfe\xed":
        raise UserError(f"{where}: not a flattened device tree (compile source with dtc -O dtb)")
    total = int.from_bytes(blob[4:8], "big")
    if not 40 <= total <= len(blob):
        raise UserError(f"{where}: truncated device tree, {total} bytes expected and {len(blob)} found")
    version, last = (int.from_bytes(blob[at : at + 4], "big") for at in (20, 24))
    if version < 16 or last > 17:
        raise UserError(f"{where}: device tree version {version} is not supported; rebuild it with dtc")


def amend(blob: bytes, properties: dict[str, dict[str, tuple[Value, ...]]], where: str) -> bytes:
    """`blob` with `{node path: {property: value}}` set, nodes of the first level made when missing."""
    import libfdt

    check_header(blob, where)
    try:
        extra = sum(len(name) + len(encode(value)) + 64 for p in properties.values() for name, value in p.items())
        fdt = libfdt.Fdt(blob)
        fdt.resize(fdt.totalsize() + extra + 256)
        for path, values in properties.items():
            offset = fdt.path_offset(path, libfdt.QUIET_NOTFOUND)
            if offset < 0:
                offset = fdt.add_subnode(0, path.strip("/"))
            for name, value in values.items():
                fdt.setprop(offset, name, encode(value))
        fdt.pack()
    except libfdt.FdtException as error:
        raise UserError(f"{where}: broken device tree ({error}); check it with dtc -I dtb") from error
    return bytes(fdt.as_bytearray())
