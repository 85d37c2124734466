"""The vCPUs as a board sees them: how many, which core, and their numbering."""

from __future__ import annotations

from typing import NamedTuple

from powervisor.boards.devicetree import Node, cells64

L1_SIZE = 0x8000


class CpuTopology(NamedTuple):
    """`cores` cores of `threads` hardware threads each; vCPU i is thread i % threads of core i // threads."""

    core: str
    """Core name: e500mc, e5500 or e6500."""
    cores: int
    threads: int
    line_size: int
    """Cache line in bytes."""
    pvr: int
    svr: int

    @property
    def vcpus(self) -> int:
        """Number of vCPUs."""
        return self.cores * self.threads

    def pir(self, cpu: int) -> int:
        """The PIR vCPU `cpu` starts with.

        First threads have the number of the device tree, as boot firmware leaves it. Second threads have
        the e6500's reset value, core number in the upper bits and thread in the low three: Linux
        shifts it to the linear number when such a thread first runs (fsl_secondary_thread_init).
        """
        core, thread = divmod(cpu, self.threads)
        return cpu if thread == 0 else core << 3 | thread

    def held(self) -> dict[int, int]:
        """PIRs by vCPU of those that wait in the spin table: first threads but vCPU 0."""
        return {cpu: self.pir(cpu) for cpu in range(self.threads, self.vcpus, self.threads)}


def add_cpu_nodes(root: Node, cpus: CpuTopology, clock_hz: int, release_addr: int, release_stride: int) -> None:
    """Write `/cpus`: one node per core, whose `reg` lists its threads. Core 0 runs, others spin-wait."""
    parent = root.child("cpus").set("#address-cells", 1).set("#size-cells", 0)
    for first in range(0, cpus.vcpus, cpus.threads):
        node = parent.child(f"PowerPC,{cpus.core}@{first:x}")
        node.set("device_type", "cpu")
        node.set("reg", *range(first, first + cpus.threads))
        node.set("clock-frequency", clock_hz).set("timebase-frequency", clock_hz).set("bus-frequency", 0)
        for cache in ("d-cache", "i-cache"):
            node.set(f"{cache}-line-size", cpus.line_size).set(f"{cache}-size", L1_SIZE)
        node.set("status", "okay" if first == 0 else "disabled")
        if first:
            node.set("enable-method", "spin-table")
            node.set("cpu-release-addr", *cells64(release_addr + first * release_stride))
