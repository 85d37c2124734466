"""The flattened device tree (ePAPR chapter 8). A node is the address of its FDT_BEGIN_NODE token, 0 is none."""

from __future__ import annotations

from ....native.ints import u8, u32, u64
from ....native.lang import native
from ..words import peek, say, text, the
from .console import length_of, stopped
from .state import Board
from .strings import printable, same

MAGIC = 0xD00D_FEED
TOTAL_SIZE, STRUCTURE, STRINGS = 4, 8, 12
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9


@native(inline=True)
def word_at(at: u32) -> u32:
    """A cell."""
    return peek(u32, at)


@native
def cells64(at: u32) -> u64:
    """Two cells as one number."""
    return u64(word_at(at)) << 32 | u64(word_at(at + 4))


@native
def root() -> u32:
    """The root node; 0 without a tree."""
    tree = the(Board).tree
    if tree == 0 or word_at(tree) != MAGIC:
        return u32(0)
    return skip_nops(tree + word_at(tree + STRUCTURE))


@native
def size() -> u32:
    """Bytes of the whole tree."""
    return word_at(the(Board).tree + TOTAL_SIZE)


@native
def skip_nops(at: u32) -> u32:
    """The first token from here that is no FDT_NOP."""
    where = at
    while word_at(where) == NOP:
        where += 4
    return where


@native
def name_of(node: u32) -> u32:
    """A node's name with its unit address, a string."""
    return node + 4


@native
def property_name(item: u32) -> u32:
    """A property's name, a string."""
    tree = the(Board).tree
    return tree + word_at(tree + STRINGS) + word_at(item + 8)


@native
def after(at: u32) -> u32:
    """The token after the one at an address."""
    token = word_at(at)
    where = at + 4
    if token == BEGIN_NODE:
        where += (length_of(where) + 4) & ~u32(3)
    elif token == PROPERTY:
        where += 8 + ((word_at(where) + 3) & ~u32(3))
    return skip_nops(where)


@native
def first_child(node: u32) -> u32:
    """A node's first child, or 0."""
    where = after(node)
    while word_at(where) == PROPERTY:
        where = after(where)
    return where if word_at(where) == BEGIN_NODE else u32(0)


@native
def end_of(node: u32) -> u32:
    """The token after a node's FDT_END_NODE."""
    depth = u32(1)
    where = after(node)
    while depth != 0:
        token = word_at(where)
        if token == BEGIN_NODE:
            depth += 1
        elif token == END_NODE:
            depth -= 1
        elif token == END:
            return where
        where = after(where)
    return where


@native
def next_sibling(node: u32) -> u32:
    """The node after this one under the same parent, or 0."""
    where = end_of(node)
    return where if word_at(where) == BEGIN_NODE else u32(0)


@native
def find_property(node: u32, name: u32) -> tuple[u32, u32]:
    """Address and length of a property's value; address 0 when there is none."""
    if node == 0:
        return u32(0), u32(0)
    where = after(node)
    while word_at(where) == PROPERTY:
        if same(property_name(where), name):
            return where + 12, word_at(where + 4)
        where = after(where)
    return u32(0), u32(0)


@native
def cell(node: u32, name: u32, index: u32) -> u32:
    """A cell of a property; 0 when there is none."""
    at, length = find_property(node, name)
    return word_at(at + 4 * index) if at != 0 and length >= 4 * index + 4 else u32(0)


@native
def string(node: u32, name: u32) -> u32:
    """A property's (first) string; the empty string when there is none."""
    at, _ = find_property(node, name)
    return at if at != 0 else text("")


@native
def child(node: u32, path: u32) -> u32:
    """The child that the first part of a path names, with or without its unit address, or 0."""
    found = first_child(node)
    while found != 0:
        name = name_of(found)
        n = u32(0)
        while peek(u8, path + n) == peek(u8, name + n) and peek(u8, name + n) != 0:
            n += 1
        wanted, got = peek(u8, path + n), peek(u8, name + n)
        ends = wanted == 0 or wanted == ord("/") or wanted == ord(":")
        if n != 0 and ends and (got == 0 or got == ord("@")):
            return found
        found = next_sibling(found)
    return u32(0)


