"""The node model, flattening, source text, and foreign blobs."""

import random
import shutil
import subprocess

import pytest

from powervisor.boards.devicetree import Node, amend, blob_to_dts, check_header, encode, flatten, parse, to_dts
from powervisor.errors import UserError


def sample():
    root = Node().set("compatible", "a,b", "c").set("#address-cells", 2)
    pic = root.child("pic@1")
    root.child("user@2").set("interrupt-parent", pic).set("gpios", pic, 3, 4).set("flag").set("raw", b"\1\2\3")
    root.child("chosen").set("bootargs", 'a="b c" \\d').set("empty", "")
    return root


def test_properties_are_encoded_by_type():
    assert encode((1, "ab", b"\xff")) == b"\0\0\0\1ab\0\xff"


def test_references_become_one_phandle_in_both_spellings():
    root = parse(flatten(sample()), "test")
    pic, user = root.find("/pic@1"), root.find("/user@2")
    assert pic.properties["phandle"] == pic.properties["linux,phandle"] == user.properties["interrupt-parent"]
    assert user.properties["gpios"] == (pic.properties["phandle"][0] + b"\0\0\0\3\0\0\0\4",)
    assert user.properties["flag"] == ()


def test_cells_must_fit_32_bits():
    with pytest.raises(ValueError, match="/:reg: 0x100000000"):
        Node().set("reg", 1 << 32)


@pytest.mark.skipif(not shutil.which("dtc"), reason="dtc is not installed (package device-tree-compiler)")
def test_source_compiles_to_the_same_blob():
    root = sample()
    out = subprocess.run(["dtc", "-q", "-O", "dtb"], input=to_dts(root).encode(), capture_output=True, check=True)
    assert blob_to_dts(out.stdout) == blob_to_dts(flatten(root))


def test_source_of_a_blob_shows_text_and_numbers():
    source = blob_to_dts(flatten(sample()))
    for line in ('compatible = "a,b", "c";', "#address-cells = <0x2>;", "raw = [01 02 03];", "flag;"):
        assert line in source


def test_amending_sets_properties_and_makes_missing_nodes():
    blob = amend(flatten(sample()), {"/chosen": {"bootargs": ("quiet",)}, "/pic@1": {"x": (7,)}}, "test")
    root = parse(blob, "test")
    assert root.find("/chosen").properties["bootargs"] == (b"quiet\0",)
    assert root.find("/pic@1").properties["x"] == (b"\0\0\0\7",)
    assert root.find("/user@2").properties["raw"] == (b"\1\2\3",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda blob: b"/dts-v1/;" + blob, "not a flattened device tree"),
        (lambda blob: blob[:30], "not a flattened device tree"),
        (lambda blob: blob[:-8], "truncated device tree"),
        (lambda blob: blob[:20] + b"\0\0\0\3" + blob[24:], "device tree version 3"),
    ],
)
def test_what_is_no_device_tree_is_refused(spoil, message):
    with pytest.raises(UserError, match=f"-dtb x: {message}"):
        check_header(spoil(flatten(sample())), "-dtb x")


def test_a_damaged_tree_is_a_user_error_or_still_a_tree():
    blob = flatten(sample())
    rng = random.Random(1)
    refused = 0
    for at in [*range(4, len(blob)), *(rng.randrange(4, len(blob)) for _ in range(500))]:
        damaged = bytearray(blob)
        damaged[at] = rng.choice((0, 1, 0x7F, 0xFF))
        try:
            amend(bytes(damaged), {"/chosen": {"a": (1,)}}, "-dtb x")
        except UserError as error:
            refused += 1
            assert str(error).startswith("-dtb x: ")
    assert refused > 50


def test_reservations_are_kept():
    root = sample()
    root.reservations = [(0x1000, 0x2000), (1 << 40, 1)]
    assert parse(amend(flatten(root), {}, "x"), "x").reservations == root.reservations


def test_libfdt_reads_what_we_write_and_we_what_it_writes():
    libfdt = pytest.importorskip("libfdt")
    fdt = libfdt.Fdt(flatten(sample()))
    assert fdt.getprop(fdt.path_offset("/user@2"), "gpios").as_uint32_list()[1:] == [3, 4]
    assert blob_to_dts(bytes(fdt.as_bytearray())) == blob_to_dts(flatten(sample()))
