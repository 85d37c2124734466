"""Placement in RAM and the state CPUs start in."""

import gzip

import pytest

from powervisor.boards.devicetree import flatten, parse
from powervisor.boot.loader import BootOptions, LoaderDevice, initial_map_size, plan_boot
from powervisor.errors import UserError
from powervisor.memory.ram import Ram
from powervisor.memory.space import PhysicalSpace
from tests.boot.conftest import BRANCH_SELF, MIB, elf, uimage


def chosen(plan):
    return parse(plan.device_tree, "plan").find("/chosen").properties


def number(value):
    return int.from_bytes(value[0], "big")


def place(plan, word):
    return next((at, size) for what, at, size in plan.placed if word in what)


def test_direct_kernel_boot_follows_the_platforms_rules(tree, put):
    """The addresses QEMU 7.2 uses for a kernel that ends at 0x663774, but for its initrd with little RAM."""
    kernel = put("uImage", uimage(bytes(0x66_3774), compression=1))
    initrd = put("initrd", b"i" * 5000)
    plan = plan_boot(BootOptions(kernel=kernel, initrd=initrd, append="console=ttyS0"), 512 * MIB, tree())
    entry = plan.entries[0]
    assert entry.pc == 0 and entry.map_size == 64 * MIB
    assert entry.gpr == {1: 16 * MIB - 8, 3: 0x1E0_0000, 6: 0x4550_4150, 7: 64 * MIB}
    properties = chosen(plan)
    assert properties["bootargs"] == (b"console=ttyS0\0",)
    assert number(properties["linux,initrd-start"]) == 0x200_0000
    assert number(properties["linux,initrd-end"]) == 0x200_0000 + 5000
    assert number(properties["qemu,boot-kernel"]) == 0x66_3774
    assert dict(plan.blobs)[0x1E0_0000] == plan.device_tree


def test_firmware_boot_puts_the_kernel_raw_above_32_mib(tree, put):
    kernel = put("uImage", uimage())
    bios = put("uboot.elf", elf([(0xF0_0000, 0xF0_0000, BRANCH_SELF, 0x6_5E74)], entry=0xF0_0000))
    plan = plan_boot(BootOptions(bios=bios, kernel=kernel, initrd=put("i", b"x")), 512 * MIB, tree())
    assert plan.entries[0].pc == 0xF0_0000
    assert dict(plan.blobs)[32 * MIB] == uimage()
    assert number(chosen(plan)["qemu,boot-kernel"]) == (32 * MIB << 64) + len(uimage())
    assert number(chosen(plan)["linux,initrd-start"]) == 64 * MIB
    assert plan.entries[0].gpr[3] == 0x270_0000
    assert plan.zeros == [(0xF0_0004, 0x6_5E70)]


def test_raw_firmware_goes_to_u_boots_text_base(tree, put):
    plan = plan_boot(BootOptions(bios=put("u-boot.bin", BRANCH_SELF * 8)), 512 * MIB, tree())
    assert plan.entries[0].pc == 0xF0_0000 and dict(plan.blobs)[0xF0_0000] == BRANCH_SELF * 8


@pytest.mark.parametrize("with_firmware", [False, True])
def test_64_mib_is_enough_for_kernel_and_initrd(tree, put, with_firmware):
    bios = put("fw", elf([(0xF0_0000, 0xF0_0000, BRANCH_SELF, 4)], entry=0xF0_0000)) if with_firmware else None
    options = BootOptions(bios=bios, kernel=put("k", uimage(bytes(6 * MIB))), initrd=put("i", bytes(8 * MIB)))
    plan = plan_boot(options, 64 * MIB, tree(64))
    ranges = [(at, at + size) for _, at, size in plan.placed]
    assert all(end <= 64 * MIB for _, end in ranges)
    assert all(a[1] <= b[0] for a, b in zip(ranges, ranges[1:], strict=False))


def test_a_large_initrd_does_not_touch_the_device_tree(tree, put):
    """The rules alone would put the tree of a kernel that ends so into the middle of its initrd."""
    kernel = put("k", uimage(bytes(0xFF_0000)))
    plan = plan_boot(BootOptions(kernel=kernel, initrd=put("i", bytes(20 * MIB))), 512 * MIB, tree())
    (tree_at, room), (initrd_at, size) = place(plan, "device tree"), place(plan, "initrd")
    assert tree_at + room <= initrd_at or initrd_at + size <= tree_at


def test_an_initrd_beyond_ram_is_refused_with_sizes(tree, put):
    options = BootOptions(kernel=put("k", uimage()), initrd=put("i", bytes(64 * MIB)))
    with pytest.raises(UserError, match="initrd .*: 67108864 bytes do not fit in the .* bytes of RAM"):
        plan_boot(options, 64 * MIB, tree(64))


