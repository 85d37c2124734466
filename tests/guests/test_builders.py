"""What the builders decide without compiling anything: sources, packages, configurations, messages."""

import io
import tarfile

import pytest

from powervisor.errors import UserError
from powervisor.guests import debian
from powervisor.guests.linux import initramfs, kernel
from powervisor.guests.linux.make import make, unpack
from powervisor.guests.progress import Progress

DEB822 = """\
Types: deb
# a comment
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://packages.example.org/apt
Suites: stable
Components: main

Types: deb
URIs: http://off.example.org
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://inline.example.org
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
"""
ONE_LINE = """\
# deb http://commented.example.org bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example.org/debian bookworm main non-free # why
deb-src http://mirror.example.org/debian bookworm/updates main
deb https://other.example.org cloud-bookworm main
deb http://contrib.example.org bookworm contrib
"""


def test_this_releases_archives_are_found_in_both_forms_and_others_are_left_out():
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert debian.source_entries([("debian.sources", DEB822), ("sources.list", ONE_LINE)], "bookworm") == [
        f"{key} http://deb.debian.org/debian bookworm main",
        f"{key} http://deb.debian.org/debian bookworm-updates main",
        "http://deb.debian.org/debian-security bookworm-security main",
        "[signed-by=/k.gpg] http://mirror.example.org/debian bookworm main",
        "http://mirror.example.org/debian bookworm/updates main",
    ]


def test_missing_packages_are_named_with_the_command_to_type_when_not_root(monkeypatch):
    monkeypatch.setattr(debian, "_installed", lambda package: package == "make")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="sudo apt-get install bison flex$"):
        debian.require(["make", "bison", "flex"], Progress("x"))
    debian.require(["make"], Progress("x"))


def test_without_apt_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="set POWERVISOR_GUESTS"):
        debian.require([], Progress("x"))


def test_a_failing_command_tells_its_complaint():
    with pytest.raises(UserError, match="^testing failed: E: no such package$"):
        debian.run(["sh", "-c", "echo W: old; echo 'E: no such package' >&2; exit 100"], "testing")
    with pytest.raises(UserError, match="nonexistent-tool is not installed"):
        debian.run(["nonexistent-tool"], "testing")
    assert debian.run(["echo", "fine"], "testing") == "fine\n"


@pytest.mark.parametrize("name", kernel.KERNELS)
def test_each_kernel_asks_for_its_core_a_console_and_ways_to_power_off(name):
    wanted = kernel.configuration(name)
    core = {"k32": "CONFIG_E500MC_CPU", "k64": "CONFIG_E5500_CPU", "k64av": "CONFIG_E6500_CPU"}[name]
    power = "CONFIG_POWER_RESET_GPIO", "CONFIG_KEYBOARD_GPIO", "CONFIG_INPUT_EVDEV"
    for key in (core, "CONFIG_SMP", "CONFIG_SERIAL_8250_CONSOLE", *power, "CONFIG_FSL_SOC_BOOKE"):
        assert wanted[key] == "y"
    assert ("CONFIG_PPC64" in wanted) == (kernel.KERNELS[name].bits == 64)


def test_an_option_the_source_drops_is_reported():
    kernel._check({"CONFIG_A": "y", "CONFIG_B": "n"}, "CONFIG_A=y\n# CONFIG_B is not set\n", "k32")
    with pytest.raises(UserError, match="does not take CONFIG_B"):
        kernel._check({"CONFIG_A": "y", "CONFIG_B": "y"}, "CONFIG_A=y\n# CONFIG_B is not set\n", "k32")


def test_busyboxs_configuration_is_changed_in_place_and_completed():
    config = "CONFIG_TC=y\n# CONFIG_STATIC is not set\nCONFIG_ASH=y\n"
    changed = initramfs.changed(config, {"CONFIG_STATIC": "y", "CONFIG_TC": "n", "CONFIG_NEW": '"x"'})
    assert changed == '# CONFIG_TC is not set\nCONFIG_STATIC=y\nCONFIG_ASH=y\nCONFIG_NEW="x"\n'


def test_make_counts_steps_and_a_failure_names_the_first_error_and_the_log(tmp_path):
    (tmp_path / "Makefile").write_text(
        "good:\n\t@echo '  CC      a.o'\n\t@echo '  LD      a'\nbad:\n\t@echo 'x.c:1: error: no semicolon'; false\n"
    )
    steps = []
    progress = Progress("x")
    progress.advance = lambda: steps.append(1)
    make(tmp_path, ["good"], tmp_path / "log", progress)
    assert len(steps) == 2
    with pytest.raises(UserError, match=r"make bad failed: x.c:1: error: no semicolon; everything is in .*log"):
        make(tmp_path, ["bad"], tmp_path / "log")
    assert "no semicolon" in (tmp_path / "log").read_text()


def test_a_tree_is_unpacked_without_its_top_and_without_what_is_not_wanted(tmp_path):
    archive = tmp_path / "linux.tar.xz"
    names = [
        "v/Makefile", "v/arch/powerpc/a.c", "v/arch/x86/b.c", "v/arch/x86/Kconfig", "v/sound/c.c", "v/sound/Kconfig",
        "v/arch/Kconfig", "v/Documentation/Makefile", "v/Documentation/text",
    ]  # fmt: skip
    with tarfile.open(archive, "w:xz") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    unpack(archive, tmp_path / "tree", kernel._needed)
    kept = sorted(str(p.relative_to(tmp_path / "tree")) for p in (tmp_path / "tree").rglob("*") if p.is_file())
    assert kept == ["Documentation/Makefile", "Makefile", "arch/Kconfig", "arch/powerpc/a.c", "arch/x86/Kconfig",
                    "sound/Kconfig"]  # fmt: skip
