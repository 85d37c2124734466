"""What command lines of QEMU come to, and what is refused, in one line that says what to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from powervisor.cli.document import document
from powervisor.cli.machine_options import machine_arguments
from powervisor.cli.system import main, parser_for
from powervisor.console import stdio
from powervisor.errors import UserError
from tests.launcher.lines import started


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A directory to work in, with a key, a key of the wrong length and a disk."""
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "short").write_bytes(bytes(31))
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def launch(monkeypatch, capfd):
    """Runs a command line of a program; gives status, output, error output."""
    monkeypatch.setattr(stdio, "_stamped", str)  # -msg says it for the whole process

    def run(*words: str, program: str = "powervisor-system-ppc64") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"/usr/bin/{program}"])
        status = main(words)
        return status, *capfd.readouterr()

    return run


@pytest.mark.parametrize("form", ["json", "key=value"])
def test_libvirts_line_reaches_the_machine(files, form):
    line = started(form, kernel="k", key="key", monitor=29, disk="disk", cpu="POWERPC_e5500")
    options = parser_for("ppc64").parse(line)
    found = machine_arguments(options)
    board = {"board": "ppce500", "cpu": "e5500", "cores": 2, "threads": 1, "memory": 64 << 20}
    boot = {"kernel": "k", "append": "a=1,2 'b'", "name": "lab"}
    assert found | board | boot == found
    assert sorted(found["devices"]) == [
        "virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x4",
        "virtio-blk-pci,bus=pci.0,addr=0x3,drive=libvirt-1-format,id=virtio-disk0,bootindex=1,write-cache=on",
        "virtio-net-pci,netdev=hostnet0,id=net0,mac=52:54:00:12:34:56,bus=pci.0,addr=0x1",
        "virtio-rng-pci,rng=objrng0,id=rng0,bus=pci.0,addr=0x5",
    ]
    assert found["netdevs"] == ["user,id=hostnet0"] and found["objects"] == []
    assert options.held and options.no_shutdown and options.nodefaults and options.msg.timestamp


@pytest.mark.parametrize("name", ["42", "x" * 100])
def test_a_name_that_powervisor_stat_could_not_take_is_libvirts_all_the_same(name):
    words = ["-kernel", "k", "-name", f"guest={name}"]
    options = parser_for("ppc64").parse(words)
    assert options.machine_name.guest == name and "name" not in machine_arguments(options)
    with pytest.raises(UserError, match=f"-name {name}: cannot be a name; write at most 64 characters"):
        machine_arguments(parser_for("").parse(words))


def test_messages_can_say_when_and_of_which_machine_they_are(launch):
    words = ["-name", "lab", "-msg", "timestamp=on,guest-name=on", "-M", "none"]
    _, _, err = launch(*words)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z lab: powervisor-system-ppc64: -M none: .*\n", err), err


