"""The ppce500 board: limits, memory map, and the tree guests see."""

import shutil
import struct
import subprocess

import pytest

from powervisor import Machine
from powervisor.boards import registry
from powervisor.boards.devicetree import flatten, parse
from powervisor.errors import UserError

MIB = 1 << 20


def cells(node, name):
    value = b"".join(node.properties[name])
    return [int.from_bytes(value[i : i + 4], "big") for i in range(0, len(value), 4)]


def tree(board, cpus, ram=512 * MIB, serials=1):
    return parse(flatten(board.describe(cpus, ram, serials)), "test")


def test_unknown_boards_and_cores_name_the_valid_ones(board):
    with pytest.raises(UserError, match="board ppce5000: .*ppce500"):
        registry.get("ppce5000")
    with pytest.raises(UserError, match="cpu e5600: .*e500mc, e5500, e6500.*did you mean"):
        board.core("e5600")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("e5500", 0, 1, 512 * MIB), "cores 0"),
        (("e5500", 33, 1, 512 * MIB), "cores 33: ppce500 has 1 to 32 CPUs"),
        (("e6500", 17, 2, 512 * MIB), "cores 17 x 2 threads: ppce500 has 1 to 32"),
        (("e5500", 1, 2, 512 * MIB), "threads=2: e5500 has one thread"),
        (("e6500", 1, 3, 512 * MIB), "1 to 2 threads"),
        (("e5500", 1, 1, 100 * MIB), "memory 100 MiB: .* multiples of 64 MiB"),
        (("e5500", 1, 1, 0), "memory 0"),
        (("e5500", 1, 1, 16448 * MIB), "up to 16 GiB"),
    ],
)
def test_impossible_machines_are_refused(board, args, message):
    with pytest.raises(UserError, match=message):
        board.check(*args)


def test_the_limits_themselves_are_allowed(board):
    board.check("e6500", 16, 2, 16384 * MIB)
    board.check("e500mc", 32, 1, 64 * MIB)


def test_threads_of_a_core_share_one_cpu_node(board, topology):
    cpus = topology("e6500", cores=2, threads=2)
    root = tree(board, cpus)
    nodes = root.find("/cpus").children
    assert [cells(node, "reg") for node in nodes] == [[0, 1], [2, 3]]
    assert nodes[0].properties["status"] == (b"okay\0",) and "enable-method" not in nodes[0].properties
    assert cells(nodes[1], "cpu-release-addr") == [0xF, 0xEF00_0040]
    assert cells(nodes[1], "d-cache-line-size") == [64]
    # Second threads start with the silicon's PIR: core << 3 | thread, which Linux renumbers.
    assert [cpus.pir(cpu) for cpu in range(4)] == [0, 1, 2, 9]
    assert cpus.held() == {2: 2}


def test_memory_above_4_gib_is_one_range(board, topology):
    assert cells(tree(board, topology(), 6144 * MIB).find("/memory"), "reg") == [0, 0, 1, 0x8000_0000]


@pytest.mark.parametrize(("serials", "present"), [(0, []), (1, ["serial0"]), (2, ["serial0", "serial1"])])
def test_serial_nodes_follow_the_options(board, topology, serials, present):
    root = tree(board, topology(), serials=serials)
    assert [name for name in root.find("/aliases").properties if name.startswith("serial")] == present
    assert ("stdout-path" in root.find("/chosen").properties) == bool(present)


def test_aliases_and_stdout_lead_to_nodes(board, topology):
    root = tree(board, topology(), serials=2)
    paths = {**root.find("/aliases").properties, "stdout": root.find("/chosen").properties["stdout-path"]}
    for name, (path,) in paths.items():
        assert root.find(path.rstrip(b"\0").decode()), name


def test_each_build_has_its_own_random_seed(board, topology):
    seeds = {tree(board, topology()).find("/chosen").properties["rng-seed"] for _ in range(2)}
    assert len(seeds) == 2 and all(len(seed) == 32 for (seed,) in seeds)


# Where our tree is meant to differ from QEMU 7.2's, and why.
DIFFERENT = {
    ("/", "model"): "our own name",
    ("/chosen", "rng-seed"): "random",
    ("/chosen", "bootargs"): "written by the loader",
    ("/chosen", "qemu,boot-kernel"): "written by the loader",
    ("/aliases", "rtc"): "QEMU's is no valid path",
    ("/soc@fe0000000/i2c@3000", "#address-cells"): "QEMU leaves it out though it has a child with reg",
    ("/soc@fe0000000/i2c@3000", "#size-cells"): "the same",
    **{(f"/soc@fe0000000/serial@{at}", "compatible"): "Linux uses the FIFOs of ns16550a only" for at in (4500, 4600)},
}
ESDHC = "/soc@fe0000000/sdhc@2e000"
"""Which QEMU has since 8.0."""
POWER_BUTTON = "/soc@fe0000000/gpio-keys"
"""Which QEMU has not."""
CACHE_LINES = ("d-cache-line-size", "i-cache-line-size")


def normal(root):
    """Properties by path and name; references as paths, CPU nodes by number alone."""
    handles = {}
    for node in root.walk():
        if "phandle" in node.properties:
            handles[node.properties["phandle"][0]] = node.path
    out = {}
    for node in root.walk():
        path = node.path
        if path.startswith("/cpus/"):
            path = "/cpus/" + path.rpartition("@")[2]
        for name, value in node.properties.items():
            data = b"".join(value)
            if name in ("phandle", "linux,phandle"):
                continue
            if name in ("interrupt-parent", "fsl,msi"):
                data = handles[data]
            elif name == "gpios":
                data = (handles[data[:4]], data[4:])
            elif name == "interrupt-map":
                rows = [data[i : i + 28] for i in range(0, len(data), 28)]
                data = [(row[:16], handles[row[16:20]], row[20:]) for row in rows]
            out[path, name] = data
    return out


