"""What is typed: commands, options, their nearest names, and one clear line for every mistake."""

import os
import subprocess
import sys

import pytest

from powervisor import LoaderDevice
from powervisor.cli.board_options import Topology, parse_smp
from powervisor.cli.options import parse_size
from powervisor.errors import UserError


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_names_every_command(command, words):
    done = command(*words)
    assert done.status == 0
    for name in ("run", "guests", "cores", "boards", "dtb", "disasm"):
        assert f"\n  {name} " in done.out


def test_help_answers_at_once():
    best = 10.0
    for _ in range(3):
        begin = os.times()
        subprocess.run([sys.executable, "-m", "powervisor", "--help"], check=True, capture_output=True)
        end = os.times()  # processor time: the tests beside this one are not its fault
        best = min(best, end.children_user + end.children_system - begin.children_user - begin.children_system)
    assert best < 0.3


def test_without_a_command_the_help_is_an_error(command):
    done = command()
    assert (done.status, done.out) == (2, "")
    assert "usage: powervisor" in done.err


def test_version(command):
    assert command("--version").out.startswith("powervisor ")


def test_the_cores_and_boards_are_listed(command):
    assert command("cores").out.split("\n")[0].startswith("e500mc  32-bit")
    assert "ppce500" in command("boards").out
    assert command("run", "-cpu", "help").out == command("cores").out
    assert "ppce500" in command("run", "-M", "help").out
    assert "hypervisor=on|off" in command("run", "-M", "ppce500,help").out
    assert {"loader", "virtio-rng-pci"} <= {
        line.split()[0] for line in command("run", "-device", "help").out.splitlines()
    }
    assert "addr=slot" in command("run", "-device", "virtio-rng-pci,help").out
    assert "cpu-num=number" in command("run", "-device", "loader,help").out
    assert "translate" in command("run", "-accel", "help").out


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["rnu"], 2, "did you mean run"),
        (["-kernel", "x"], 2, "powervisor run -kernel"),
        (["run", "-kernle", "x"], 2, "did you mean -kernel?"),
        (["run", "--kernle", "x"], 2, "did you mean -kernel?"),
        (["run", "-memory", "512"], 2, "-memory: no such option"),
        (["run", "-m"], 2, "-m: its value is missing; write -m SIZE"),
        (["run", "-nographic=on"], 2, "-nographic: takes no value"),
        (["run", "vmlinux"], 2, "vmlinux: not an option, and no guest; a file to boot is -kernel vmlinux"),
        (["run", "hypervisor-dmeo"], 2, "not an option, and no guest; .*hypervisor-demo"),
        (["run", "k32", "more"], 2, "more: not an option"),
        (["run", "k32", "-guest", "k64"], 2, "k32: -guest k64 is given too; leave one"),
        (["run", "hypervisor-demo", "-kernel", "/dev/null"], 1, "brings its own"),
        (["run", "-cpu", "e550"], 1, "-cpu e550: no such core; .*e5500"),
        (["run", "-M", "ppce50"], 1, "-M ppce50: no such board; .*ppce500"),
        (["run", "-M", "ppce500,dumpdtb=x"], 1, "powervisor dtb"),
        (["run", "-M", "ppce500,hypervisor=1"], 1, "-M ppce500,hypervisor=1: hypervisor=1 is neither on nor off"),
        (["run", "-M", "ppce500,hypervisor=on,seral=uart"], 1, "unknown property 'seral'; did you mean serial"),
        (["run", "-M", "ppce500,serial=uart"], 1, "-M ppce500,serial=uart: serial= is of hypervisor=on; add that"),
        (["run", "-M", "ppce500,doorbells=1"], 1, "doorbells= is of hypervisor=on"),
        (["run", "-M", "ppce500,hypervisor=on,doorbells=3"], 1, "doorbells=3 is not within 0..2"),
        (["run", "-M", "ppce500,hypervisor=on", "-M", "doorbells=3"], 1, "doorbells=3 is not within 0..2"),
        (["run", "-M", "ppce500,hypervisor=on", "-M", "ppce500,doorbells=3"], 1, "doorbells=3 is not within 0..2"),
        (["run", "-M", "ppce500,hypervisor=on", "-machine", "ppce50"], 1, "-M ppce50.*: no such board"),
        (["run", "-M", "ppce50,help"], 1, "-M ppce50: no such board"),
        (["run", "-accel", "kvm"], 1, "-accel kvm: .*translate"),
        (["run", "-smp", "0"], 1, "-smp 0: cpus=0 is not a number above 0"),
        (["run", "-smp", "two"], 1, "-smp two: cpus=two is not a number above 0; write 4"),
        (["run", "-smp", "4,sockets=3"], 1, "-smp 4,sockets=3: .*do not make 4 CPUs"),
        (["run", "-smp", "2,maxcpus=4"], 1, "no CPUs can be added later; leave maxcpus= out"),
        (["run", "-m", "512MB"], 1, "-m 512MB: .*; write 512M$"),
        (["run", *["-serial", "null"] * 3], 1, "-serial: 3 lines given, ppce500 has 2; leave"),
        (["run", "-smp", "core=2"], 1, "did you mean cores"),
        (["run", "-smp", "3,threads=2"], 1, "do not make 3 CPUs"),
        (["run", "-m", "half"], 1, "-m half: size=half is not a size"),
        (["run", "-m", "0"], 1, "-m 0: size=0 is not a size"),
        (["run", "-initrd", "/dev/null"], 1, "add -kernel or -bios"),
        (
            ["run", "-device", "virtio-rgn-pci"],
            1,
            "-device virtio-rgn-pci: no device of that name; there is virtio-rng",
        ),
        (["run", "-device", "virtio-rgn-pci,help"], 1, "-device virtio-rgn-pci: no device of that name"),
        (
            ["run", "-device", "virtio-rng-pci,packed=maybe"],
            1,
            "-device virtio-rng-pci: packed=maybe is neither on nor off",
        ),
        (["run", "-drive", "if=virtio"], 1, "-drive if=virtio: file= is missing"),
        (["run", "-drive", "file=x,sanpshot=on"], 1, "unknown property 'sanpshot'; did you mean snapshot"),
        (["run", "-blockdev", "driver=file,filename=x"], 1, "-blockdev .*: node-name= is missing"),
        (["run", "-device", "loader,addr=0"], 1, "file= is missing"),
        (["run", "-device", "loader,file=/dev/null,addr=zero"], 1, "addr=zero is not a number"),
        (["run", "-device", "loader,fiel=/dev/null"], 1, "did you mean file"),
        (["run", "-serial", "stdoi"], 1, "did you mean stdio"),
        (["run", "-serial", "stdio", "-serial", "stdio"], 1, "only one line can have the terminal"),
        (["run", "-guest", "windows"], 1, "-guest windows: no such guest"),
        (["run", "-guest", "linux", "-kernel", "/dev/null"], 1, "brings its own"),
        (["run", "-timeout", "0"], 1, "-timeout 0: .*above 0"),
        (["run", "-timeout", "inf"], 1, "-timeout inf: not a time"),
        (["run", "-timeout", "soon"], 1, "-timeout soon: not a time; write a number of seconds"),
        (["run", "-expect", ""], 1, "no text to wait for"),
        (["dtb", "-smp", "0"], 1, "above 0"),
        (["disasm"], 1, "give either words or -file"),
        (["disasm", "-file", "/nonexistent"], 1, "No such file"),
        (["guests", "build"], 1, "name at least one of"),
        (["guests", "build", "k23"], 1, "k23: no such guest; .*k32"),
        (["guests", "biuld", "k32"], 2, "action biuld: .*write list or build"),
        (["dtb", "-format", "tree"], 2, "-format tree: .*write dts or dtb"),
        (["dtb", "-guest", "windows"], 1, "-guest windows: no such guest"),
        (["dtb", "-guest", "builtin", "-initrd", "/dev/null"], 1, "add -kernel or -bios"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option_and_the_remedy(command, machine, words, status, says):
    import re

    done = command(*words)
    assert done.status == status
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("powervisor")
    assert re.search(says, done.err), done.err


@pytest.mark.parametrize(
    ("text", "cores", "threads"),
    [
        ("1", 1, 1), ("8", 8, 1), ("cpus=4", 4, 1), ("cores=3", 3, 1), ("cores=2,threads=2", 2, 2),
        ("4,threads=2", 2, 2), ("4,cores=2,threads=2", 2, 2), ("4,sockets=1", 4, 1), ("sockets=1,cores=2", 2, 1),
        ("2,sockets=2,cores=1,threads=1", 2, 1), ("8,sockets=2", 8, 1), ("sockets=2,cores=2,threads=2", 4, 2),
    ],
)  # fmt: skip
def test_smp_is_completed_from_what_is_given(text, cores, threads):
    assert parse_smp(text) == Topology(cores, threads)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512 << 20), ("512M", 512 << 20), ("64MiB", 64 << 20), ("2G", 2 << 30), ("2g", 2 << 30),
        ("65536K", 64 << 20), ("size=1G", 1 << 30),
    ],
)  # fmt: skip
def test_sizes_count_in_mib_or_in_their_unit(text, size):
    assert parse_size(text, "-m") == size


