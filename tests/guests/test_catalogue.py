"""Where guests are looked for, and when they are built."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from powervisor.errors import UserError
from powervisor.guests import catalogue
from powervisor.guests.catalogue import Artifact, Guest

FILES = ["uImage-k32", "initramfs32.cpio.gz"]


@pytest.fixture
def places(monkeypatch, tmp_path):
    """A cache and a directory filled by somebody else, both empty; nothing of this machine is seen."""
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POWERVISOR_GUESTS", str(tmp_path / "given"))
    monkeypatch.setattr(catalogue.powervisor, "__file__", str(tmp_path / "site" / "powervisor" / "__init__.py"))
    (tmp_path / "given").mkdir()
    return tmp_path


@pytest.fixture
def builder(monkeypatch):
    """A builder module `powervisor.guests.fake`, which counts its builds."""
    module = ModuleType("powervisor.guests.fake")
    module.built = []
    module.fail = None

    def build(argument, path, work, progress):
        progress.step("making", total=2)
        module.built.append(argument)
        path.write_text("half")
        time.sleep(0.02)
        if module.fail:
            raise module.fail
        path.write_text(argument)
        progress.advance()

    module.build, module.installed = build, lambda argument: None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


GUEST = Guest("g", "a guest", {"cpu": "e5500"}, {"kernel": Artifact("image", "fake", "contents")})


def test_linux_is_k32_and_an_unknown_name_gets_the_nearest():
    assert catalogue.get("linux") is catalogue.get("k32")
    with pytest.raises(UserError, match="-guest k46: no such guest; there is .*k64"):
        catalogue.get("k46")


def test_somebody_elses_directory_comes_before_the_cache(places):
    cache = places / "cache" / "guests"
    cache.mkdir(parents=True)
    for name in FILES:
        (cache / name).write_text("cached")
    guest = catalogue.get("k32")
    assert catalogue.build(guest) == [cache / name for name in FILES]
    (places / "given" / FILES[0]).write_text("given")
    assert catalogue.build(guest) == [places / "given" / FILES[0], cache / FILES[1]]
    assert catalogue.where(guest) == f"{places / 'given'}, {cache}"


def test_beside_a_source_tree_shared_guests_are_taken(places):
    (places / "site" / "pyproject.toml").parent.mkdir()
    (places / "site" / "pyproject.toml").write_text("")
    shared = places / "shared" / "guests"
    shared.mkdir(parents=True)
    (shared / FILES[0]).write_text("")
    assert catalogue.locate(catalogue.get("k32").files["kernel"]) == shared / FILES[0]


def test_the_cache_follows_xdg_without_a_choice_of_ours(monkeypatch):
    monkeypatch.delenv("POWERVISOR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert catalogue.cache() == Path("/x/powervisor/guests")


def test_a_list_says_what_to_type_for_a_guest_that_is_not_built(places):
    assert catalogue.where(catalogue.get("k64")) == "not built yet (powervisor guests build k64)"
    assert catalogue.where(catalogue.get("builtin")) == "ready"


def test_a_missing_file_is_built_once(places, builder, capsys):
    assert catalogue.machine_arguments(GUEST) == {"cpu": "e5500", "kernel": str(places / "cache" / "guests" / "image")}
    assert catalogue.build(GUEST)[0].read_text() == "contents"
    assert builder.built == ["contents"]
    assert "g: image: making\n" in capsys.readouterr().err


def test_force_builds_anew_even_what_is_elsewhere(places, builder):
    (places / "given" / "image").write_text("given")
    assert catalogue.build(GUEST)[0].read_text() == "given"
    assert catalogue.build(GUEST, force=True)[0].read_text() == "contents"


def test_a_failed_build_leaves_nothing_that_looks_finished(places, builder):
    builder.fail = UserError("no compiler")
    with pytest.raises(UserError, match="no compiler"):
        catalogue.build(GUEST)
    assert catalogue.locate(GUEST.files["kernel"]) is None


def test_two_at_a_time_build_once(places, builder):
    threads = [threading.Thread(target=catalogue.build, args=(GUEST,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.built == ["contents"]


def test_a_cache_that_cannot_be_written_says_which_variable_to_set(places, builder, monkeypatch):
    (places / "file").write_text("")
    monkeypatch.setenv("POWERVISOR_CACHE", str(places / "file"))
    with pytest.raises(UserError, match="set POWERVISOR_CACHE"):
        catalogue.build(GUEST)


def test_every_artifact_has_its_builder():
    for guest in catalogue.GUESTS.values():
        for artifact in guest.files.values():
            module = artifact._module()
            assert callable(module.build)
            assert artifact.installed() is None or artifact.installed().name == artifact.name


def test_sigterm_ends_a_build_with_its_compilers(places):
    """What `timeout 60 powervisor guests build k32` does."""
    (places / "Makefile").write_text(f"slow:\n\techo $$$$ > {places}/pid; sleep 60\n")
    program = (
        "import sys, types; from pathlib import Path\n"
        "from powervisor.guests import catalogue\n"
        "from powervisor.guests.linux.make import make\n"
        "module = types.ModuleType('powervisor.guests.slow'); sys.modules[module.__name__] = module\n"
        f"module.build = lambda *_: make(Path({str(places)!r}), ['slow'], Path({str(places / 'log')!r}))\n"
        "module.installed = lambda argument: None\n"
        "catalogue.build(catalogue.Guest('g', '', {}, {'kernel': catalogue.Artifact('image', 'slow', 'x')}))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)

    def wait_for(condition):
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert condition()

    pid_file = places / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    child.terminate()
    assert child.wait(30) == 128 + signal.SIGTERM
    wait_for(lambda: not Path("/proc", pid_file.read_text().strip()).exists())


def test_a_packed_file_is_made_anew_for_every_use_after_what_it_is_made_of(places, builder):
    part = Artifact("part", "fake", "a part")
    builder.parts = lambda argument: [part]
    guest = Guest("g", "a guest", files={"initrd": Artifact("packed", "fake", "the whole", packed=True)})
    assert catalogue.where(guest) == "not built yet (powervisor guests build g)"
    for _ in range(2):
        (path,) = catalogue.build(guest)
        assert path.read_text() == "the whole"
    assert builder.built == ["a part", "the whole", "the whole"]


def test_a_guest_with_another_inside_is_made_of_both_and_the_monitor():
    (kernel, initrd) = catalogue.get("kvm-k64").files.values()
    plain = catalogue.get("k64").files
    assert kernel == plain["kernel"]
    monitor, *rest = initrd.parts()
    assert monitor.name.startswith("vmm64-") and rest == list(plain.values())
