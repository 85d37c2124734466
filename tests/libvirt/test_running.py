"""What virsh and libvirt-python tell of a machine that runs, and do to it meanwhile."""

from __future__ import annotations

import json
import os
import re
import time

from tests.libvirt.guests import KERNELS
from tests.system.booting import needs

MEBIBYTE = 1 << 20


def test_what_virsh_tells_of_a_machine(guest):
    told = dict(re.findall(r"^(.+?): +(.+)$", guest.virsh("dominfo"), re.MULTILINE))
    assert told["State"] == "running" and told["CPU(s)"] == "2" and float(told["CPU time"].rstrip("s")) > 0
    assert re.fullmatch(r"/dev/pts/\d+\n", guest.virsh("ttyconsole"))
    assert re.search(r"vda +/.*\.img", guest.virsh("domblklist"))
    assert re.search(r"user +- +virtio +[0-9a-f:]{17}", guest.virsh("domiflist"))
    assert guest.virsh("domblkerror").strip() == "No errors found"
    assert "None" in guest.virsh("domjobinfo")
    assert guest.virsh("domcontrol").strip() == "ok"


def test_each_vcpu_is_a_thread_of_the_process(guest):
    threads = [cpu["thread-id"] for cpu in monitor(guest, "query-cpus-fast")]
    tasks = {int(name) for name in os.listdir(f"/proc/{guest.process()}/task")}
    assert len(set(threads)) == 2 and set(threads) <= tasks
    vcpus, _ = guest.domain.vcpus()
    assert [vcpu[0] for vcpu in vcpus] == [0, 1]
    assert all(state == guest.daemons.libvirt.VIR_VCPU_RUNNING and spent > 0 for _, state, spent, _ in vcpus)


def test_vcpus_and_the_emulator_are_pinned(guest):
    last = os.cpu_count() - 1
    guest.virsh("vcpupin", "1", str(last))
    guest.virsh("emulatorpin", str(last))
    thread = monitor(guest, "query-cpus-fast")[1]["thread-id"]
    for task in (thread, guest.process()):
        assert os.sched_getaffinity(task) == {last}
    everywhere = f"0-{last}" if last else "0"
    guest.virsh("vcpupin", "1", everywhere)
    guest.virsh("emulatorpin", everywhere)


def test_statistics_of_everything(guest):
    text = guest.virsh("domstats")
    told = dict(re.findall(r"^ *([\w.-]+)=(.*)$", text, re.MULTILINE))
    assert told["state.state"] == "1" and told["vcpu.current"] == "2" and int(told["vcpu.1.time"]) > 0
    assert told["balloon.maximum"] == told["balloon.current"] == str(256 << 10)
    assert told["block.0.name"] == "vda" and int(told["block.0.rd.reqs"]) > 0
    assert int(told["block.0.capacity"]) == 16 * MEBIBYTE
    assert told["net.count"] == "1"


def test_counts_of_a_disk_grow_as_the_guest_writes(guest):
    before = guest.domain.blockStats("vda")
    guest.run("dd if=/dev/zero of=/dev/vda bs=64k count=16 2>/dev/null; sync")
    after = guest.domain.blockStats("vda")
    assert after[3] - before[3] == MEBIBYTE
    assert re.search(rf"wr_bytes {after[3]}$", guest.virsh("domblkstat", "vda"), re.MULTILINE)
    assert re.search(rf"Capacity: +{16 * MEBIBYTE}$", guest.virsh("domblkinfo", "vda"), re.MULTILINE)


def test_a_network_cable_is_pulled_out_and_put_back(guest):
    guest.run("ip link set eth0 up")
    (mac,) = (word for word in guest.virsh("domiflist").split() if word.count(":") == 5)
    for state, carrier in (("down", "0"), ("up", "1")):
        guest.virsh("domif-setlink", mac, state)
        assert guest.virsh("domif-getlink", mac).split() == [mac, state]
        assert carrier in guest.run("sleep 0.2; cat /sys/class/net/eth0/carrier").split()


def test_memory_is_taken_and_given_back_by_the_balloon(guest):
    needs(KERNELS[guest.definition.model], "CONFIG_VIRTIO_BALLOON")

    def actual():
        return guest.domain.memoryStats()["actual"]

    guest.virsh("setmem", "192M")
    until_value(actual, 192 << 10)
    free = int(re.search(r"MemTotal: +(\d+)", guest.run("grep MemTotal /proc/meminfo"))[1])
    assert free < 192 << 10
    guest.virsh("dommemstat", "--period", "1")
    until_value(lambda: guest.domain.memoryStats().get("available"), free)
    guest.virsh("setmem", "256M")
    until_value(actual, 256 << 10)
    guest.virsh("setmem", "300M", fails=True)


def test_time_stands_still_while_suspended(guest):
    begin, before = time.monotonic(), float(guest.run("cat /proc/uptime").split()[0])
    guest.virsh("suspend")
    assert guest.state == "paused (user)"
    time.sleep(1)
    guest.virsh("resume")
    assert guest.state == "running (unpaused)"
    passed = float(guest.run("cat /proc/uptime").split()[0]) - before
    assert passed < time.monotonic() - begin - 0.9


def test_the_monitors_commands_pass_through(guest):
    assert monitor(guest, "query-status")["status"] == "running"
    assert re.search(r"cpu1: pc 0x[0-9a-f]+", guest.virsh("qemu-monitor-command", "--hmp", "info cpus"))
    assert "agent is not configured" in guest.virsh("qemu-agent-command", "{}", fails=True)


def test_what_the_machine_cannot_do_is_refused_and_it_goes_on(guest):
    path = guest.daemons.directory / "no-such"
    for command in (
        ("send-key", "KEY_A"), ("inject-nmi",), ("blockresize", "vda", "32M"), ("screenshot", str(path)),
        ("blkdeviotune", "vda", "--total-iops-sec", "100"), ("dompmsuspend", "mem"), ("setvcpus", "4", "--live"),
        ("blockcommit", "vda"), ("snapshot-create",), ("snapshot-create-as", "--disk-only"), ("detach-disk", "vda"),
    ):  # fmt: skip
        assert guest.virsh(*command, fails=True).startswith("error:"), command
    assert guest.state.startswith("running")
    assert "alive" in guest.run("echo al''ive")


def monitor(guest, command):
    """What the machine answers to a QMP command."""
    return json.loads(guest.virsh("qemu-monitor-command", json.dumps({"execute": command})))["return"]


def until_value(read, value):
    """Wait until `read()` answers a value."""
    deadline = time.monotonic() + 20
    while (found := read()) != value:
        assert time.monotonic() < deadline, f"{found}, not {value}"
        time.sleep(0.05)