@pytest.mark.parametrize("text", ["", "M", "-5", "1.5G", "5X", "0x10", "G2", "512MB", "512B", "B"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(UserError, match="not a size"):
        parse_size(text, "-m")


def test_options_reach_the_machine_in_one_dash_or_two_and_nothing_else_does(command, machine, tmp_path):
    kernel = tmp_path / "uImage"
    kernel.write_text("kernel")
    done = command(
        "run", "-M", "ppce500", "--cpu", "e6500", "-smp", "cores=2,threads=2", "-m", "1G", "--kernel", str(kernel),
        "-initrd", str(kernel), "-append", "console=ttyS0 stop", "-nographic", "-no-reboot",
        "-device", f"loader,file={kernel},addr=0x1000,cpu-num=1", "-device", f"loader,file={kernel}",
        "-device", "virtio-rng-pci,addr=3", "-drive", "file=disk,if=none,id=d", "-device", "virtio-blk-pci,drive=d",
        "-blockdev", "driver=file,filename=f,node-name=n", "-snapshot",
    )  # fmt: skip
    assert done.status == 0
    assert machine.last.arguments == {
        "board": "ppce500", "cpu": "e6500", "cores": 2, "threads": 2, "memory": 1 << 30, "kernel": str(kernel),
        "initrd": str(kernel), "append": "console=ttyS0 stop", "no_reboot": True,
        "loaders": [LoaderDevice(str(kernel), 0x1000, 1), LoaderDevice(str(kernel))],
        "devices": ["virtio-rng-pci,addr=3", "virtio-blk-pci,drive=d"], "drives": ["file=disk,if=none,id=d"],
        "blockdevs": ["driver=file,filename=f,node-name=n"], "snapshot": True,
    }  # fmt: skip
    assert command("run").status == 0
    assert machine.last.arguments == {}


def test_a_guest_by_name_brings_its_options_and_the_users_win(command, machine, tmp_path, monkeypatch):
    for name in ("uImage-k32", "initramfs32.cpio.gz"):
        (tmp_path / name).write_text(name)
    monkeypatch.setenv("POWERVISOR_GUESTS", str(tmp_path))
    assert command("run", "-guest", "linux", "-smp", "4", "-append", "stop").status == 0
    arguments = machine.last.arguments
    assert arguments["kernel"] == str(tmp_path / "uImage-k32")
    assert arguments["initrd"] == str(tmp_path / "initramfs32.cpio.gz")
    assert (arguments["cpu"], arguments["cores"]) == ("e500mc", 4)
    assert arguments["append"] == "console=ttyS0 stop"
    assert command("run", "-guest", "builtin").status == 0
    assert "kernel" not in machine.last.arguments


def test_guests_that_an_administrator_prepared_are_found_last(command, machine, tmp_path, monkeypatch):
    prepared, own = tmp_path / "system", tmp_path / "own"
    for directory in (prepared / "guests", own / "guests"):
        directory.mkdir(parents=True)
        (directory / "uImage-k32").write_text("kernel")
    (prepared / "guests/initramfs32.cpio.gz").write_text("initrd")
    monkeypatch.delenv("POWERVISOR_GUESTS", raising=False)
    monkeypatch.setenv("POWERVISOR_CACHE", str(own))
    monkeypatch.setattr("powervisor.cache.place.SYSTEM", prepared)
    monkeypatch.setattr("powervisor.__file__", str(tmp_path / "powervisor/__init__.py"))
    assert command("run", "k32").status == 0
    assert machine.last.arguments["kernel"] == str(own / "guests/uImage-k32")
    assert machine.last.arguments["initrd"] == str(prepared / "guests/initramfs32.cpio.gz")


def test_a_guest_that_is_built_anew_but_found_elsewhere_is_told(command, tmp_path, monkeypatch):
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen/uboot.elf").write_text("old")
    monkeypatch.setenv("POWERVISOR_GUESTS", str(tmp_path / "chosen"))
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    monkeypatch.setattr("powervisor.guests.uboot.build", lambda argument, path, work, progress: path.write_text("new"))
    done = command("guests", "build", "uboot", "-force")
    assert done.status == 0 and done.out == f"{tmp_path}/guests/uboot.elf\n"
    assert f"{tmp_path}/chosen/uboot.elf is found before it" in done.err
    assert not command("guests", "build", "uboot").err


@pytest.mark.parametrize("words", [["hypervisor-demo"], ["-guest", "hypervisor-demo"]])
def test_a_guest_of_the_package_is_built_for_the_core(command, machine, monkeypatch, words):
    from powervisor.guests import hypervisor_demo

    monkeypatch.setattr(hypervisor_demo, "image", lambda bits: f"for {bits} bits")
    assert command("run", "-cpu", "e500mc", *words, "-smp", "2").status == 0
    assert machine.last.arguments == {
        "cpu": "e500mc",
        "cores": 2,
        "threads": 1,
        "kernel": "for 32 bits",
        "no_reboot": True,
    }
    for options in ([], ["-cpu", "e6500"]):
        assert command("run", *words, *options).status == 0
        assert machine.last.arguments["kernel"] == "for 64 bits"


def test_dtb_takes_a_guest_as_run_does(command, machine, tmp_path, monkeypatch):
    for name in ("uImage-k64", "initramfs64.cpio.gz"):
        (tmp_path / name).write_text(name)
    monkeypatch.setenv("POWERVISOR_GUESTS", str(tmp_path))
    options = ["-guest", "k64", "-smp", "3", "-append", "quiet"]
    assert command("run", *options).status == 0
    wanted = machine.last.arguments
    assert (wanted["cpu"], wanted["cores"], wanted["append"]) == ("e5500", 3, "console=ttyS0 quiet")
    assert command("dtb", *options).status == 0
    assert machine.last.arguments == wanted


def test_dtb_prints_source_or_writes_a_blob(command, machine, tmp_path):
    assert 'model = "fake";' in command("dtb").out
    path = tmp_path / "tree.dtb"
    assert command("dtb", "-smp", "2", "-serial", "pty", "-serial", "none", "-o", str(path)).status == 0
    assert path.read_bytes().startswith(b"\xd0\x0d\xfe\xed")
    assert machine.last.arguments["cores"] == 2
    assert machine.last.serial[1] is None
    assert "cannot write there" in command("dtb", "-o", "/nonexistent/x").err


def test_the_library_names_its_arguments_and_the_command_line_its_options(command):
    from powervisor import Machine

    with pytest.raises(UserError, match="^memory 100 MiB: ppce500 takes multiples of 64 MiB"):
        Machine(memory=100 << 20)
    with pytest.raises(UserError, match="^kernel /nonexistent: No such file"):
        Machine(kernel="/nonexistent")
    assert "run: -m 100 MiB: ppce500" in command("run", "-serial", "null", "-m", "100").err
    assert "run: -kernel /nonexistent: No such" in command("run", "-serial", "null", "-kernel", "/nonexistent").err
    with pytest.raises(UserError, match="^cores 33: "):
        Machine(cores=33)


def test_append_reaches_the_guest_byte_for_byte(command, tmp_path):
    text = os.fsdecode(b"caf\xe9 \xff")
    assert command("dtb", "-append", text, "-o", str(tmp_path / "tree.dtb")).status == 0
    assert b"caf\xe9 \xff\0" in (tmp_path / "tree.dtb").read_bytes()


def test_a_bug_shows_a_traceback_and_asks_to_report_it(command, machine, monkeypatch):
    monkeypatch.setattr(machine, "start", lambda self: 1 // 0)
    done = command("run")
    assert done.status == 70
    assert "ZeroDivisionError" in done.err
    assert "report it with your command" in done.err
