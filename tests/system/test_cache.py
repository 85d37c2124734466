"""Machines and the cache: they share it, survive what is wrong in it, and do without it."""

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from powervisor.cache.images import FOLDER
from powervisor.cache.place import root
from powervisor.cache.regions import FILE, digest
from powervisor.isa import cores
from powervisor.native.elf import Object, RelocationError
from powervisor.translate.tier1.shape import Block, Region
from powervisor.translate.tier1.store import RegionStore, open_store
from powervisor.translate.tier1.worker import compile_region
from tests.system.bare import bare_machine, results

TREE = Path(__file__).resolve().parents[2]
LOOPS = """
    load32 r6, RESULTS
    li     r3, 0
    li     r4, 20000
    mtctr  r4
1:  addi   r3, r3, 3
    bdnz   1b
    mtctr  r4
2:  addi   r3, r3, 2
    bdnz   2b
    stw    r3, 0(r6)
3:  b      3b
"""
RIGHT = 20000 * 5
"""What LOOPS leaves."""
REGION = Region("e5500", 1, (0,), (Block(0, (0x38630003, 0x4200FFFC)),))
"""addi r3,r3,3; bdnz back to it."""


def run(**options) -> dict:
    """Run LOOPS to its end; what tier 1 counted."""
    with bare_machine(LOOPS, **options) as machine:
        machine.start()
        deadline = time.monotonic() + 60
        while results(machine, 1)[0] != RIGHT and time.monotonic() < deadline:
            time.sleep(0.01)
        machine.stop()
        assert results(machine, 1)[0] == RIGHT
        return json.loads(json.dumps(machine.statistics()))["regions"]


@pytest.fixture
def regions(tmp_path, monkeypatch):
    """A database of regions of its own, and a machine that compiles whatever it executes."""
    with bare_machine(LOOPS) as machine:  # its image is to be there
        if machine.vm.engine.coming is not None:
            machine.vm.engine.coming.wait()
    (tmp_path / FOLDER).symlink_to(root() / FOLDER)
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    monkeypatch.setenv("POWERVISOR_TIER1", "force")
    return tmp_path / FILE


def test_regions_are_compiled_once(regions):
    first = run()
    assert first["compiled"] >= 1 and not first["from_cache"]
    second = run()
    assert second["from_cache"] >= 1 and not second["compiled"]


def test_damaged_regions_are_compiled_anew(regions):
    run()
    with contextlib.closing(sqlite3.connect(regions)) as database:
        database.execute("UPDATE regions SET object = substr(object, 1, length(object) - 1) || x'55'")
        database.commit()
    again = run()
    assert again["compiled"] >= 1 and not again["from_cache"]
    assert run()["from_cache"] >= 1


@pytest.mark.parametrize("change", [lambda code: code[:200], lambda code: b"", lambda code: bytes(len(code))])
def test_objects_that_are_none_harm_nothing_and_go(regions, change):
    run()
    with contextlib.closing(sqlite3.connect(regions)) as database:
        for number, mark, code in database.execute("SELECT id, mark, object FROM regions").fetchall():
            changed = change(code)
            check = digest(mark, changed)
            database.execute("UPDATE regions SET object = ?, digest = ? WHERE id = ?", (changed, check, number))
        database.commit()
    refused = run()["refused"]
    assert all(name.startswith("object: ") for name in refused)
    run()
    assert run()["refused"] == {}


def test_a_database_that_is_damaged_under_a_machine(regions):
    stop = threading.Event()

    def damage() -> None:
        chance = random.Random(3)
        while not stop.wait(0.005):
            with contextlib.suppress(OSError), open(regions, "r+b") as file:
                file.seek(chance.randrange(20000))
                file.write(chance.randbytes(chance.choice((1, 100, 5000))))

    thread = threading.Thread(target=damage)
    thread.start()
    try:
        for _ in range(3):
            run()
    finally:
        stop.set()
        thread.join()


def test_machines_of_several_processes_share_regions(regions):
    program = "from tests.system.test_cache import run; print(run())"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    time.sleep(0.5)
    processes[0].send_signal(signal.SIGKILL)
    counted = [run() for _ in range(2)]
    for process in processes[1:]:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err.decode()
    processes[0].communicate()
    assert counted[-1]["from_cache"] >= 1


def test_several_machines_of_a_process_share_regions(regions):
    run()
    with bare_machine(LOOPS) as first, bare_machine(LOOPS) as second:
        for machine in (first, second):
            if machine.vm.engine.coming is not None:  # each has an image for its own address
                machine.vm.engine.coming.wait()
            machine.start()
        deadline = time.monotonic() + 60
        while {results(m, 1)[0] for m in (first, second)} != {RIGHT} and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [results(m, 1)[0] for m in (first, second)] == [RIGHT, RIGHT]
    assert run()["from_cache"] >= 1


def test_clearing_under_a_running_machine(regions, capfd):
    from powervisor.cli.main import main

    with bare_machine(LOOPS) as machine:
        machine.start()
        assert main(["cache", "clear", "regions"]) == 0
        machine.run(seconds=0.2)
    run()


def test_without_a_cache_nothing_is_read_or_written(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with bare_machine(LOOPS, cache=False) as machine:
        before = {path.name for path in tmp_path.iterdir()}
        coming = machine.vm.engine.coming
        machine.run(seconds=0.3)
        assert results(machine, 1)[0] == RIGHT
    assert coming is not None
    begin = time.monotonic()
    coming.wait()
    assert time.monotonic() - begin < 2, "nobody could use the image any more"
    assert {path.name for path in tmp_path.iterdir()} <= before
    with contextlib.closing(open_store(cores.get("e5500"), cache=False)) as store:
        store.keep(REGION, {0: 1}.get, b"object")
        assert not store.find("e5500", 1, {0: 1}.get, 0)


@pytest.mark.slow
def test_an_image_comes_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", "/dev/null/none")
    with bare_machine(LOOPS) as machine:
        machine.start()
        coming = machine.vm.engine.coming
        assert coming is not None
        coming.wait()
        deadline = time.monotonic() + 10
        while machine.vm.engine.coming is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert machine.vm.engine.coming is None
        assert results(machine, 1)[0] == RIGHT


def test_rows_of_another_version_core_or_mode_are_not_found(tmp_path):
    words = {0: 1, 4: 2}.get
    with contextlib.closing(RegionStore(tmp_path, "one")) as store:
        store.keep(REGION, words, b"object")
        assert [(one.region, store.object(one)) for one in store.find("e5500", 1, words, 0)] == [(REGION, b"object")]
        assert not store.find("e6500", 1, words, 0)
        assert not store.find("e5500", 3, words, 0)
        assert not store.find("e5500", 1, {0: 1, 4: 3}.get, 0)
    with contextlib.closing(RegionStore(tmp_path, "two")) as store:
        assert not store.find("e5500", 1, words, 0)


def test_object_files_that_are_damaged_are_refused():
    code = compile_region(REGION)
    assert Object(code).symbols
    for length in range(len(code)):
        with pytest.raises(RelocationError):
            Object(code[:length])
    chance = random.Random(4)
    refused = 0
    for _ in range(2000):
        data = bytearray(code)
        data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            Object(bytes(data))
        except RelocationError:
            refused += 1
    assert refused > 20
