"""Boards with properties: the tree of a hypervisor's guest, and what is refused."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from powervisor.boards import registry
from powervisor.boards.devicetree import flatten, parse
from powervisor.boards.hypervisor import BoardProperties, configured, has_uarts
from powervisor.boards.ppce500 import PPCE500
from powervisor.errors import UserError
from powervisor.isa import cores
from powervisor.isa.registers import MMUCFG, SPR
from tests.boards.test_ppce500 import MIB, cells


def tree(topology, properties="", serials=1):
    board = registry.get(f"ppce500,hypervisor=on{properties}")
    return parse(flatten(board.describe(topology(), 512 * MIB, serials)), "test")


def strings(node, name):
    return b"".join(node.properties[name]).rstrip(b"\0").decode().split("\0")


def test_the_hypervisor_says_how_to_call_it(topology):
    node = tree(topology).find("/hypervisor")
    assert strings(node, "compatible")[:2] == ["epapr,hypervisor-1.1", "linux,kvm"]
    assert cells(node, "hcall-instructions") == [0x4400_0022, *[0x6000_0000] * 3]  # sc 1; nop; nop; nop
    assert cells(node, "guest-id") == [0] and strings(node, "guest-name") == ["ppce500"]
    assert {"has-idle", "has-msgsnd-hcall"} <= node.properties.keys()


def test_serial_lines_are_byte_channels_in_order(topology):
    root = tree(topology, serials=3)
    handles = root.find("/hypervisor/handles").children
    channels = [node for node in handles if strings(node, "compatible") == ["epapr,hv-byte-channel"]]
    assert [cells(node, "hv-handle") for node in channels] == [[1], [2], [3]]
    assert [cells(node, "interrupts") for node in channels] == [[96 + 2 * n, 2, 97 + 2 * n, 2] for n in range(3)]
    assert strings(root.find("/chosen"), "stdout-path") == [channels[0].path]
    aliases = root.find("/aliases")
    assert [strings(aliases, f"serial{n}") for n in range(3)] == [[node.path] for node in channels]
    assert not [node for node in root.find("/soc@fe0000000").children if node.name.startswith("serial@")]


def test_both_ends_of_a_doorbell_are_the_guests(topology):
    root = tree(topology, ",doorbells=2")
    for index, source in enumerate((15, 0)):
        send = root.find(f"/hypervisor/handles/send-doorbell{index}")
        receive = root.find(f"/hypervisor/handles/receive-doorbell{index}")
        assert strings(send, "compatible") == ["epapr,hv-send-doorbell"]
        assert strings(receive, "compatible") == ["epapr,hv-receive-doorbell"]
        assert cells(send, "hv-handle") == [0x101 + index]
        assert cells(receive, "interrupts") == [source, 0]  # an edge
        assert cells(receive, "interrupt-parent") == cells(root.find("/soc@fe0000000/pic@40000"), "phandle")


def test_uarts_can_stay_and_doorbells_can_go(topology):
    root = tree(topology, ",serial=uart,doorbells=0")
    assert root.find("/soc@fe0000000/serial@4500") and root.find("/hypervisor/handles").children == []
    assert strings(root.find("/chosen"), "stdout-path") == ["/soc@fe0000000/serial@4500"]


def test_no_two_things_share_an_interrupt_with_the_hypervisors():
    board = registry.get("ppce500,hypervisor=on,serial=uart,doorbells=2")
    used = [source for part in board.parts for source in (*part.irqs, *part.pins.values())]
    virtual = {*PPCE500.virtual.levels, *PPCE500.virtual.edges}
    theirs = [source for part in PPCE500.parts for source in (*part.irqs, *part.pins.values())]
    assert not virtual & {*theirs, *range(5, 15)}
    assert len(used) > len(theirs)


def test_without_properties_the_board_is_as_before():
    assert registry.get("ppce500") is PPCE500
    assert registry.get("ppce500,hypervisor=off") is PPCE500
    assert has_uarts(PPCE500) and not has_uarts(registry.get("ppce500,hypervisor=on"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppce500,hypervisor=maybe", "hypervisor=maybe is neither on nor off"),
        ("ppce500,hypervizor=on", "unknown property 'hypervizor'; did you mean hypervisor"),
        ("ppce500,serial=byte-channel", "serial= is of hypervisor=on; add that, or leave serial= out"),
        ("ppce500,hypervisor=off,doorbells=1", "doorbells= is of hypervisor=on"),
        ("ppce500,hypervisor=on,serial=vty", "serial=vty is not one of byte-channel, uart"),
        ("ppce500,hypervisor=on,doorbells=3", r"doorbells=3 is not within 0\.\.2"),
        ("ppce500,hypervisor=on,hypervisor=on", "hypervisor is given twice"),
        ("ppce501,hypervisor=on", "no such board"),
    ],
)
def test_what_cannot_be_had_is_refused(text, message):
    with pytest.raises(UserError, match=f"^board {text}: .*{message}"):
        registry.get(text)


def test_a_board_without_room_for_it_is_no_guest():
    plain = PPCE500._replace(virtual=None)
    with pytest.raises(UserError, match="here: ppce500 cannot have hypervisor=on; leave it out"):
        configured(plain, BoardProperties(hypervisor=True), "here")


def test_there_are_as_many_lines_as_channels():
    board = registry.get("ppce500,hypervisor=on")
    board.check_serials(8)
    with pytest.raises(UserError, match="9 lines given, ppce500 has 8"):
        board.check_serials(9)


@pytest.mark.parametrize("name", cores.CORES)
def test_a_guests_core_lacks_what_a_hypervisor_needs(name):
    core, guest = cores.get(name), cores.get(name).virtual()
    assert core.categories - guest.categories == {"ehv", "lrat"} & core.categories
    assert guest.sprs[SPR.MMUCFG] == core.sprs[SPR.MMUCFG] & ~(MMUCFG.LPIDSIZE | MMUCFG.LRAT)
    assert core.sprs[SPR.MMUCFG] & MMUCFG.LPIDSIZE  # of the original, still


@pytest.mark.skipif(not shutil.which("dtc"), reason="dtc is not installed (package device-tree-compiler)")
def test_dtc_has_no_error_to_tell(topology):
    board = registry.get("ppce500,hypervisor=on,doorbells=2")
    blob = flatten(board.describe(topology(), 512 * MIB, 8))
    done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts"], input=blob, capture_output=True, check=True)
    told = [line for line in done.stderr.decode().splitlines() if "hypervisor" in line and "simple_bus" not in line]
    assert told == []
