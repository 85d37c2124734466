"""What a machine tells of itself over QMP: what it is, what it has, what it could have."""

from __future__ import annotations

import os
import time

import pytest

from powervisor.cli import objects
from powervisor.console import open_named
from powervisor.devices.models import MODELS, PORTS
from powervisor.devices.virtio.serial import Event
from powervisor.manage.command import COMMANDS
from powervisor.manage.document import document
from powervisor.manage.events import EVENTS
from powervisor.manage.manager import Identity
from powervisor.manage.schema import schema
from powervisor.net import netdevs
from tests.system.bare import MAPPED, RESULTS


def test_the_schema_tells_of_all_there_is_and_of_nothing_else(managed):
    client = managed().client()
    told = client.ask("query-qmp-schema")
    assert told == list(schema())
    by_kind: dict[str, dict[str, dict]] = {}
    for entry in told:
        by_kind.setdefault(entry["meta-type"], {})[entry["name"]] = entry
    assert by_kind["command"].keys() == COMMANDS.keys() == {one["name"] for one in client.ask("query-commands")}
    assert by_kind["event"].keys() == EVENTS.keys() == {one["name"] for one in client.ask("query-events")}
    types = {entry["name"] for entry in told if entry["meta-type"] not in ("command", "event")}
    for entry in told:
        used = [entry[key] for key in ("arg-type", "ret-type", "element-type") if key in entry]
        used += [member["type"] for member in entry.get("members", ()) if "type" in member]
        assert set(used) <= types
    assert len(types) == len([e for e in told if e["meta-type"] not in ("command", "event")])
    members = {m["name"]: m for m in by_kind["object"]["query-named-block-nodes-arg"]["members"]}
    assert members == {"flat": {"name": "flat", "type": "bool", "default": None}}


@pytest.mark.parametrize("name", [n for n in COMMANDS if n.startswith("query-") and not COMMANDS[n].arguments])
def test_answers_are_of_the_type_that_the_schema_tells(managed, name):
    client = managed(devices=["virtio-balloon-pci,id=balloon0"]).client()
    types = {entry["name"]: entry for entry in schema() if entry["meta-type"] not in ("command", "event")}
    command = next(entry for entry in schema() if entry["name"] == name and entry["meta-type"] == "command")
    answer = client.call(name)
    if "return" in answer:
        check(types, command["ret-type"], answer["return"])
    else:
        assert answer["error"]["class"] != "GenericError", answer


def check(types, name, value) -> None:
    """Whether a value is of a type of the schema."""
    entry = types[name]
    match entry["meta-type"]:
        case "builtin":
            kinds = {"string": str, "int": int, "boolean": bool, "number": (int, float), "value": object}
            assert isinstance(value, kinds[entry["json-type"]])
            assert entry["json-type"] != "int" or not isinstance(value, bool)
        case "enum":
            assert value in entry["values"]
        case "array":
            for item in value:
                check(types, entry["element-type"], item)
        case "object":
            members = {member["name"]: member for member in entry["members"]}
            assert value.keys() <= members.keys()
            assert {n for n, member in members.items() if "default" not in member} <= value.keys()
            for key, item in value.items():
                check(types, members[key]["type"], item)