@native
def follow(path: u32) -> u32:
    """The node of a path such as /soc/serial@4500:115200, or 0."""
    node = root()
    where = path
    while node != 0:
        while peek(u8, where) == ord("/"):
            where += 1
        if peek(u8, where) == 0 or peek(u8, where) == ord(":"):
            return node
        node = child(node, where)
        while peek(u8, where) != 0 and peek(u8, where) != ord("/") and peek(u8, where) != ord(":"):
            where += 1
    return u32(0)


@native
def find(path: u32) -> u32:
    """The node of a path or an alias, or 0."""
    if peek(u8, path) == ord("/"):
        return follow(path)
    at, _ = find_property(follow(text("/aliases")), path)
    return follow(at) if at != 0 else u32(0)


@native
def find_compatible(name: u32) -> u32:
    """The first node that is compatible with a device, or 0."""
    where = root()
    if where == 0:
        return u32(0)
    while word_at(where) != END:
        if word_at(where) == BEGIN_NODE:
            at, length = find_property(where, text("compatible"))
            end = at + length
            while at != 0 and at < end:
                if same(at, name):
                    return where
                at += length_of(at) + 1
        where = after(where)
    return u32(0)


# ---- printing ------------------------------------------------------------------------------------------------------


@native
def strings_in(at: u32, length: u32) -> bool:
    """Whether a value reads as strings: visible characters, ended by single NULs."""
    if length == 0 or peek(u8, at) == 0 or peek(u8, at + length - 1) != 0:
        return False
    before = u8(1)
    for n in range(length):
        byte = peek(u8, at + n)
        if (byte == 0 and before == 0) or (byte != 0 and not printable(byte)):
            return False
        before = byte
    return True


@native
def print_value(at: u32, length: u32) -> None:
    """A property's value as dtc writes it."""
    if strings_in(at, length):
        where = at
        while where < at + length:
            if where != at:
                say(", ")
            say('"{:s}"', where)
            where += length_of(where) + 1
    elif length % 4 == 0:
        say("<")
        for n in range(length // 4):
            if n != 0:
                say(" ")
            say("0x{:x}", word_at(at + 4 * n))
        say(">")
    else:
        say("[")
        for n in range(length):
            if n != 0:
                say(" ")
            say("{:02x}", peek(u8, at + n))
        say("]")


@native
def print_tree(node: u32) -> None:
    """A node and all below it as dtc writes them."""
    depth = u32(0)
    where = node
    while not stopped():
        token = word_at(where)
        if token == END or (token == END_NODE and depth == 0):
            return
        if token == END_NODE:
            depth -= 1
        for _ in range(depth):
            say("    ")
        if token == BEGIN_NODE:
            say("{:s} {{\n", name_of(where) if peek(u8, name_of(where)) != 0 else text("/"))
            depth += 1
        elif token == PROPERTY:
            say("{:s}", property_name(where))
            length = word_at(where + 4)
            if length != 0:
                say(" = ")
                print_value(where + 12, length)
            say(";\n")
        else:
            say("}};\n")
            if depth == 0:
                return
        where = after(where)


@native
def print_nodes(parent: u32, indent: u32) -> None:
    """A line for each child: name, what it is, its interrupt."""
    node = first_child(parent)
    while node != 0:
        for _ in range(indent):
            say(" ")
        what = string(node, text("compatible"))
        if peek(u8, what) == 0:
            what = string(node, text("device_type"))
        at, length = find_property(node, text("interrupts"))
        if at != 0:
            say("{:<26s}{:<20s} irq {}", name_of(node), what, word_at(at))
            if length >= 16:
                say("..{}", word_at(at + length - 8))
            say("\n")
        else:
            say("{:<26s}{:s}\n", name_of(node), what)
        node = next_sibling(node)