def test_compressed_elf_kernels_are_taken(tree, put):
    plan = plan_boot(BootOptions(kernel=put("vmlinux.gz", gzip.compress(elf()))), 64 * MIB, tree(64))
    assert plan.entries[0].pc == 0x1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#!/bin/sh\n", "neither ELF nor uImage; load a raw binary with loaders,file=F"),
        (b"\xd0\x0d\xfe\xed" + bytes(60), "a device tree or FIT image"),
        (b"", "neither ELF nor uImage"),
        (b"\x1f\x8b\x08", "truncated gzip"),
    ],
)
def test_kernels_of_no_known_format_are_refused(tree, put, data, message):
    with pytest.raises(UserError, match=f"kernel .*k: {message}"):
        plan_boot(BootOptions(kernel=put("k", data)), 64 * MIB, tree(64))


def test_loader_devices_place_files_and_start_cpus(tree, put):
    raw, program = put("raw", b"r" * 100), put("elf", elf([(0x3000, 0x3000, BRANCH_SELF, 4)], entry=0x3000))
    loaders = (
        LoaderDevice.parse(f"file={raw},addr=0x4000,cpu-num=1"),
        LoaderDevice.parse(f"file={program},cpu-num=0"),
        LoaderDevice.parse(f"file={program},addr=0x9000,force-raw=on"),
    )
    plan = plan_boot(BootOptions(loaders=loaders), 64 * MIB, tree(64), cpus=2)
    assert {cpu: entry.pc for cpu, entry in plan.entries.items()} == {0: 0x3000, 1: 0x4000}
    assert dict(plan.blobs)[0x9000][:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("addr=0", "file= is missing"),
        ("file=x,adr=0", "unknown property 'adr'"),
        ("file=x,addr=zero", "addr=zero is not a number"),
        ("file=x,force-raw=maybe", "force-raw=maybe is neither on nor off"),
    ],
)
def test_loader_options_are_checked(text, message):
    with pytest.raises(UserError, match=f"loaders: {message}"):
        LoaderDevice.parse(text)


def test_loader_devices_that_cannot_work_are_refused(tree, put):
    raw = put("raw", b"r" * 100)

    def attempt(*texts):
        loaders = tuple(LoaderDevice.parse(f"file={raw}{text}") for text in texts)
        plan_boot(BootOptions(loaders=loaders), 64 * MIB, tree(64), cpus=2)

    with pytest.raises(UserError, match="needs addr="):
        attempt(",cpu-num=0")
    with pytest.raises(UserError, match="cpu-num=2, and there are CPUs 0..1"):
        attempt(",addr=0,cpu-num=2")
    with pytest.raises(UserError, match="overlaps"):
        attempt(",addr=0,cpu-num=0", ",addr=0x20")
    with pytest.raises(UserError, match="nothing for CPU 0 to run"):
        attempt(",addr=0,cpu-num=1")
    with pytest.raises(UserError, match="beyond RAM"):
        attempt(",addr=0x3ffffff,cpu-num=0")
    with pytest.raises(UserError, match="nothing for CPU 0 to run"):
        plan_boot(BootOptions(), 64 * MIB, tree(64))


def test_a_given_tree_replaces_ours_but_gets_boot_parameters(tree, put):
    own = tree(64).set("model", "mine")
    options = BootOptions(
        kernel=put("k", uimage()), dtb=put("t", flatten(own)), append="quiet", initrd=put("i", b"initrd")
    )
    plan = plan_boot(options, 64 * MIB, tree(64))
    assert parse(plan.device_tree, "plan").properties["model"] == (b"mine\0",)
    assert chosen(plan)["bootargs"] == (b"quiet\0",) and "linux,initrd-start" in chosen(plan)


def test_a_given_tree_keeps_its_own_bootargs_without_append(tree, put):
    own = tree(64)
    own.child("chosen").set("bootargs", "from the tree")
    plan = plan_boot(BootOptions(kernel=put("k", uimage()), dtb=put("t", flatten(own))), 64 * MIB, tree(64))
    assert chosen(plan)["bootargs"] == (b"from the tree\0",)


def test_what_is_no_tree_is_refused(tree, put):
    for data in (b"/dts-v1/; / {};", flatten(tree())[:-4], b""):
        with pytest.raises(UserError, match="dtb .*t: "):
            plan_boot(BootOptions(kernel=put("k", uimage()), dtb=put("t", data)), 64 * MIB, tree(64))


@pytest.mark.parametrize(("end", "size"), [(0x1000, 16 << 10), (16 * MIB, 64 * MIB), (64 * MIB - 1, 64 * MIB)])
def test_initial_mapping_is_a_power_of_four_beyond_the_tree(end, size):
    assert initial_map_size(end) == size


def test_loading_again_restores_images_and_clears_bss(tree, put):
    kernel = put("k", elf([(0x1000, 0x1000, b"text", 0x2000)]))
    plan = plan_boot(BootOptions(kernel=kernel), 64 * MIB, tree(64))
    ram = Ram(64 * MIB)
    space = PhysicalSpace(ram)
    plan.load(space)
    ram[0x1000:0x1800] = b"\xff" * 0x800
    plan.load(space)
    assert ram[0x1000:0x1800] == b"text" + bytes(0x7FC)
    at = plan.entries[0].gpr[3]
    assert ram[at : at + len(plan.device_tree)] == plan.device_tree
    ram.close()