@pytest.mark.parametrize(("program", "cpu"), [("ppc", "e500mc"), ("ppc64", None)])
def test_each_program_has_a_core_of_its_own(program, cpu):
    assert machine_arguments(parser_for(program).parse(["-kernel", "k"])).get("cpu") == cpu


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["-m", "256"], {"memory": 256 << 20}),
        (["-m", "size=262144k"], {"memory": 256 << 20}),
        (["-m", "size=1G,slots=0,maxmem=1048576k"], {"memory": 1 << 30}),
        (["-smp", "4,maxcpus=4,sockets=1,dies=1,clusters=1,cores=4,threads=1"], {"cores": 4, "threads": 1}),
        (["-cpu", "e6500", "-smp", "8,sockets=2,cores=2,threads=2"], {"cores": 4, "threads": 2}),
        (["-M", "ppce500,accel=kvm:tcg,hypervisor=on"], {"board": "ppce500,hypervisor=on"}),
        (["-machine", "type=ppce500,mem-merge=off"], {"board": "ppce500"}),
        (["-accel", "tcg,thread=multi"], {}),
        (["-name", "lab"], {"name": "lab"}),
        (["-action", "reboot=shutdown,panic=pause"], {}),
        (["-mem-prealloc", "-mem-path", "/dev/hugepages"], {"mem_path": "/dev/hugepages", "mem_prealloc": True}),
        (
            ["-M", "ppce500,memory-backend=r", "-object",
             '{"qom-type":"memory-backend-file","id":"r","mem-path":"/dev/hugepages/a,b","prealloc":true,"size":4096}'],
            {"memory": 4096, "mem_path": "/dev/hugepages/a,b", "mem_prealloc": True},
        ),
        (["-M", "ppce500,memory-backend=r", "-object", "memory-backend-memfd,id=r,size=64M,share=on"],
         {"memory": 64 << 20}),
        (["-object", "secret,id=k,data=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,format=base64"], {}),
        (["-device", "driver=virtio-rng-pci,rng=g", "-object", '{"qom-type":"rng-builtin","id":"g"}'],
         {"devices": ["virtio-rng-pci,rng=g"]}),
        (["-netdev", '{"type":"user","id":"n","hostfwd":[{"str":"tcp::2222-:22"},{"str":"tcp::2223-:23"}]}',
          "-device", '{"driver":"virtio-net-pci","netdev":"n","mac":"52:54:00:00:00:01"}'],
         {"netdevs": ["user,id=n,hostfwd=tcp::2222-:22,hostfwd=tcp::2223-:23"]}),
    ],
)  # fmt: skip
def test_words_of_qemu(files, words, arguments):
    found = machine_arguments(parser_for("ppc64").parse(["-kernel", "k", *words]))
    assert found | arguments == found


