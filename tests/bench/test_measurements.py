"""The benchmark's arithmetic, tables, and dealings with VMMs, without booting anything."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from bench import counters, inside, machines, measure, programs, report, tables
from bench.__main__ import main
from bench.machines import Job, Run, Vmm
from bench.peer import CONTENT, Peer
from bench.programs import Kind, Score, Sources
from powervisor.errors import UserError

JOB = Job("e500mc", "2", "512", "uImage", "rd", "console=ttyS0 stop ")


def score(name: str, value: float, kind: Kind = Kind.INTEGER, check: str = "0000beef") -> Score:
    return Score(name, kind, 1.0, value, "x/s", check)


def fake(script: str) -> Vmm:
    """A VMM that is a Python program; it sees the machine's options as arguments."""
    return Vmm("fake", (sys.executable, "-u", "-c", script))


def compared(*ratios: float, kind: Kind = Kind.INTEGER) -> report.CoreResult:
    """A result in which ours is so many times as fast."""
    result = report.CoreResult("e500mc", ["qemu", "powervisor"])
    result.runs["qemu"] = [Run(1.0, [score(f"p{n}", 10, kind) for n in range(len(ratios))])]
    result.runs["powervisor"] = [Run(1.0, [score(f"p{n}", 10 * ratio, kind) for n, ratio in enumerate(ratios)])]
    return result


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_score_lines_are_read_from_a_console_and_others_are_not():
    text = "[    1.0] boot\r\nBENCH nbody      time_s=1.250 score=10.50 x/s check=00abcdef\r\nBENCH nonsense\n"
    text += "BENCH matmul time_s=0.1 score=55 MFLOPS check=12345678\nBENCH avec not built with AltiVec\n"
    assert programs.scores_in(text) == [
        Score("nbody", Kind.FLOAT, 1.25, 10.5, "x/s", "00abcdef"),
        Score("matmul", Kind.FLOAT, 0.1, 55.0, "MFLOPS", "12345678"),
    ]


# ---- medians, means, marks -------------------------------------------------------------------------------------------


def test_medians_spreads_ratios_and_means():
    result = report.CoreResult("e500mc", ["qemu", "powervisor"])
    result.runs["qemu"] = [Run(1.0, [score("a", v), score("b", 10), score("f", 1, Kind.FLOAT)]) for v in (9, 10, 200)]
    result.runs["powervisor"] = [Run(1.0, [score("a", 20), score("b", 80), score("f", 5, Kind.FLOAT)])]
    sample = result.sample("qemu", "a")
    assert (sample.median, sample.spread) == (10, (200 - 9) / 2 / 10)
    assert result.ratio("a") == 2
    assert result.mean(Kind.INTEGER) == pytest.approx(4)
    assert result.mean(Kind.FLOAT) == pytest.approx(5)
    assert result.mean(Kind.VECTOR) is None
    assert {name: entry["ratio"] for name, entry in result.json()["scores"].items()} == {"a": 2, "b": 8, "f": 5}
    assert report.differences([result]) == []


@pytest.mark.parametrize(("ratio", "met"), [(1.99, False), (2.0, True)])
def test_a_class_is_held_against_its_mark(ratio, met):
    verdict, lowest = compared(ratio, ratio).verdicts()
    assert (verdict.mark, verdict.met, lowest.met) == (">= 2", met, True)


def test_each_program_of_a_class_with_a_mark_has_one():
    _, lowest = compared(0.89, 100.0).verdicts()
    assert (lowest.value, lowest.mark, lowest.met) == ("0.89", ">= 0.9", False)


def test_marks_are_for_qemu_only():
    result = compared(3.0)
    result.vmms[0] = "powervisor@HEAD"
    result.runs["powervisor@HEAD"] = result.runs.pop("qemu")
    mean, lowest = result.verdicts()
    assert (mean.value, mean.mark, mean.met) == (lowest.value, lowest.mark, lowest.met) == ("3.00", "", None)