@pytest.mark.skipif(not shutil.which("qemu-system-ppc64"), reason="qemu-system-ppc64 is not installed")
@pytest.mark.parametrize(("core", "cpus", "ram"), [("e500mc", 1, 64), ("e5500", 2, 512), ("e6500", 4, 1024)])
def test_the_tree_is_qemus_but_for_known_differences(board, topology, small_uimage, tmp_path, core, cpus, ram):
    dump = tmp_path / "qemu.dtb"
    subprocess.run(
        ["qemu-system-ppc64", "-M", f"ppce500,dumpdtb={dump}", "-cpu", core, "-smp", str(cpus), "-m", str(ram)]
        + ["-nographic", "-nic", "none", "-kernel", str(small_uimage)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    theirs = normal(parse(dump.read_bytes(), "QEMU"))
    ours = normal(tree(board, topology(core, cores=cpus), ram * MIB))
    if core == "e6500":  # QEMU states 32, e6500 has 64
        for name in CACHE_LINES:
            theirs = {key: value for key, value in theirs.items() if key[1] != name}
            assert all(value == b"\0\0\0\x40" for key, value in ours.items() if key[1] == name)
            ours = {key: value for key, value in ours.items() if key[1] != name}
    differing = {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
    assert {key for key in differing if not key[0].startswith((ESDHC, POWER_BUTTON))} <= DIFFERENT.keys()


@pytest.mark.skipif(not shutil.which("qemu-system-ppc64"), reason="qemu-system-ppc64 is not installed")
def test_ethernet_controllers_are_described_as_by_qemu(small_uimage, tmp_path):
    devices = [f"eTSEC,netdev={name},mac=52:54:00:00:00:0{n}" for n, name in enumerate("ab")]
    dump, words = tmp_path / "qemu.dtb", []
    for name, device in zip("ab", devices, strict=True):
        words += ["-netdev", f"socket,id={name},udp=127.0.0.1:9,localaddr=127.0.0.1:0", "-device", device]
    subprocess.run(
        ["qemu-system-ppc64", "-M", f"ppce500,dumpdtb={dump}", "-cpu", "e5500", "-nographic", *words]
        + ["-kernel", str(small_uimage)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    netdevs = [
        f"dgram,id={name},local.type=unix,local.path={tmp_path}/{name},remote.type=unix,remote.path={tmp_path}/{other}"
        for name, other in ("ab", "ba")
    ]
    with Machine(kernel=small_uimage, netdevs=netdevs, devices=devices) as machine:
        ours = parse(machine.device_tree_blob, "ours")
    nodes = [
        {key: value for key, value in normal(root).items() if key[0].startswith("/platform@f00000000/ethernet")}
        for root in (parse(dump.read_bytes(), "QEMU"), ours)
    ]
    assert nodes[0] == nodes[1] and len(nodes[0]) == 20


@pytest.mark.skipif(not shutil.which("qemu-system-ppc64"), reason="qemu-system-ppc64 is not installed")
def test_flash_is_described_as_by_qemu(small_uimage, tmp_path):
    dump, image = tmp_path / "qemu.dtb", tmp_path / "nor.img"
    image.write_bytes(bytes(2 * MIB))
    drive = f"if=pflash,file={image},format=raw"
    subprocess.run(
        ["qemu-system-ppc64", "-M", f"ppce500,dumpdtb={dump}", "-cpu", "e5500", "-nographic", "-nic", "none"]
        + ["-drive", drive, "-kernel", str(small_uimage)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    with Machine(kernel=small_uimage, drives=[drive]) as machine:
        ours = parse(machine.device_tree_blob, "ours")
    nodes = [
        {key: value for key, value in normal(root).items() if key[0].startswith("/platform@f00000000/nor")}
        for root in (parse(dump.read_bytes(), "QEMU"), ours)
    ]
    assert nodes[0] == nodes[1] and len(nodes[0]) == 3


def test_the_sd_controller_is_where_newer_qemu_has_it(board, topology):
    node = tree(board, topology()).find(ESDHC)
    assert b"".join(node.properties["compatible"]).endswith(b"\0fsl,esdhc\0")
    for name, cells in (("reg", (0x2E000, 0x1000)), ("interrupts", (72, 2)), ("bus-width", (4,))):
        assert b"".join(node.properties[name]) == struct.pack(f">{len(cells)}I", *cells)
    assert "sdhci,auto-cmd12" in node.properties


def test_every_ccsr_offset_answers(board, topology):
    """Parts and silent gaps leave no hole, so a guest that probes sees zeros and not machine checks."""
    from powervisor.boards.board import Context, NoIrqchip
    from powervisor.devices.clock import ManualClock
    from powervisor.memory.ram import Ram
    from powervisor.memory.space import Dma, PhysicalSpace

    ram = Ram(64 * MIB)
    space = PhysicalSpace(ram)
    board.build(Context(ram, space, Dma(space), NoIrqchip(), ManualClock(), topology()))
    soc = board.bus("soc")
    at = soc.base
    for window in space.windows:
        if soc.base <= window.base < soc.base + soc.size:
            assert window.base == at
            at = window.end
    assert at == soc.base + soc.size
    ram.close()
