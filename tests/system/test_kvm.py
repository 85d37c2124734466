"""Linux KVM inside the guest, on cores with the embedded hypervisor category: it boots guests of its own."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
from pathlib import Path

import pytest

from powervisor.guests import catalogue
from powervisor.guests.archive import Cpio
from powervisor.guests.kvm import ram_disk
from powervisor.guests.kvm.ram_disk import RUN, Inner
from powervisor.guests.linux import TARGETS
from powervisor.insns import assemble
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
    """Its virtual machine goes with it, and the next one finds nothing of it in the TLBs."""
    killed = f"({RUN} >/dev/null & sleep 1", "kill -9 $!", "wait)", f"{RUN} >{KEPT}"
    check_inner(run("k64", Inner("k64"), ("-smp", "2"), killed, tmp_path / "initrd"), 1, 1)


BAD = {
    # programs at 0x1000, entered in supervisor state with 64 MiB mapped, of which 32 are there
    "ehpriv": ["ehpriv 0", "b 0x1000"],
    "hypervisor-registers": ["mtspr 338,r4", "mtspr 307,r4", "tlbilx 0,0,r4", "tlbwe", "rfci", "b 0x1000"],
    "beyond-memory": ["lis r4,0x300", "lwz r5,0(r4)", "b 0x1000"],
    "code-beyond-memory": ["lis r4,0x300", "mtctr r4", "bctr"],
    "unmapped": ["lis r4,0x7000", "lwz r5,0(r4)", "b 0x1000"],
    "doorbells": ["li r4,0", "msgsnd r4", "b 0x1004"],
    "hypercalls": ["lis r11,42", "ori r11,r11,3", "sc 1", "b 0x1008"],
    "traps": ["trap"],
}


@pytest.mark.slow
@pytest.mark.parametrize("outer", ["k32", "k64", "k64av"])
def test_bad_inner_guests_end_as_kvm_ends_them(outer, tmp_path):
    """Or do not end, until their monitor is killed; the next one boots."""
    cpio = Cpio()
    for name, lines in BAD.items():
        words = (assemble(line, 0x1000 + 4 * n) for n, line in enumerate(lines))
        cpio.file(f"bad/{name}", b"".join(struct.pack(">I", word) for word in words))
    each = (
        f"for p in {' '.join(BAD)}", "do (/kvm/vmm -m 32 -e 0x1000 /bad/$p@0x1000 >/dev/null & usleep 300000",
        "kill -9 $! 2>/dev/null", "wait)", "echo OVER-$p", "done",
    )  # fmt: skip
    commands = (*each, f"{RUN} >{KEPT}")
    done = run(outer, Inner(outer), ("-smp", "2"), commands, tmp_path / "initrd", gzip.compress(cpio.data(), 1))
    assert re.findall(r"OVER-([a-z-]+)", done.output) == list(BAD)
    check_inner(done, 1, 1)