BACKEND = "ppce500,memory-backend=r"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-hda", "x"], "-hda: write -drive file=FILE"),
        (["-enable-kvm"], "-enable-kvm: .*leave it out"),
        (["-vnc", ":0"], "-vnc: the machine has no display"),
        (["-d", "in_asm"], "-d: write -trace EVENTS"),
        (["-fw_cfg", "name=x"], "-fw_cfg: no such option"),
        (["-display", "gtk"], "-display gtk: there is no display; write -display none"),
        (["-net", "nic"], "-net nic: write -netdev user"),
        (["-sandbox", "on,obsolete=deny"], "-sandbox on,obsolete=deny: "),
        (["-rtc", "base=localtime"], "base=localtime is not one of utc; that is <clock offset='utc'/>"),
        (["-boot", "order=d"], "-boot order=d: unknown property 'order'; it takes strict, menu"),
        (["-audiodev", '{"id":"a","driver":"alsa"}'], "driver=alsa is not one of none"),
        (["-machine", "ppce500,usb=on"], "usb=on is not one of off"),
        (["-machine", "pseries"], "-M pseries: no such board"),
        (["-accel", "kvm"], "-accel kvm: no such accelerator"),
        (["-cpu", "e500v2"], "-cpu e500v2: no such core"),
        (["-m", "256,slots=2,maxmem=1G"], "slots=2 is not within 0..0"),
        (["-m", "256,maxmem=1G"], "no memory can be added later"),
        (["-object", '{"qom-type":"secret","id":"k","format":"raw","file":"short"}'],
         "-object secret,id=k: 31 bytes, and a key of AES-256 has 32"),
        (["-object", "secret,id=k,file=none"], "none cannot be read"),
        (["-object", "secret,id=k"], "give either file= or data="),
        (["-object", "iothread,id=i"], "-object iothread: there is no such type"),
        (["-object", '{"id":"r"}'], "'qom-type' is missing"),
        (["-object", '{"qom-type":'], "not JSON"),
        (["-blockdev", r'{"driver":"file","filename":"\ud800","node-name":"n"}'], "-blockdev .* such a character"),
        (["-blockdev", r'{"driver":"file","filename":"a\u0000b","node-name":"n"}'], "-blockdev .* such a character"),
        (["-object", "secret,id=k,data=\udcff"], "-object secret,id=k: 1 bytes"),
        (["-object", '{"qom-type":"rng-random","id":"r","filename":"/dev/hwrng"}'], "/dev/hwrng is not one of"),
        (["-device", "virtio-rng-pci,rng=none"], "rng=none: no such rng; .*add -object rng-builtin,id=none"),
        (["-device", '{"driver":"qemu-xhci"}'], "-device qemu-xhci: no device of that name"),
        (["-device", "virtio-blk-pci,drive=d,iothread=i"], "unknown property 'iothread'"),
        (["-M", BACKEND], "memory-backend=r: no such memory-backend"),
        (["-object", "memory-backend-ram,id=r,size=64M"], "id=r: nothing uses it; add memory-backend="),
        (["-M", BACKEND, "-object", "memory-backend-ram,id=r,size=64M", "-m", "128"], "64 MiB, and -m says 128 MiB"),
        (["-M", BACKEND, "-object", "memory-backend-memfd,id=r,size=64M,hugetlb=on"], "hugetlb=on is not one of off"),
        (["-add-fd", "fd=1,set=1"], "-add-fd fd=1: not one that was handed over"),
        (["-add-fd", "fd=1000,set=1"], "-add-fd fd=1000: Bad file descriptor; open it before"),
        (["-add-fd", "set=1"], "fd= and set= are both needed"),
        (["-daemonize", "-serial", "stdio"], "-daemonize: there is no terminal then for stdio"),
        (["-pidfile", "none/p"], "-pidfile none/p: cannot write there"),
        (["-pidfile", "/dev/full"], "-pidfile /dev/full: cannot be written"),
        (["-chardev", "socket,id=m,fd=1000,server=on", "-mon", "m"], "fd=1000 is no socket"),
        (["-incoming", "tcp:0:4444"], "-incoming tcp:0:4444: write -incoming defer"),
        (["-no-shutdown"], "-no-shutdown: nothing could let the machine go on; add -qmp"),
        (["-M", "none"], "-M none: nothing could be done with it; add -qmp"),
        (["disk.qcow2"], "disk.qcow2: not an option"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_to_do(files, launch, words, says):
    status, out, err = launch("-kernel", "disk", *words)
    assert status in (1, 2) and out == ""
    assert err.startswith("powervisor-system-ppc64: ") and err.count("\n") == 1, err
    assert re.search(says, err), err


def test_each_program_refuses_what_it_does_not_have(launch):
    status, _, err = launch("-kernel", "k", "-cpu", "e5500", program="powervisor-system-ppc")
    assert status == 1 and err == (
        "powervisor-system-ppc: -cpu e5500: a 64-bit core; take powervisor-system-ppc64 for it\n"
    )
    assert launch()[::2] == (1, "powervisor-system-ppc64: there is nothing to run; add -kernel or -bios\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-version", "powervisor-system-ppc64"),
        ("-machine help", "ppce500"),
        ("-machine ppce500,help", "memory-backend=text"),
        ("-cpu help", "e6500"),
        ("-accel help", "tcg"),
        ("-device help", "virtio-blk-pci"),
        ("-device virtio-blk-pci,help", "bootindex="),
        ("-object help", "memory-backend-file"),
        ("-object rng-random,help", "filename="),
        ("-netdev help", "user"),
        ("-chardev help", "socket"),
        ("-chardev socket,help", "fd="),
        ("--smp ?", "sockets="),
        ("-rtc help", "base=utc"),
    ],
)
def test_help(launch, words, says):
    status, out, _ = launch(*words.split())
    assert status == 0 and says in out


def test_only_cores_that_are_taken_are_listed(launch):
    listing = launch("-cpu", "help", program="powervisor-system-ppc")[1]
    assert "e500mc" in listing and "e5500" not in listing


def test_help_has_every_option_but_those_that_are_refused(launch, capfd):
    with pytest.raises(SystemExit) as ended:
        launch("-help")
    page = capfd.readouterr().out
    assert ended.value.code == 0 and "usage: powervisor-system-ppc64" in page
    assert "-daemonize" in page and "-kernel FILE" in page and "-spice" not in page


def test_the_page_is_current():
    page = Path(__file__).parents[2] / "docs" / "launcher.md"
    assert page.read_text() == document(), "run: python -m powervisor.cli.document > docs/launcher.md"