def test_what_the_machine_is(managed):
    uuid = "8c5c7a4e-0000-4000-8000-000000000001"
    made = managed(cpu="e6500", cores=2, threads=2, identity=Identity("lab-3", uuid))
    client = made.client()
    assert client.ask("query-name") == {"name": "lab-3"} and client.ask("query-uuid") == {"UUID": uuid}
    assert client.ask("query-target") == {"arch": "ppc64"}
    assert client.ask("query-memory-size-summary") == {"base-memory": MAPPED, "plugged-memory": 0}
    cores = {one["name"]: one["typename"] for one in client.ask("query-cpu-definitions")}
    assert {"e500mc", "e5500", "e6500", "POWERPC_e5500"} <= cores.keys()
    assert cores["POWERPC_e5500"] == cores["e5500"]
    (board,) = client.ask("query-machines")
    assert (board["name"], board["cpu-max"], board["hotpluggable-cpus"]) == ("ppce500", 32, False)
    cpus = client.ask("query-cpus-fast")
    assert [cpu["props"] for cpu in cpus] == [{"core-id": n // 2, "thread-id": n % 2} for n in range(4)]
    threads = {int(name) for name in os.listdir("/proc/self/task")}
    assert len({cpu["thread-id"] for cpu in cpus} & threads) == 4
    for n, cpu in enumerate(cpus):
        with open(f"/proc/self/task/{cpu['thread-id']}/comm") as comm:
            assert comm.read().strip() in (f"cpu{n}", "python", "pytest", "python3")
    assert len(client.ask("query-hotpluggable-cpus")) == 4
    assert managed(cpu="e500mc").client().ask("query-target") == {"arch": "ppc"}
    assert client.ask("query-current-machine") == {"wakeup-suspend-support": False}


def test_vcpus_of_a_deterministic_machine_share_a_thread(managed):
    first, second = managed(cores=2, deterministic=True).client().ask("query-cpus-fast")
    assert first["thread-id"] == second["thread-id"] > 0


def test_disks_and_what_was_asked_of_them(managed, tmp_path):
    image, other = tmp_path / "image", tmp_path / "other"
    for path in (image, other):
        with open(path, "wb") as file:
            file.truncate(1 << 20)
    made = managed(
        drives=[f"file={other},if=virtio,snapshot=on"],
        blockdevs=[f"driver=raw,node-name=libvirt-1-format,file.driver=file,file.filename={image},read-only=on"],
        devices=["virtio-blk-pci,drive=libvirt-1-format,id=virtio-disk0"],
    )
    client = made.client()
    first, second = sorted(client.ask("query-block"), key=lambda one: one["device"])
    assert (first["device"], second["device"]) == ("", "virtio0")
    assert first["qdev"] == "/machine/peripheral/virtio-disk0/virtio-backend"
    assert first["inserted"]["node-name"] == "libvirt-1-format" and first["inserted"]["ro"]
    assert first["inserted"]["image"]["virtual-size"] == 1 << 20 and first["inserted"]["file"] == str(image)
    assert second["inserted"]["backing_file_depth"] == 1 and not second["inserted"]["ro"]
    assert client.ask("qom-get", path=second["qdev"], property="type") == "virtio-blk-device"
    nodes = client.ask("query-named-block-nodes", flat=True)
    assert {node["node-name"] for node in nodes} == {"libvirt-1-format", "virtio0"}
    (drive,) = (drive for drive in made.machine.drives if drive.name == "virtio0")
    drive.counts.reads, drive.counts.read_bytes = 3, 1536
    stats = {one["node-name"]: one["stats"] for one in client.ask("query-blockstats", query_nodes=True)}
    assert stats["virtio0"]["rd_bytes"] == 1536 and stats["virtio0"]["rd_operations"] == 3
    assert stats["libvirt-1-format"]["wr_bytes"] == 0


def test_networks_and_their_cables(managed, tmp_path):
    made = managed(
        netdevs=[f"dgram,id=n0,local.type=unix,local.path={tmp_path}/a,remote.type=unix,remote.path={tmp_path}/b"],
        devices=["virtio-net-pci,netdev=n0,id=net0"],
    )
    client = made.client()
    told = {"id": "n0", "type": "dgram", "device": "net0", "link-up": True}
    assert client.ask("x-query-netdevs") == [told]
    (found,) = client.ask("query-rx-filter")
    assert found["main-mac"] == "52:54:00:12:34:56" and found["promiscuous"]
    for name in ("n0", "net0"):
        client.ask("set_link", name=name, up=False)
        assert not client.ask("x-query-netdevs")[0]["link-up"]
        client.ask("set_link", name=name, up=True)
        assert client.ask("x-query-netdevs")[0]["link-up"]
    assert client.refused("query-rx-filter", name="none")[0] == "DeviceNotFound"


def test_the_balloon(managed):
    made = managed(devices=["virtio-balloon-pci,id=balloon0"])
    client = made.client()
    assert client.ask("query-balloon") == {"actual": MAPPED}
    client.ask("balloon", value=MAPPED // 2)
    assert made.machine.balloon.target == MAPPED // 2
    assert client.refused("balloon", value=MAPPED * 2)[0] == "GenericError"
    with made.machine.lock:
        for pages in (256, 512, 1024):
            made.machine.balloon.configure(4, pages.to_bytes(4, "little"))
    assert client.event("BALLOON_CHANGE") == {"actual": MAPPED - (1 << 20)}
    assert client.event("BALLOON_CHANGE") == {"actual": MAPPED - (4 << 20)}, "the latest comes, a second later"
    path = "/machine/peripheral/balloon0"
    stats = client.ask("qom-get", path=path, property="guest-stats")
    assert stats["last-update"] == 0 and stats["stats"]["stat-free-memory"] == (1 << 64) - 1
    client.ask("qom-set", path=path, property="guest-stats-polling-interval", value=2)
    assert client.ask("qom-get", path=path, property="guest-stats-polling-interval") == 2
    client.ask("qom-get", path=path, property="guest-stats")
    assert client.refused("qom-set", path=path, property="type", value=2)[0] == "GenericError"
    assert client.refused("qom-set", path=path, property="guest-stats-polling-interval", value="a")


def test_the_tree_of_objects(managed):
    client = managed(
        cores=2, devices=["virtio-serial-pci,id=vs0", "virtserialport,id=port0,name=agent", "virtio-rng-pci"]
    ).client()
    assert {one["name"] for one in client.ask("qom-list", path="/")} >= {"machine", "objects"}
    peripheral = {one["name"]: one["type"] for one in client.ask("qom-list", path="/machine/peripheral")}
    assert peripheral == {"type": "string", "vs0": "child<virtio-serial-pci>", "port0": "child<virtserialport>"}
    anonymous = client.ask("qom-list", path="/machine/peripheral-anon")
    assert [one["type"] for one in anonymous[1:]] == ["child<virtio-rng-pci>"]
    for cpu in client.ask("query-cpus-fast"):
        assert client.ask("qom-get", path=cpu["qom-path"], property="type") == "e5500-powerpc-cpu"
    assert client.ask("qom-get", path="/machine", property="type") == "ppce500-machine"
    unattached = {one["name"] for one in client.ask("qom-list", path="/machine/unattached")}
    assert {"mpic", "serial0", "gpio", "cpu0", "cpu1"} <= unattached
    assert client.ask("qom-get", path="/machine/unattached/guts", property="x-statistics") == {}
    assert client.ask("qom-get", path="vs0", property="type") == "virtio-serial-pci"


def test_what_there_could_be(managed):
    client = managed().client()
    names = {one["name"] for one in client.ask("qom-list-types")}
    cores = {one["typename"] for one in client.ask("query-cpu-definitions")}
    creatable = {one["name"] for one in client.ask("qom-list-types", implements="user-creatable")}
    assert creatable == {*objects.KINDS, *netdevs.OBJECTS}
    assert names == {"tcg-accel", "ppce500-machine", *cores, *MODELS, *PORTS, *creatable}
    assert [one["name"] for one in client.ask("qom-list-types", implements="accel")] == ["tcg-accel"]
    assert "e1000" in {one["name"] for one in client.ask("qom-list-types", implements="pci-device")}
    properties = {one["name"]: one for one in client.ask("device-list-properties", typename="virtio-blk-pci")}
    assert properties["drive"]["type"] == "str" and properties["discard"]["default-value"] is True
    assert client.ask("qom-list-properties", typename="virtio-blk-pci") == list(properties.values())


def test_chardevs_and_where_they_are(managed, tmp_path):
    names = [f"socket,id=agent,path={tmp_path}/agent,server=on,wait=off", "pty,id=charserial0", "null,id=none"]
    chardevs = dict(open_named(text) for text in names)
    client = managed(identity=Identity(chardevs=chardevs)).client()
    told = {one["label"]: one["filename"] for one in client.ask("query-chardev")}
    assert told["agent"] == f"disconnected:unix:{tmp_path}/agent,server=on" and told["none"] == "null"
    assert told["charserial0"].startswith("pty:/dev/pts/") and os.path.exists(told["charserial0"][4:])
    assert {"pty", "socket"} <= {one["name"] for one in client.ask("query-chardev-backends")}
    for chardev in chardevs.values():
        chardev.close()


def test_a_client_sees_whether_a_program_of_the_guest_has_a_port_open(managed):
    _, chardev = open_named("null,id=agent")
    made = managed(
        devices=["virtio-serial-pci,id=vs0", "virtserialport,id=channel0,chardev=agent,nr=1"],
        chardevs={"agent": chardev}, identity=Identity(chardevs={"agent": chardev}),
    )  # fmt: skip
    client = made.client()
    (serial,) = made.server.manager.serials

    def told():
        (one,) = client.ask("query-chardev")
        return one["frontend-open"]

    assert not told()
    for value in (1, 1, 0):
        serial._heard(1, Event.PORT_OPEN, value)
        assert told() is bool(value)
    assert client.event("VSERPORT_CHANGE") == {"id": "channel0", "open": True}
    assert client.event("VSERPORT_CHANGE") == {"id": "channel0", "open": False}
    serial._heard(1, Event.PORT_OPEN, 1)
    client.ask("system_reset")
    assert not told()


COUNTS = """
    load32 r3, RESULTS
    li    r4, 0
loop:
    addi  r4, r4, 1
here:
    stw   r4, 0(r3)
    b     loop
"""


def test_the_monitor_is_behind_human_monitor_command(managed):
    made = managed(COUNTS)
    client = made.client()
    assert "info registers" in client.ask("human-monitor-command", command_line="help")
    assert "no such command" in client.ask("human-monitor-command", command_line="frobnicate")
    assert client.ask("query-status")["status"] == "running"
    assert "python" in client.ask("human-monitor-command", command_line="python")
    client.ask("human-monitor-command", command_line=f"break {made.machine.symbols['here']:#x}")
    client.event("STOP")
    assert client.ask("query-status")["status"] == "debug"
    value = made.machine.memory[RESULTS : RESULTS + 4]
    client.ask("cont")
    client.event("RESUME")
    client.event("STOP")
    assert made.machine.memory[RESULTS : RESULTS + 4] != value
    client.ask("human-monitor-command", command_line="delete")
    client.ask("human-monitor-command", command_line="cont")
    client.event("RESUME")
    deadline = time.monotonic() + 20
    while client.ask("query-status")["status"] != "running":
        assert time.monotonic() < deadline
    client.ask("human-monitor-command", command_line="stop")
    client.event("STOP")
    client.ask("cont")
    assert client.ask("query-status")["status"] == "running"


def test_who_else_holds_the_machine_is_told(managed):
    made = managed()
    client = made.client()
    gdb = made.machine.stops.open(lambda vcpu, exit_: None, name="gdb")
    gdb.hold()
    client.event("STOP")
    assert client.ask("query-status")["status"] == "debug"
    assert "gdb still holds the machine" in client.refused("cont")[1]
    gdb.release()
    client.event("RESUME")
    gdb.close()


def test_the_page_is_current():
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "qmp.md"
    assert page.read_text() == document(), "run: python -m powervisor.manage.document > docs/qmp.md"