def test_boots_are_compared_as_speeds_and_a_cold_one_with_qemus_only_one():
    result = report.CoreResult("e500mc", ["qemu", "powervisor"])
    result.boots = {"qemu": {"warm": [1.0, 2.0, 9.0]}, "powervisor": {"warm": [1.0], "cold": [5.0]}}
    warm, cold = result.verdicts()
    assert (warm.value, warm.met) == ("2.00", True)
    assert (cold.value, cold.met) == ("0.40", False)


@pytest.mark.parametrize(("name", "ratio", "met"), [("disk_read", 0.79, False), ("disk_random", 0.51, True)])
def test_kinds_of_work_on_a_disk_have_marks_of_their_own(name, ratio, met):
    result = report.CoreResult("e500mc", ["qemu", "powervisor"])
    result.runs["qemu"] = [Run(1.0, [score(name, 100, Kind.DISK)])]
    result.runs["powervisor"] = [Run(1.0, [score(name, 100 * ratio, Kind.DISK)])]
    verdicts = {verdict.what: verdict.met for verdict in result.verdicts()}
    assert verdicts == {f"{name}, ratio of speeds": met, "disk programs, geometric mean of speeds": None}


def test_only_the_disks_program_gets_a_disk():
    assert "-drive" not in JOB.options()
    assert replace(JOB, drive="a.img", append=None).options()[-2:] == ["-drive", "file=a.img,format=raw,if=virtio"]


def test_only_the_networks_program_gets_a_network_card(tmp_path, monkeypatch):
    assert "-netdev" not in JOB.options()
    found = replace(JOB, network=True, append=None).options()[-4:]
    assert found == ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"]


