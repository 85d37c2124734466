"""What the machine is, and what it could be."""

from __future__ import annotations

from typing import Annotated, Literal

from ...boards import registry
from ...isa.cores import ALIASES, CORES, DEFAULTS
from ..command import command
from ..names import cpu_path, cpu_type
from ..session import Session
from ..types import struct
from .protocol import Name

RAM_ID = "ppce500.ram"
"""What scripts of QEMU call the board's RAM."""
Target = Literal["ppc", "ppc64"]


@struct
class NameInfo:
    """The machine's name."""

    name: str | None = None


@struct(underscores="UUID")
class UuidInfo:
    """The machine's UUID."""

    UUID: str


@struct
class TargetInfo:
    """What is emulated."""

    arch: Target


@struct
class KvmInfo:
    """Whether the host's KVM is used."""

    enabled: bool
    present: bool


@struct
class MachineInfo:
    """A board."""

    name: str
    is_default: bool
    cpu_max: Annotated[int, "vCPUs at most"]
    hotpluggable_cpus: bool
    numa_mem_supported: bool
    deprecated: bool
    default_cpu_type: str
    default_ram_id: str
    acpi: bool


@struct
class CurrentMachineParams:
    """What this board can do."""

    wakeup_suspend_support: Annotated[bool, "whether a guest can suspend it: never"]


@struct
class CpuDefinitionInfo:
    """A core."""

    name: str
    static: bool
    typename: str
    deprecated: bool
    unavailable_features: list[str]


@struct
class CpuInstanceProperties:
    """Where a vCPU is."""

    core_id: int
    thread_id: Annotated[int, "the thread of its core"]


@struct
class CpuInfoFast:
    """A vCPU."""

    cpu_index: int
    qom_path: str
    thread_id: Annotated[int, "the host's number of its thread; 0 before the machine is started"]
    props: CpuInstanceProperties
    target: Target


@struct
class HotpluggableCpu:
    """A place of a core."""

    type: str
    vcpus_count: int
    props: CpuInstanceProperties
    qom_path: str


@command("query-name")
def query_name(session: Session) -> NameInfo:
    """What the machine is called, if it is."""
    return NameInfo(name=session.manager.identity.name or None)


@command("query-uuid")
def query_uuid(session: Session) -> UuidInfo:
    """The machine's UUID; zeros when it was given none."""
    return UuidInfo(UUID=session.manager.identity.uuid)


@command("query-target")
def query_target(session: Session) -> TargetInfo:
    """The architecture."""
    arch: Target = "ppc64" if session.manager.arch == "ppc64" else "ppc"
    return TargetInfo(arch=arch)


@command("query-kvm")
def query_kvm(session: Session) -> KvmInfo:
    """The host's KVM has no part in it: guests have a KVM of their own."""
    return KvmInfo(enabled=False, present=False)


@command("query-machines")
def query_machines(session: Session) -> list[MachineInfo]:
    """All boards."""
    arch = session.manager.arch
    return [
        MachineInfo(
            name=board.name, is_default=board.name == registry.DEFAULT, cpu_max=board.max_cpus,
            hotpluggable_cpus=False, numa_mem_supported=False, deprecated=False,
            default_cpu_type=cpu_type(DEFAULTS.get(arch, board.default_core)), default_ram_id=RAM_ID, acpi=False,
        )
        for board in registry.BOARDS.values()
    ]  # fmt: skip


@command("query-current-machine")
def query_current_machine(session: Session) -> CurrentMachineParams:
    """What this machine's board can do."""
    return CurrentMachineParams(wakeup_suspend_support=False)


@command("query-cpu-definitions")
def query_cpu_definitions(session: Session) -> list[CpuDefinitionInfo]:
    """All cores of the architecture, by libvirt's names as well."""
    narrow = session.manager.arch == "ppc"
    named = {name: name for name, core in CORES.items() if core.bits == 32 or not narrow}
    named |= {alias: name for alias, name in ALIASES.items() if name in named}
    return [
        CpuDefinitionInfo(
            name=alias, static=False, typename=cpu_type(name), deprecated=False, unavailable_features=[]
        )
        for alias, name in named.items()
    ]  # fmt: skip


@command("query-cpus-fast")
def query_cpus_fast(session: Session) -> list[CpuInfoFast]:
    """All vCPUs, without disturbing them."""
    machine, target = session.manager.machine, query_target(session).arch
    per_core = machine.topology.threads
    threads = machine.vm.thread_ids or [0]
    if len(threads) == 1:  # a deterministic machine has one for all
        threads *= machine.topology.vcpus
    return [
        CpuInfoFast(
            cpu_index=n,
            qom_path=cpu_path(n),
            thread_id=thread,
            props=_place(n, per_core),
            target=target,
        )
        for n, thread in enumerate(threads)
    ]


def _place(index: int, threads: int) -> CpuInstanceProperties:
    core, thread = divmod(index, threads)
    return CpuInstanceProperties(core_id=core, thread_id=thread)


@command("query-hotpluggable-cpus")
def query_hotpluggable_cpus(session: Session) -> list[HotpluggableCpu]:
    """Places of vCPUs: all are taken, and none can be added or removed while the machine is there."""
    topology = session.manager.machine.topology
    return [
        HotpluggableCpu(
            type=cpu_type(topology.core), vcpus_count=1, props=_place(n, topology.threads), qom_path=cpu_path(n)
        )
        for n in range(topology.vcpus)
    ]


@command("query-iothreads")
def query_iothreads(session: Session) -> list[Name]:
    """Threads that are objects of users: none, each device brings its own."""
    return []
