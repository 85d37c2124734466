"""Global utilities (GUTS): clock ratios, chip identity, the reset request."""

from __future__ import annotations

from collections.abc import Callable

from powervisor.devices.device import Device, TreeNode
from powervisor.devices.registers import Field, Reg, Register, RoWord


class Porpllsr(Reg):
    """Power-on-reset PLL ratios, in the layout of the MPC8544/MPC8572."""

    core1_ratio = Field(29, 24, "ro", reset=6)
    core0_ratio = Field(21, 16, "ro", reset=6)
    ddr_ratio = Field(13, 9, "ro", reset=12)
    platform_ratio = Field(5, 1, "ro", reset=6)


class Rstcr(Reg):
    """Reset control."""

    hreset_request = Field(1)


class Guts(Device):
    """Reports PVR and SVR and resets the machine through `on_reset`."""

    compatible = ("fsl,mpc8544-guts",)

    porpllsr = Register(0x00, Porpllsr)
    pvr = Register(0xA0, RoWord)
    svr = Register(0xA4, RoWord)
    rstcr = Register(0xB0, Rstcr)

    def __init__(self, name: str, pvr: int, svr: int, on_reset: Callable[[], None]) -> None:
        self._pvr, self._svr = pvr, svr
        self.on_reset = on_reset
        super().__init__(name)

    @pvr.read
    def _read_pvr(self) -> int:
        return self._pvr

    @svr.read
    def _read_svr(self) -> int:
        return self._svr

    @rstcr.written
    def _on_rstcr(self, old: int, new: int) -> None:
        if self.rstcr.hreset_request:
            self.on_reset()

    def fdt(self, node: TreeNode) -> None:
        """The reset register is what Linux restarts the machine with."""
        node.set("fsl,has-rstcr")
