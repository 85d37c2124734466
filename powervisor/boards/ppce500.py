"""ppce500: the generic e500 platform, memory map and tree as Linux, U-Boot and QEMU know it."""

from __future__ import annotations

from typing import cast

from powervisor.boards.board import ROOT, Board, BoardCore, Bus, Context, Nodes, Part, VirtualSources
from powervisor.boards.devicetree import Node, Value, cells64
from powervisor.devices.device import Device
from powervisor.devices.gpio import POWER_BUTTON_LINE, POWER_OFF_LINE, Gpio
from powervisor.devices.guts import Guts
from powervisor.devices.i2c.ds1338 import Ds1338
from powervisor.devices.i2c.fsl import FslI2c
from powervisor.devices.ns16550 import Ns16550
from powervisor.devices.pci.bus import SLOTS
from powervisor.devices.pci.host import INTX, Ppce500Pci
from powervisor.devices.platform import PlatformBus
from powervisor.devices.sd import esdhc
from powervisor.devices.sd.esdhc import Esdhc
from powervisor.devices.spintable import ENTRY_SIZE, SpinTable
from powervisor.memory.ram import MIB

CLOCK_HZ = 400_000_000
CCSR_BASE = 0xF_E000_0000
PCI_APERTURES = {"memory": (0xC_0000_0000, 512 * MIB), "io": (0xF_E100_0000, 0x1_0000)}
KEY_POWER, BOUNCES_MS = 116, 5
"""What Linux calls the power button's key, and how long it waits until the button's level is trusted."""
EDGE_RISING, LEVEL_LOW, LEVEL_HIGH = 0, 1, 2
PCI_MEMORY_BASE = 0xE000_0000
"""Where the memory window begins on the PCI bus."""
MSI_SOURCES = range(224, 232)
"""Eight groups of 32 message interrupts."""
PLATFORM_BASE, PLATFORM_SIZE = 0xF_0000_0000, 128 * MIB
PLATFORM_SOURCES = range(5, 15)
VIRTUAL_SOURCES = VirtualSources(levels=range(96, 112), edges=(15, 0))


def _serial(index: int, at: int) -> Part:
    name = f"serial{index}"

    def make(context: Context, devices: dict[str, Device]) -> Ns16550:
        return Ns16550(name, context.clock, context.chardev(index), CLOCK_HZ)

    return Part(
        name=name,
        make=make,
        bus="soc",
        at=at,
        size=0x100,
        irqs=(42,),
        node="serial",
        alias=name,
        properties={"cell-index": (index,)},
        described=lambda context: context.chardev(index) is not None,
    )


def _rtc(context: Context, devices: dict[str, Device]) -> Ds1338:
    rtc = Ds1338("rtc", context.wall_clock)
    cast(FslI2c, devices["i2c"]).bus.attach(0x68, rtc)
    return rtc


def _platform(context: Context, devices: dict[str, Device]) -> PlatformBus:
    lines = {source: context.irqchip.line(source) for source in PLATFORM_SOURCES}
    return PlatformBus("platform", context.space, PLATFORM_BASE, PLATFORM_SIZE, lines)


def _pci(context: Context, devices: dict[str, Device]) -> Ppce500Pci:
    bases = {kind: base for kind, (base, _) in PCI_APERTURES.items()}
    return Ppce500Pci("pci", context.dma, CCSR_BASE, bases)


def _describe_button(node: Node, part: Part, nodes: Nodes) -> None:
    """One key, active high."""
    key = node.child("power").set("label", "power").set("linux,code", KEY_POWER)
    key.set("debounce-interval", BOUNCES_MS).set("gpios", nodes["gpio"], POWER_BUTTON_LINE, 0)


def _describe_pci(node: Node, part: Part, nodes: Nodes) -> None:
    """The two windows onto the bus, and which source each pin of each slot reaches."""
    ranges: list[int] = []
    for space, kind, bus_address in ((0x0200_0000, "memory", PCI_MEMORY_BASE), (0x0100_0000, "io", 0)):
        base, size = part.apertures[kind]
        ranges += [space, *cells64(bus_address), *cells64(base), *cells64(size)]
    node.set("ranges", *ranges)
    node.set("interrupt-map-mask", 0xF800, 0, 0, 7)
    rows: list[Value] = []
    for slot in range(1, SLOTS):
        for pin in range(1, 5):
            source = part.pins[INTX[(slot + pin - 1) % 4]]
            rows += [slot << 11, 0, 0, pin, nodes["mpic"], source, LEVEL_LOW]
    node.set("interrupt-map", *rows)


