"""Linux KVM inside the guest, on cores with the embedded hypervisor category: it boots guests of its own."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.guests import catalogue
from powervisor.guests.archive import Cpio
from powervisor.guests.kvm import ram_disk
from powervisor.guests.kvm.ram_disk import RUN, Inner
from powervisor.guests.linux import TARGETS
from powervisor.insns import assemble_source
from powervisor.isa import cores
from tests.system.booting import Boot, boot, check_linux, files, needs
from tests.system.test_boot import TIMES, shell

KEPT = "/tmp/inner"
"""Where the outer guest keeps what the inner ones print, so that only its own messages are on its console."""
SHOWN = f"cat {KEPT}* | grep -e BOOT-OK -e ^processor -e vmm: | sed s/^/INNER:/"


def run(
    outer: str, inner: Inner, words: tuple[str, ...], commands: tuple[str, ...], path: Path, more: bytes = b""
) -> Boot:
    """Boot `outer` with `inner` in its RAM disk, let it run commands, and check that it stayed healthy."""
    files(inner.guest)
    compiler = f"{TARGETS[cores.get(catalogue.get(outer).options['cpu']).bits].prefix}gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"the monitor is compiled with {compiler}")
    needs(outer, "CONFIG_KVM_E500MC", "CONFIG_KVM_MPIC")
    path.write_bytes(ram_disk.build(outer, inner) + more)
    done = boot(outer, "-initrd", str(path), *words, append=shell(*commands, SHOWN))
    cpus = len(re.findall(r"^processor\s*:", done.output, re.MULTILINE))
    check_linux(done, cpus)
    return done


def check_inner(done: Boot, times: int, cpus: int) -> None:
    """So many inner guests came up and powered off, each after accesses to devices and emulated instructions."""
    assert done.output.count("INNER:BOOT-OK") == times, done.output[-4000:]
    assert len(re.findall("INNER:processor", done.output)) == times * cpus
    assert len(re.findall(r"INNER:vmm: ended with status 0: [\d.]+ s to make", done.output)) == times
    counts = re.findall(r"INNER:vmm: vcpu0 (.*)", done.output)
    counted = [dict(pair.split("=") for pair in line.split()) for line in counts if "mmio_exits" in line]
    assert len(counted) == times
    for exits in counted:
        assert int(exits["mmio_exits"]) > 1000 and int(exits["emulated_inst_exits"]) > 1000
        assert int(exits["dtlb_virt_miss_exits"]) and int(exits["itlb_virt_miss_exits"])


CASES = {
    "k32": ("k32", Inner("k32"), ("-smp", "1")),
    "k32-smp2": ("k32", Inner("k32", cpus=2), ("-smp", "2")),
    "k32-wait": ("k32", Inner("k32", idle=False), ("-smp", "1")),
    "k64": ("k64", Inner("k64"), ("-smp", "1")),
    "k64-smp2": ("k64", Inner("k64", cpus=2), ("-smp", "2")),
    "k64av": ("k64av", Inner("k64av"), ("-smp", "1")),
    "k64av-threads": ("k64av", Inner("k64av", cpus=2), ("-smp", "cores=1,threads=2")),
}


def test_an_inner_linux_boots_and_powers_off(tmp_path):
    check_inner(run("k32", Inner("k32"), ("-smp", "1"), (f"{RUN} >{KEPT}",), tmp_path / "initrd"), 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("which", CASES)
def test_an_inner_linux_boots_ten_times_in_a_row(which, tmp_path):
    outer, inner, words = CASES[which]
    loop = f"for i in {' '.join(map(str, range(TIMES)))}", f"do {RUN} >{KEPT}$i", "done"
    check_inner(run(outer, inner, words, loop, tmp_path / "initrd"), TIMES, inner.cpus)


@pytest.mark.slow
@pytest.mark.parametrize("outer", ["k32", "k64", "k64av"])
def test_two_inner_guests_run_at_once(outer, tmp_path):
    both = f"({RUN} >{KEPT}0 & {RUN} >{KEPT}1", "wait)"
    check_inner(run(outer, Inner(outer), ("-smp", "2"), both, tmp_path / "initrd"), 2, 1)


@pytest.mark.slow
def test_a_monitor_that_is_killed_leaves_a_healthy_host(tmp_path):
    """Its virtual machine and large pages go with it, and the next one finds nothing of it in the TLBs."""
    pages = "grep HugePages_Total /proc/meminfo"
    killed = f"({RUN} >/dev/null & usleep 200000", pages, "kill -9 $!", "wait)", pages, f"{RUN} >{KEPT}"
    done = run("k64", Inner("k64"), ("-smp", "2"), killed, tmp_path / "initrd")
    check_inner(done, 1, 1)
    assert re.findall(r"HugePages_Total:\s+(\d+)", done.output) == ["32", "0"]


KILLED = "killed"
"""A guest that runs until its monitor is killed."""
BAD = {
    # programs at 0x1000, entered in supervisor state with 64 MiB mapped, of which 32 are there; and the last words
    "ehpriv": (["ehpriv 0", "b 0x1000"], "exit 0 .*7c00021c. at pc 1000 "),
    "hypervisor-registers": (["mtspr 338,r4", "b 0x1000"], "exit 0 .*7c9253a6. at pc 1000 "),
    "returns": (["rfmci", "b 0x1000"], "exit 0 .*4c00004c. at pc 1000 "),
    "tlb-operations": (["tlbilx 0,0,r4", "tlbwe", "tlbsx 0,r4", "tlbre", "b 0x1000"], KILLED),
    "illegal": ([".long 0", "b 0x1000"], KILLED),
    "beyond-memory": (["lis r4,0x300", "lwz r5,0(r4)", "b 0x1000"], "access to 3000000, where nothing is"),
    "code-beyond-memory": (["lis r4,0x300", "mtctr r4", "bctr"], KILLED),
    "unmapped": (["lis r4,0x7000", "lwz r5,0(r4)", "b 0x1000"], KILLED),
    "doorbells": (["li r4,0", "msgsnd r4", "b 0x1004"], KILLED),
    "hypercalls": (["lis r11,42", "ori r11,r11,3", "sc 1", "b 0x1008"], KILLED),
    "traps": (["trap"], KILLED),
}
DAMAGE = {
    # what is done to the device tree of the inner Linux
    "no-tree": "dd if=/dev/zero of=/tmp/tree bs=64 count=1 conv=notrunc",
    "garbled-tree": "dd if=/bin/busybox of=/tmp/tree bs=64 seek=1 count=20 conv=notrunc",
    "cut-tree": "truncate -s 100 /tmp/tree",
}
ENDING = [name for name, (_, end) in BAD.items() if end != KILLED]
ENDLESS = [name for name in BAD if name not in ENDING]
BAD_ONES = f"""#!/bin/sh
ends() {{
    name=$1; shift
    "$@" >/tmp/said 2>&1
    echo "OVER-$name: $(tail -n 1 /tmp/said)"
}}
goes_on() {{
    name=$1; shift
    : >/tmp/said
    "$@" >>/tmp/said 2>&1 & monitor=$!
    until grep -q vmm /proc/$monitor/comm; do usleep 10000; done
    usleep 200000
    grep -q "^State:.Z" /proc/$monitor/status && end=ended || end={KILLED}
    kill -9 $monitor
    wait
    echo $end >>/tmp/said
    echo "OVER-$name: $(tail -n 1 /tmp/said)"
}}
damaged() {{
    cp $tree /tmp/tree
    $2 2>/dev/null
    goes_on $1 sh /tmp/run
}}
for program in {" ".join(ENDING)}; do ends $program /kvm/vmm -m 32 -e 0x1000 /bad/$program@0x1000; done
for program in {" ".join(ENDLESS)}; do goes_on $program /kvm/vmm -m 32 -e 0x1000 /bad/$program@0x1000; done
tree=/kvm/run-$(grep -o 't 0x[0-9a-f]*' {RUN} | cut -c5-)
sed "s,$tree@,/tmp/tree@," {RUN} >/tmp/run
{chr(10).join(f'damaged {name} "{damage}"' for name, damage in DAMAGE.items())}
"""


def bad_ones() -> bytes:
    """An archive with the programs of BAD and the script that runs everything bad."""
    cpio = Cpio()
    for name, (lines, _) in BAD.items():
        cpio.file(f"bad/{name}", assemble_source("\n".join(lines), 0x1000, cores.get("e500mc")).data)
    cpio.file("bad/all", BAD_ONES.encode(), 0o755)
    return gzip.compress(cpio.data(), 1)


@pytest.mark.parametrize("outer", ["k32", *(pytest.param(name, marks=pytest.mark.slow) for name in ("k64", "k64av"))])
def test_bad_inner_guests_end_as_kvm_ends_them(outer, tmp_path):
    """Or run until their monitor is killed; the outer kernel is well, and the next one boots."""
    done = run(outer, Inner(outer), ("-smp", "2"), ("/bad/all", f"{RUN} >{KEPT}"), tmp_path / "initrd", bad_ones())
    ends = dict(re.findall(r"OVER-(\S+): (.*?)\r?\n", done.output))
    expected = {name: end for name, (_, end) in BAD.items()} | dict.fromkeys(DAMAGE, KILLED)
    assert ends.keys() == expected.keys()
    assert [name for name, end in ends.items() if not re.search(expected[name], end)] == [], ends
    check_inner(done, 1, 1)


@pytest.mark.parametrize("outer", ["k32", *(pytest.param(name, marks=pytest.mark.slow) for name in ("k64", "k64av"))])
def test_a_guest_of_that_name_has_another_one_on_its_console(outer):
    files(outer)
    options = catalogue.machine_arguments(catalogue.get(f"kvm-{outer}"))
    with Machine(**options, serial=[None]) as machine:
        console = machine.console

        def inner_boots_and_ends_by(words: str) -> None:
            console.expect("BOOT-OK", timeout=60)
            console.expect("/ # ", timeout=60)
            console.send("echo $(grep -c ^processor /proc/cpuinfo) CPUs\n")
            console.expect("2 CPUs", timeout=20)
            console.send(words)
            assert "vmm: ended with status 0: " in console.expect("vmm: vm", timeout=20)
            console.expect("/ # ", timeout=20)

        machine.start()
        console.expect("BOOT-OK", timeout=60)
        inner_boots_and_ends_by("poweroff -f\n")
        console.send(f"{RUN}\n")
        inner_boots_and_ends_by("\x1d")
        console.send("echo outer-$((6 * 7)); poweroff -f\n")  # the terminal is as it was: it makes lines
        console.expect("outer-42", timeout=20)
        outcome = machine.wait(20)
    assert outcome is not None and outcome.kind == "poweroff"