def test_without_passt_the_networks_class_is_left_out_with_a_line(tmp_path, monkeypatch, capsys):
    sources = Sources(str(tmp_path))
    monkeypatch.setattr(measure.shutil, "which", lambda name: name)
    assert [p.name for p in measure.choose("disk,network", sources, 1, 100, "512").programs] == ["disk", "net"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(measure.shutil, "which", lambda name: None)
    assert [p.name for p in measure.choose("disk,network", sources, 1, 100, "512").programs] == ["disk"]
    assert capsys.readouterr().err == "bench: passt is not installed; leaving the class network out\n"


def test_the_peer_sends_and_checks_what_the_networks_program_expects():
    with Peer() as peer, socket.create_connection(("127.0.0.1", peer.port)) as connection:
        connection.sendall(b"r")
        assert connection.recv(len(CONTENT), socket.MSG_WAITALL) == CONTENT
        for content, right in ((CONTENT, 4096), (CONTENT[:-1] + b"\0", 4095)):
            connection.sendall(b"s" + content)
            assert connection.recv(4, socket.MSG_WAITALL) == right.to_bytes(4, "big")
        connection.sendall(b"s" + CONTENT[:100])  # a guest that dies ends nobody else
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", peer.port))


def test_absolute_marks(monkeypatch):
    monkeypatch.setattr(report, "host_cpus", lambda: 2)
    result = report.CoreResult("e500mc", ["powervisor"])
    pair = [score(programs.ONE, 10, Kind.PARALLEL), score(programs.OTHER, 18.5, Kind.PARALLEL)]
    result.runs["powervisor"] = [Run(1.0, pair)]
    result.starts["powervisor"] = [0.2, 0.3, 0.1]
    result.idle["powervisor"] = [0.02]
    result.counts["powervisor"] = {"boot": {"translation-bytes": 65 << 20}}
    assert [(verdict.value, verdict.mark, verdict.met) for verdict in result.verdicts()] == [
        ("1.85", ">= 1.9", False),
        ("0.200 s", "<= 0.25", True),
        ("2.00 %", "<= 1", False),
        ("65.0 MiB", "<= 64", False),
    ]
    monkeypatch.setattr(report, "host_cpus", lambda: 1)
    assert next(result.verdicts()).met is None


def with_inside(integer: float, float_: float, boot: float) -> report.CoreResult:
    """A result with a machine inside whose programs are so many times as fast as the outer guest's."""
    result = report.CoreResult("e500mc", ["qemu", "powervisor"])
    result.reports_inside = ["sieve", "whet", "syscall"]
    outer = [score("sieve", 10), score("whet", 10, Kind.FLOAT), score("syscall", 5e6, Kind.SYSTEM, "0000c350")]
    inner = [
        score("sieve", 10 * integer), score("whet", 10 * float_, Kind.FLOAT),
        score("syscall", 1e6, Kind.SYSTEM, "0000c350"),
        score("hypercall", 1e6, Kind.KVM, "00000001"), score("monitor_read", 2e5, Kind.KVM, "00000001"),
    ]  # fmt: skip
    result.inside["powervisor"] = [inside.Inside(outer, inner, 0.5, 0.5 * boot)]
    return result


def test_a_machine_inside_is_held_against_the_guest_around_it():
    result = with_inside(0.9, 0.8, 3.5)
    assert [(verdict.value, verdict.mark, verdict.met) for verdict in result.verdicts()] == [
        ("0.90", ">= 0.9", True),
        ("0.80", ">= 0.9", False),
        ("0.20", "", None),
        ("1.00 us, 5.0 system calls of the outer guest", "", None),
        ("5.00 us, 25.0 system calls of the outer guest", "", None),
        ("3.50", "<= 3", False),
    ]
    assert report.differences([result]) == []
    assert result.json()["inside"]["powervisor"][0]["boots_s"] == {"outer": 0.5, "inner": 1.75}
    rows = tables.inside_table(result).rows
    assert [row[-1] for row in rows] == ["0.90", "0.80", "0.20", "-", "-"]


def test_results_that_differ_inside_or_are_missing_there_are_told():
    result = with_inside(1, 1, 1)
    run = result.inside["powervisor"][0]
    run.inner[0] = replace(run.inner[0], check="0badbad0")
    del run.inner[1], run.inner[-1]
    assert report.differences([result]) == [
        "e500mc sieve: 0badbad0 (inner), 0000beef (outer guest)",
        "e500mc whet: no result (powervisor, inner guest)",
        "e500mc monitor_read: no result (powervisor)",
    ]


def test_what_both_guests_say_is_told_apart():
    vmm = fake(
        "print('BOOT-OK\\nINNER-BOOT 1.25 2.00\\nBENCH sieve time_s=1 score=2 x check=0\\n"
        "INNER BENCH sieve time_s=1 score=1 x check=0\\r\\nBENCH-DONE')"
    )
    heard = []
    found = inside.run(vmm, JOB, heard.append)
    assert found.outer_boot > 0 and found.inner_boot == 0.75
    assert [s.score for s in (*found.outer, *found.inner)] == [2, 1]
    assert heard == [*found.outer, *found.inner]


# ---- right and wrong -------------------------------------------------------------------------------------------------


def test_different_results_are_told():
    result = report.CoreResult("e5500", ["qemu", "powervisor"])
    result.runs["qemu"] = [Run(1.0, [score("a", 1), score("s", 1, Kind.SYSTEM)])]
    result.runs["powervisor"] = [Run(1.0, [score("a", 1, check="0badbad0"), score("s", 1, Kind.SYSTEM)])]
    result.native = [[score("a", 1), score("s", 1, Kind.SYSTEM, check="00004000")]]
    assert report.differences([result]) == ["e5500 a: 0000beef (native qemu), 0badbad0 (powervisor)"]


def test_equal_results_that_are_not_the_declared_one_are_wrong_too():
    result = report.CoreResult("e5500", ["powervisor"])
    result.runs["powervisor"] = [Run(1.0, [score("quicksort", 1)])]
    assert report.differences([result]) == ["e5500 quicksort: 0000beef (powervisor), 97983734 (right)"]


def test_a_program_that_says_nothing_is_wrong():
    result = compared(1.0)
    result.reports = ["p0", "p1"]
    result.runs["powervisor"].append(Run(1.0, []))
    assert report.differences([result]) == ["e500mc p1: no result (qemu)", "e500mc p1: no result (powervisor)"]


def test_a_speed_of_0_is_wrong_and_spoils_no_mean():
    result = compared(3.0, 0.0)
    result.reports = ["p0", "p1"]
    assert result.mean(Kind.INTEGER) == pytest.approx(3)
    (line,) = report.differences([result])
    assert line.startswith("e500mc p1: no speed at all (powervisor)")


# ---- VMMs ------------------------------------------------------------------------------------------------------------


def test_every_vmm_gets_the_same_options_and_is_ended_when_the_text_has_come():
    heard = []
    vmm = fake("import sys, time; print('BOOT-OK', *sys.argv[1:]); "
               "print('BENCH sieve time_s=1 score=2 x check=0'); print('BENCH-DONE'); time.sleep(60)")  # fmt: skip
    run = machines.run(vmm, JOB, programs.DONE, heard.append)
    assert 0 < run.boot < 10
    assert [s.name for s in run.scores] == ["sieve"]
    assert heard == run.scores
    assert JOB.options()[:4] == ["-M", "ppce500", "-cpu", "e500mc"]
    assert "-initrd" not in Job("e500mc", "1", "512", "board.elf").options()


def test_the_kernels_command_line_on_the_console_is_no_answer():
    vmm = fake("print('Kernel command line: BOOT-OK BENCH-DONE')")
    with pytest.raises(UserError, match="BENCH-DONE did not come"):
        machines.run(vmm, JOB, programs.DONE)


def test_a_boot_that_fails_shows_its_last_lines():
    with pytest.raises(UserError, match="fake: BOOT-OK did not come(.|\n)*Kernel panic"):
        machines.run(fake("print('Kernel panic')"), JOB, machines.BOOTED)


def test_a_cold_boot_has_an_empty_cache_and_leaves_the_warm_one_alone(tmp_path):
    (tmp_path / "old").write_text("")
    script = "import os; print('BOOT-OK' if not os.path.exists(os.environ['POWERVISOR_CACHE']) else 'warm')"
    vmm = replace(fake(script), cache=tmp_path)
    assert machines.boot_cold(vmm, JOB) > 0
    assert (tmp_path / "old").exists()


def test_a_process_that_fills_the_cache_is_waited_for(tmp_path):
    script = "import sys; print(); sys.stdout.flush(); sys.stdin.read()"
    command = [sys.executable, "-c", script, f"{tmp_path}/images/e500mc"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert machines._at_work_in(tmp_path)
        process.communicate(b"")
    assert not machines._at_work_in(tmp_path)


def test_processor_time_of_an_idle_guest():
    busy = "import sys, time; print('BOOT-OK'); print('IDLE-BEGIN', flush=True); end = time.process_time() + 0.3\n"
    busy += "while time.process_time() < end: pass\ntime.sleep(0.3)\nprint('IDLE-END'); time.sleep(60)"
    assert 0.1 < machines.idle_share(fake(busy), JOB, 1) <= 1


def test_vmms_by_name_and_twice_the_same(tmp_path):
    with machines.vmms(["powervisor", "powervisor"], tmp_path) as vmms:
        assert [vmm.label for vmm in vmms] == ["powervisor", "powervisor#2"]
    with pytest.raises(UserError, match="-vmms bochs: known are"), machines.vmms(["bochs"], tmp_path):
        pass


def test_a_revision_runs_from_its_own_tree(tmp_path, monkeypatch):
    tree = tmp_path / "repository"
    (tree / "powervisor").mkdir(parents=True)
    (tree / "powervisor" / "__init__.py").touch()
    where = "print('BOOT-OK', __file__)"
    (tree / "powervisor" / "__main__.py").write_text(where)
    identity = ["-c", "user.name=x", "-c", "user.email=x", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", tree, *words], check=True)
    monkeypatch.setattr(machines, "TREE", tree)
    with machines.vmms(["powervisor@HEAD", "powervisor"], tmp_path / "cache") as vmms:
        seen = []
        for vmm in vmms:
            machines.run(vmm, JOB, machines.BOOTED, line_seen=lambda line, pid: seen.append(line.split()[1]))
        assert os.path.dirname(os.path.dirname(seen[1])) == str(tree)
        checked_out = vmms[0].directory
        assert checked_out != tree and seen[0].startswith(str(checked_out))
    assert not checked_out.exists()
    listed = subprocess.run(["git", "-C", tree, "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1


# ---- counters --------------------------------------------------------------------------------------------------------


def counted(instructions: int, mmio: int, seconds: float) -> dict:
    vcpu = {"exits": {"mmio": mmio}, "counters": {"instructions": instructions, "halts": 1}}
    regions = {"compiled": mmio, "refused": {"not compiled": 2 * mmio}}
    machine = {"regions": regions, "code-bytes": 5 * instructions, "translation-bytes": 9}
    return {"seconds": seconds, "vcpus": [vcpu, vcpu], **machine}


def test_counters_are_told_between_reports_whatever_their_names():
    states = iter([counted(100, 1, 1.0), counted(400, 7, 1.5)])
    listener = counters.Listener("BENCH-DONE", lambda: counters.flat(next(states)))
    listener.write(b"Linux\r\nBOOT-OK 6.1\r\nBENCH lu time_s=1 score=1 x ")
    assert list(listener.counted) == ["boot"]
    listener.write(b"check=00\r\nBENCH-DONE\n")
    assert listener.heard.is_set()
    levels = {"code-bytes": 2000, "translation-bytes": 9}
    differences = {"instructions": 600, "exit-mmio": 12, "regions-compiled": 6, "seconds": 0.5}
    differences["regions-refused-not compiled"] = 12
    assert listener.counted["lu"] == differences | levels
    assert counters.rates(listener.counted["lu"]) == [("mmio", 24.0)]


def test_the_counters_program_boots_a_machine(tmp_path):
    vmm = Vmm("powervisor", (), {"PYTHONPATH": str(machines.TREE)}, machines.TREE)
    result = counters.count(vmm, Job("e500mc", "1", "128", _banner(tmp_path)), "BOOT-OK")
    assert result["boot"]["instructions"] > 0
    assert result["boot"]["translated-insns"] > 0


def _banner(directory):
    """A bare program that prints BOOT-OK: the UART through TLB1."""
    import struct

    from powervisor.insns import assemble_source
    from powervisor.isa import cores
    from tests.system.bare import MACROS

    source = MACROS + "devices\n lis r5, DEVICES@h\n ori r5, r5, 0x4500\n"
    source += "".join(f" li r3, {byte}\n stb r3, 0(r5)\n" for byte in b"BOOT-OK\n") + "b .\n"
    code = assemble_source(source, 0x1000, cores.get("e500mc")).data
    path = directory / "banner.elf"
    header = (
        b"\x7fELF\x01\x02\x01"
        + bytes(9)
        + struct.pack(">HHIIIIIHHHHHH", 2, 20, 1, 0x1000, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    )
    path.write_bytes(header + struct.pack(">8I", 1, 84, 0x1000, 0x1000, len(code), len(code), 7, 4) + code)
    return path


# ---- what is chosen and shown ----------------------------------------------------------------------------------------


def test_classes_programs_and_measures_can_be_chosen(tmp_path):
    sources = Sources(str(tmp_path))
    chosen = measure.choose("memory,nbody,boot", sources, 1, 100, "512")
    assert [program.name for program in chosen.programs] == ["nbody", "memory"]
    assert (chosen.measures, chosen.whole) == ({"boot"}, False)
    everything = measure.choose("", sources, 1, 100, "512")
    assert everything.measures == set(measure.MEASURES)
    assert "sieve" not in [program.name for program in everything.programs] and not everything.whole
    with pytest.raises(UserError, match="-only siev: there are integer"):
        measure.choose("siev", sources, 1, 100, "512")
    with pytest.raises(UserError, match="-only sieve: sieve.c is not in .*; see -sources"):
        measure.choose("sieve", sources, 1, 100, "512")


def test_the_whole_is_all_there_is_as_usual(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.measure.shutil.which", lambda name: name)
    for name in programs.PROGRAMS:
        (tmp_path / f"{name}.c").touch()
    sources = Sources(str(tmp_path))
    assert measure.choose("", sources, 3, 100, "512").whole
    assert not measure.choose("", sources, 3, 50, "512").whole
    assert not measure.choose("", sources, 3, 100, "1024").whole
    monkeypatch.setattr("bench.measure.shutil.which", lambda name: None)
    assert not measure.choose("", sources, 3, 100, "512").whole, "there is no passt"


def test_vector_programs_run_only_where_there_is_a_vector_unit(tmp_path):
    there = Sources(str(tmp_path)).available()
    assert programs.PROGRAMS["vector"] not in programs.suite(programs.CORES["e500mc"], there)
    assert programs.PROGRAMS["vector"] in programs.suite(programs.CORES["e6500"], there)
    assert programs.PROGRAMS["board"] not in programs.suite(None, there)


def test_the_vmms_change_places_every_round(tmp_path, monkeypatch):
    monkeypatch.setattr(measure.catalogue, "build", lambda guest: [tmp_path / "kernel", tmp_path / "initrd"])
    vmms = [Vmm("qemu", ()), Vmm("powervisor", (), cache=tmp_path)]
    choice = measure.choose("boot", Sources(str(tmp_path)), 2, 100, "512")
    measurement = measure.CoreMeasurement(programs.CORES["e500mc"], vmms, choice, Sources(str(tmp_path)), tmp_path, 0)
    assert [step.what for step in measurement.steps()] == [
        "warming powervisor",
        "round 1 of 2, qemu, warm boot",
        "round 1 of 2, powervisor, cold boot",
        "round 1 of 2, powervisor, warm boot",
        "round 2 of 2, powervisor, cold boot",
        "round 2 of 2, powervisor, warm boot",
        "round 2 of 2, qemu, warm boot",
    ]


def test_steps_are_taken_and_told(capfd):
    class Measurement:
        core, result = programs.CORES["e500mc"], compared(1.0)

        def steps(self):
            yield measure.Step("programs", lambda heard: (heard(score("a", 1)), None)[1], 2)
            yield measure.Step("boot", lambda heard: None)

    done = []
    measure.measure([Measurement()], done.append)
    assert done == [Measurement.result]
    assert capfd.readouterr().err == "[0/3] e500mc: programs\n[2/3] e500mc: boot\n"


def test_the_document_has_every_table():
    result = compared(3.0, 4.0)
    result.native = [[score("p0", 99)]]
    moved = {"instructions": 2e9, "exit-mmio": 50, "regions": 7}
    boot = {"seconds": 2.0, "code-bytes": 4096, "translation-bytes": 1 << 20, **moved}
    result.counts = {"powervisor": {"boot": boot}, "qemu": {"boot": {**boot, "regions": 14}}}
    text = tables.document([result], {"qemu": "7.2"}, 1)
    assert "- qemu: 7.2\n" in text
    assert "| p1 | integer | x/s | - | 10 | 40 | 4.00 |" in text
    assert "| integer programs, geometric mean of speeds | 3.46 | >= 2 | met |" in text
    assert "| during | s | instructions | M/s | regions | code KiB | exits/s |" in text
    assert "| boot | 2.00 | 2.0G | 1000 | 7 | 4 | mmio:25 |" in text
    assert "regions" not in tables.count_table(result, wide=False).headings
    assert "| during | instructions | regions | code-bytes | translation-bytes |" in text
    assert "| boot | 1.00 | 0.50 | 1.00 | 1.00 |" in text


def test_results_go_to_a_file_and_a_document_where_asked(tmp_path, monkeypatch):
    class Measurement:
        def __init__(self, *_):
            pass

    monkeypatch.setattr(measure, "CoreMeasurement", Measurement)
    monkeypatch.setattr(measure, "measure", lambda plans, done: done(compared(2.0)))
    paths = [tmp_path / "new" / "bench.json", tmp_path / "bench.md"]
    words = ["-vmms", "powervisor", "-cores", "e500mc", "-json", str(paths[0]), "-document", str(paths[1])]
    assert main(words) == 0
    assert json.loads(paths[0].read_text())["cores"][0]["geometric_means"] == {"integer": 2.0}
    assert paths[1].read_text().startswith("# Benchmarks\n")
    with pytest.raises(UserError, match="-cores e300"):
        main(["-cores", "e300"])
    with pytest.raises(UserError, match="leave one of the two out"):
        main(["-vmms", "qemu", "-compare", "HEAD"])
    with pytest.raises(UserError, match="-compare: name a revision"):
        main(["-compare", ""])
    for option in ("-json", "-document"):
        with pytest.raises(UserError, match="cannot be written .Is a directory.; name another file"):
            main([option, "/tmp", "-only", "start"])