PARTS = (
    Part(
        name="mpic",
        make=lambda context, devices: context.irqchip,
        bus="soc",
        at=0x40000,
        size=0x40000,
        node="pic",
        device_type="open-pic",
        compatible=("fsl,mpic",),
        properties={"interrupt-controller": (), "#address-cells": (0,), "#interrupt-cells": (2,)},
    ),
    Part(
        name="msi",  # registers inside the MPIC's window
        bus=None,
        under="soc",
        at=0x41600,
        size=0x200,
        irqs=MSI_SOURCES,
        sense=EDGE_RISING,
        node="msi",
        compatible=("fsl,mpic-msi",),
        properties={"msi-available-ranges": (0, 32 * len(MSI_SOURCES))},
    ),
    _serial(0, 0x4500),
    _serial(1, 0x4600),
    Part(
        name="i2c",
        make=lambda context, devices: FslI2c("i2c"),
        bus="soc",
        at=0x3000,
        size=FslI2c.size,
        reg_size=0x14,
        irqs=(43,),
        node="i2c",
        alias="i2c",
        properties={"cell-index": (0,), "#address-cells": (1,), "#size-cells": (0,)},
    ),
    Part(
        name="esdhc",
        make=lambda context, devices: Esdhc("esdhc", context.dma),
        bus="soc",
        at=0x2E000,
        size=Esdhc.size,
        irqs=(72,),
        node="sdhc",
        properties={"clock-frequency": (esdhc.CLOCK_HZ,), "bus-width": (4,), "sdhci,auto-cmd12": ()},
    ),
    Part(name="rtc", make=_rtc, under="i2c", at=0x68, node="rtc", alias="rtc"),
    Part(
        name="guts",
        make=lambda context, devices: Guts("guts", context.cpus.pvr, context.cpus.svr, context.reset),
        bus="soc",
        at=0xE0000,
        size=0x1000,
        node="global-utilities",
    ),
    Part(
        name="gpio",
        make=lambda context, devices: Gpio("gpio", context.poweroff),
        bus="soc",
        at=0xFF000,
        size=0x1000,
        irqs=(47,),
        node="gpio",
    ),
    Part(
        name="power-off",
        node="power-off",
        under="soc",
        compatible=("gpio-poweroff",),
        links={"gpios": ("gpio", POWER_OFF_LINE, 0)},
    ),
    Part(name="power-button", node="gpio-keys", under="soc", compatible=("gpio-keys",), describe=_describe_button),
    Part(
        name="pci",
        make=_pci,
        bus="soc",
        at=0x8000,
        size=0x1000,
        irqs=(24,),
        pins={pin: 1 + index for index, pin in enumerate(INTX)},
        apertures=PCI_APERTURES,
        node="pci",
        under=ROOT,
        alias="pci0",
        properties={
            "cell-index": (0,),
            "bus-range": (0, 0xFF),
            "clock-frequency": (66_666_666,),
            "#address-cells": (3,),
            "#size-cells": (2,),
            "#interrupt-cells": (1,),
        },
        links={"fsl,msi": ("msi",)},
        describe=_describe_pci,
    ),
    Part(
        name="platform",
        make=_platform,
        node=f"platform@{PLATFORM_BASE:x}",
        compatible=("qemu,platform", "simple-bus"),
        properties={
            "#address-cells": (1,),
            "#size-cells": (1,),
            "ranges": (0, *cells64(PLATFORM_BASE), PLATFORM_SIZE),
        },
        links={"interrupt-parent": ("mpic",)},
    ),
    Part(
        name="spin-table",
        make=lambda context, devices: SpinTable("spin-table", context.cpus.held(), context.release_cpu),
        bus="/",
        at=0xF_EF00_0000,
        size=SpinTable.size,
    ),
)

PPCE500 = Board(
    name="ppce500",
    description="generic e500 platform (paravirtual, as QEMU's ppce500)",
    model="Powervisor ppce500",
    compatible=("fsl,qemu-e500",),
    # Revisions of real chips for which Linux and U-Boot apply the fewest errata.
    cores={
        "e500mc": BoardCore("P4080 rev 3.0", 0x8200_0030, bits=32),
        "e5500": BoardCore("P5040 rev 2.0", 0x8204_0020, bits=64),
        "e6500": BoardCore("T4240 rev 2.0", 0x8240_0020, bits=64, max_threads=2),
    },
    default_core="e5500",
    max_cpus=32,
    clock_hz=CLOCK_HZ,
    ram_unit=64 * MIB,
    ram_max=16384 * MIB,
    ram_default=512 * MIB,
    interrupt_parent="mpic",
    spin_table="spin-table",
    spin_entry=ENTRY_SIZE,
    stdout="serial0",
    buses=(
        Bus(
            "soc",
            CCSR_BASE,
            0x10_0000,
            ("fsl,mpc8544-immr", "simple-bus"),
            device_type="soc",
            properties={"bus-frequency": (0,)},
            silent=True,
        ),
    ),
    parts=PARTS,
    expansion={"pci.0": "pci", "platform": "platform", "i2c": "i2c", "sd-bus": "esdhc"},
    virtual=VIRTUAL_SOURCES,
)
