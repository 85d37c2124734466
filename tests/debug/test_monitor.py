"""The monitor: its commands on bare-metal programs, alone and beside gdb, and on a socket."""

from __future__ import annotations

import random
import re
import socket
import time

import pytest

from powervisor.console import open_chardev
from powervisor.debug.control import Control
from powervisor.debug.monitor import COMMANDS, Monitor
from powervisor.debug.monitor.expressions import evaluate
from powervisor.debug.monitor.server import PROMPT, MonitorServer
from tests.support.waiting import until
from tests.system.bare import COUNTS, RESULTS, bare_machine, counts, results

CHANGES_PID = """
    load32 r3, RESULTS
    li    r4, 0
loop:
    addi  r4, r4, 1
    stw   r4, 0(r3)
    andi. r5, r4, 1
    addi  r5, r5, 1
    mtspr 48, r5               # PID: 1 and 2 in turn
    isync
    b     loop
"""
MACHINE_CHECK = """
    load32 r3, RESULTS
    vector 401, checked        # IVOR1
wait:
    b     wait
    .align 4
checked:
    mfspr r4, 572              # MCSR
    stw   r4, 0(r3)
    b     checked
"""


class NoTerminal:
    """Where nobody speaks Python; keeps what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, line: str) -> None:
        self.told.append(line)

    def python(self, monitor: Monitor) -> None:
        raise AssertionError


@pytest.fixture
def monitored():
    """A running machine and its monitor: `machine, monitor = monitored(source)`."""
    opened = []

    def monitored(source=COUNTS, cpu="e5500", **options):
        made = bare_machine(source, cpu, **options)
        machine = made.__enter__()
        opened.append(lambda: made.__exit__(None, None, None))
        machine.start()
        control = Control(machine, lambda: None, "the monitor")
        opened.append(control.close)
        return machine, Monitor(control, NoTerminal())

    yield monitored
    for close in reversed(opened):
        close()


def test_looking_leaves_a_running_machine_running_and_a_stopped_one_stopped(monitored):
    machine, monitor = monitored()
    for line in ("info cpus", "info tlb", "x /4i $pc", "info registers"):
        assert monitor.execute(line)
        assert not machine.held
    assert counts(machine) and monitor.execute("info status") == "running\n"
    assert "cpu0 at 0x" in monitor.execute("stop")
    assert monitor.execute("info status") == "stopped by the monitor\n"
    for line in ("info cpus", "info mpic", "x /4i $pc"):
        monitor.execute(line)
    assert not counts(machine)
    monitor.execute("cont")
    assert counts(machine)


def test_steps_execute_so_many_instructions(monitored):
    machine, monitor = monitored()
    monitor.execute("stop")
    monitor.execute("break " + hex(machine.symbols["loop"]))
    monitor.execute("cont")
    until(lambda: machine.held)
    monitor.execute("delete")
    before = machine.vcpus[0].regs["r4"]
    assert f"cpu0 at {machine.symbols['loop'] + 4:#x}: 90830000  stw r4,0(r3)" in monitor.execute("step")
    monitor.execute("step 3*4-1")
    assert machine.vcpus[0].regs["r4"] == before + 4 and machine.vcpus[0].regs["pc"] == machine.symbols["loop"]
    for wrong in ("step 0", "step -1", "step 100001", "step x"):
        assert ":" in monitor.execute(wrong)
    assert machine.vcpus[0].regs["r4"] == before + 4


def test_breakpoints_and_watchpoints_take_effect_at_once(monitored):
    machine, monitor = monitored()
    loop = machine.symbols["loop"]
    assert monitor.execute(f"break {loop:#x}") == f"{loop:#x}\n"
    until(lambda: machine.held)
    assert machine.vcpus[0].regs["pc"] == loop
    assert monitor.execute("delete") == "no breakpoints\n"
    assert monitor.execute(f"watch {RESULTS:#x}") == f"{RESULTS:#x} 4 write\n"
    monitor.execute("cont")
    until(lambda: machine.held)
    assert machine.vcpus[0].regs["pc"] == loop + 4
    assert monitor.execute(f"delete {RESULTS:#x}") == "no breakpoints\n"
    assert monitor.execute(f"watch {RESULTS:#x} 1 read") == f"{RESULTS:#x} 1 read\n"
    monitor.execute("cont")
    assert counts(machine)


def test_a_breakpoint_of_one_pid_or_partition_stops_there_only(monitored):
    machine, monitor = monitored(CHANGES_PID)
    loop = machine.symbols["loop"]
    assert monitor.execute(f"break {loop:#x} pid 3 lpid 0") == f"{loop:#x} pid 3 lpid 0\n"
    assert counts(machine) and not machine.held
    stops = monitor.execute(f"break {loop:#x} lpid 0 pid 2")
    assert stops == f"{loop:#x} pid 2 lpid 0\n{loop:#x} pid 3 lpid 0\n"
    for _ in range(3):
        until(lambda: machine.held)
        assert machine.vcpus[0].regs["pid"] == 2 and machine.vcpus[0].regs["pc"] == loop
        monitor.execute("cont")
    for wrong in ("break", f"break {loop:#x} pid 0x4000", f"break {loop:#x} lpid 64", f"break {loop:#x} pid -1"):
        assert "PIDs are 0 to 16383; LPID 0 is the hypervisor" in monitor.execute(wrong)


def test_cont_goes_past_the_breakpoint_where_it_stands(monitored):
    machine, monitor = monitored()
    monitor.execute("break " + hex(machine.symbols["loop"]))
    until(lambda: machine.held)
    for _ in range(3):
        before = machine.vcpus[0].regs["r4"]
        monitor.execute("cont")
        until(lambda: machine.held)
        assert machine.vcpus[0].regs["r4"] == before + 1 and machine.vcpus[0].regs["pc"] == machine.symbols["loop"]


def test_several_debuggers_each_let_the_machine_go_on(monitored):
    machine, monitor = monitored()
    gdb = Control(machine, lambda: None, "gdb")
    gdb.hold()
    assert monitor.execute("info status") == "stopped by gdb\n"
    assert monitor.execute("step") == "step: gdb holds the machine; step there\n"
    assert "gdb still holds the machine" in monitor.execute("cont") and not counts(machine)
    monitor.execute("stop")
    assert monitor.execute("info status") == "stopped by gdb and the monitor\n"
    gdb.go()
    assert not counts(machine)
    monitor.execute("cont")
    assert counts(machine)
    gdb.hold()
    gdb.close()
    assert counts(machine)


def test_the_monitor_of_gdb_leaves_stopping_to_gdb(monitored):
    machine, monitor = monitored()
    for line in ("stop", "cont", "step", "python"):
        assert "not here: gdb stops the machine" in Monitor(monitor.control).execute(line)
    assert counts(machine)


def test_nmi_is_a_machine_check(monitored):
    machine, monitor = monitored(MACHINE_CHECK)
    until(lambda: f"pc {machine.symbols['wait']:#x}," in monitor.execute("info cpus"))
    assert monitor.execute("nmi") == ""
    until(lambda: results(machine, 1)[0])
    assert results(machine, 1) == (0x0010_0000,)


def test_snapshots_are_saved_and_gone_back_to(monitored, tmp_path):
    machine, monitor = monitored()
    monitor.execute("stop")
    count = results(machine, 1)
    assert monitor.execute(f"savevm {tmp_path}/s") == "" and (tmp_path / "s").stat().st_size
    monitor.execute("cont")
    until(lambda: results(machine, 1) != count)
    monitor.execute("stop")
    assert monitor.execute(f"loadvm {tmp_path}/s") == ""
    assert results(machine, 1) == count and machine.held
    monitor.execute("cont")
    assert counts(machine)
    assert "write savevm FILE" in monitor.execute("savevm") and "write loadvm FILE" in monitor.execute("loadvm a b")
    for wrong in (f"loadvm {tmp_path}/none", f"savevm {tmp_path}/none/s", f"loadvm {tmp_path}"):
        text = monitor.execute(wrong)
        assert text.count("\n") == 1 and text.startswith(wrong[:16])  # long words are told shortened
    gdb = Control(machine, lambda: None, "gdb")
    gdb.hold()
    assert "gdb holds the machine" in monitor.execute(f"loadvm {tmp_path}/s")
    gdb.close()


def test_symbols_are_addresses_and_addresses_have_names(monitored):
    class Names:
        def named(self, name):
            return type("Symbol", (), {"address": machine.symbols[name]})

        def text(self, address, pid=0, lpid=0):
            return " <loop>" if address == machine.symbols["loop"] else ""

    machine, monitor = monitored()
    monitor.symbols = Names()
    assert monitor.execute("print loop + 4") == f"{machine.symbols['loop'] + 4:#x}\n"
    assert monitor.execute("break loop") == f"{machine.symbols['loop']:#x}\n"
    until(lambda: machine.held)
    assert f"cpu0 at {machine.symbols['loop']:#x} <loop>: " in monitor.execute("stop")
    assert monitor.execute("x /1i loop").startswith("<loop>\n0x")


def test_a_trace_is_told_until_it_is_switched_off(monitored):
    machine, monitor = monitored()
    assert monitor.execute("trace").startswith("no traces; trace [on")
    assert monitor.execute(f"trace on insn,address={machine.symbols['loop']:#x}").startswith("1: ")
    until(lambda: any("addi" in line for line in monitor.terminal.told))
    assert monitor.execute("trace off") == "no traces\n"
    assert "name some of" in monitor.execute("trace on cpu=0") and "write trace" in monitor.execute("trace x")


BUTTON = """
    devices
    vector 404, pressed        # IVOR4
    load32 r10, DEVICES + 0xFF000
    load32 r12, DEVICES + 0x40000
    load32 r3, 0x20000000      # GCR[M]: mixed mode
    stw   r3, 0x1020(r12)
    load32 r12, DEVICES + 0x50000 + 47 * 0x20
    load32 r3, 0x00080000 | 47 # IVPR: priority 8
    stw   r3, 0(r12)
    li    r3, 1
    stw   r3, 0x10(r12)        # IDR
    load32 r12, DEVICES + 0x60000
    li    r3, 0
    stw   r3, 0x80(r12)        # CTPR
    load32 r3, 0x40000000
    stw   r3, 0x10(r10)        # GPIMR: line 1
    wrteei 1
wait:
    b     wait
    .align 4
pressed:
    lwz   r3, 0xA0(r12)        # IACK
    lwz   r4, 8(r10)           # GPDAT
    load32 r5, RESULTS
    stw   r4, 0(r5)
    load32 r4, 0x80000000      # switch off by line 0
    stw   r4, 0(r10)
    stw   r4, 8(r10)
stay:
    b     stay
"""


def test_the_power_button_lets_a_guest_end_itself(monitored, monkeypatch):
    monkeypatch.setattr("powervisor.machine.power.PRESS_NS", 20_000_000_000)  # until the guest has looked
    machine, monitor = monitored(BUTTON)
    until(lambda: f"pc {machine.symbols['wait']:#x}," in monitor.execute("info cpus"))
    assert monitor.execute("system_powerdown") == ""
    assert machine.wait(10).kind == "poweroff"
    assert results(machine, 1) == (0x4000_0000,)


def test_a_guest_that_does_not_listen_to_the_power_button_is_told_of(monitored):
    machine, monitor = monitored()
    assert monitor.execute("system_powerdown").startswith("system_powerdown: nothing in the guest listens")
    assert counts(machine)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16), ("0x10", 16), ("007", 7), ("2+3*4", 14), ("(2+3)*4", 20), ("-1", (1 << 64) - 1), ("~0 & 0xff", 255),
        ("1<<4|1", 17), ("1 << 64", 0), ("7/2", 3), ("7%4", 3), ("6^3", 5), ("$two*2", 4), ("--1", 1), ("8>>1>>1", 2),
        ("10-2-3", 5),
    ],
)  # fmt: skip
def test_expressions_are_computed_as_in_c(text, value):
    assert evaluate(text, {"two": 2}.__getitem__) == value


@pytest.mark.parametrize(
    "text", ["", "1+", "(1", "1)", "1 2", "1/0", "1%(2-2)", "0x", "1a", "$", "a", "(" * 90 + "1" + ")" * 90, "-" * 999]
)
def test_what_is_no_expression_is_an_error(text):
    with pytest.raises(ValueError):
        evaluate(text, dict[str, int]().__getitem__)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("print $r3", "0x100000"),
        ("p/d 0-5", "-5"),
        ("p /dw 0xffffffff", "-1"),
        ("p /ub 0x1ff", "255"),
        ("p /o 8", "010"),
        ("p /c 65", "'A'"),
        ("p", "write print /x EXPRESSION"),
        ("p /i 4", "write print"),
        ("x /2dw 0x1000", "0x1000:  1012924432  1617100800"),
        ("x/c 0x1000", "0x1000: '<'"),
        ("x /2ob 0x1000", "0x1000: 0074 0140"),
        ("x 0x1000", "0x1000: 3c600010"),
        ("x /99999999999999999999i 0x3fffffc", "0x3fffffc:"),
        ("x /100000i 0x3fffffc", "0x3fffffc:"),
        ("xp /1xg 0x1000+8-8", "0x1000: 3c60001060630000"),
        ("info version", "powervisor "),
        ("info qtree", "serial0: Ns16550, 0xfe0004500-0xfe00045ff, irq 42"),
        ("info qtree", "rng@1: VirtioRngPci, [1af4:1005]"),
        ("info mpic", "cpu0  15"),
        ("info irq", "0 ended, 0 sent between cpus, 0 spurious"),
        ("info jit", "translated code"),
        ("info block", "no drives"),
        ("info network", "no networks"),
        ("info chardev", "serial0:  recorder  connected"),
        ("info registers mmu", "mas0"),
        ("info tlb 1", "1      0 0000000000000000"),
        ("info tlb 2", "there are TLBs 0 and 1"),
        ("info nonsense", "info knows block, breakpoints"),
        ("info regs", "did you mean info registers?"),
        ("help info irq", "how often each interrupt was taken"),
        ("help nonsense", "no such command"),
        ("info status extra words", "running"),
        ("?", "list the commands"),
        ("watch", "write watch ADDRESS"),
        ("watch 4 0", "a watchpoint has 1 to"),
        ("x" * 2000, "a line has up to 1000 characters"),
        ("\x1b[2J\x00", "??[2J?: no such command".replace("??", "?")),
        ("\u2028zz \U0001f600", "no such command"),
    ],
)  # fmt: skip
def test_commands_answer(monitored, line, answer):
    machine, monitor = monitored(devices=["virtio-rng-pci,id=rng@1"])
    until(lambda: machine.vcpus[0].instructions or counts(machine))
    text = monitor.execute(line)
    assert answer in text and text.endswith("\n") and "Traceback" not in text
    assert text.isprintable() or set(text) - set("\n") <= {letter for letter in text if letter.isprintable()}


def test_every_command_is_told_of_and_completed(monitored):
    _, monitor = monitored()
    text = monitor.execute("help")
    assert all(f"{command.usage}  " in text for command in COMMANDS.values())
    assert len(text.splitlines()) == len(COMMANDS)
    assert monitor.complete("info st") == ["status"] and "registers" in monitor.complete("info ")
    assert monitor.complete("sys") == [name for name in sorted(COMMANDS) if name.startswith("sys")]
    assert monitor.complete("info registers mas") == sorted(n for n in monitor.vcpu.regs if n.startswith("mas"))
    assert "mmu" in monitor.complete("info registers pc m")
    assert "$pc" in monitor.complete("x /4i $p")
    assert monitor.complete("nonsense ") == []


def test_random_lines_are_answered(monitored):
    machine, monitor = monitored()
    rng = random.Random(11)
    pieces = [*COMMANDS, "/8xb", "/i", "$pc", "$r1", "0x1000", "0xfe0004500", "lpid", "1", "-", "(", "'", '"', "\\"]
    pieces += ["\x00", "\xff", "\u0660", "\ud800", "é", "%s", "{}", "9" * 40, "", " ", "\t", "\x1b"]
    unsafe = {"quit", "system_reset", "python", "nmi", "savevm", "trace"}  # end or disturb it
    for _ in range(1500):
        words = rng.choices(pieces, k=rng.randrange(1, 6))
        line = (
            rng.choice(("", " ", " ")).join(words)
            if rng.random() < 0.8
            else "".join(map(chr, rng.choices(range(300), k=9)))
        )
        if not any(word in line for word in unsafe) and not line.strip("'\"\\ \t").startswith("q"):
            monitor.execute(line)
            monitor.complete(line)
    monitor.execute("delete")
    monitor.execute("cont")
    assert not machine.ended and counts(machine)


class Client:
    """Somebody at a monitor's Unix socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.text = ""

    def answer(self) -> str:
        while PROMPT not in self.text:
            data = self.socket.recv(4096)
            assert data, self.text
            self.text += data.decode()
        found, _, self.text = self.text.partition(PROMPT)
        return found

    def ask(self, line: str) -> str:
        self.socket.sendall(line.encode(errors="surrogatepass") + b"\n")
        return self.answer()


@pytest.fixture
def served(tmp_path):
    """A running machine with its monitor on a Unix socket: `machine, client`."""
    with bare_machine(COUNTS) as machine:
        port = open_chardev(f"unix:{tmp_path}/m,server=on,wait=off", "-monitor")
        server = MonitorServer(machine, port)
        machine.start()
        client = Client(tmp_path / "m")
        client.answer()
        yield machine, client
        client.socket.close()
        server.close()
        port.close()


def test_a_socket_has_plain_lines(served):
    machine, client = served
    assert re.fullmatch(r"\* cpu0: pc 0x10\w\w, runs, \d+ instructions\n", client.ask("info cpus"))
    assert client.ask("") == "" and "no such command" in client.ask("\x03nonsense\x04\x1b[A")
    assert client.ask("info status") == "running\n"
    client.ask("stop")
    assert not counts(machine)
    assert client.ask("cont") == "" and counts(machine)
    client.ask("quit")
    assert machine.wait(10).kind == "stopped"


def test_physical_memory_that_is_not_there_is_told_with_what_was_asked_for(monitored):
    _, monitor = monitored()
    for form, length in (("/1xb", 1), ("/1xg", 8), ("/4xw", 16)):
        assert monitor.execute(f"xp {form} 0xfff00000000").endswith(f" at 0xfff00000000 (read of {length})\n")


def test_a_stop_is_told_when_it_happens(served):
    machine, client = served
    client.ask(f"break {machine.symbols['loop']:#x}")
    until(lambda: machine.held)
    assert re.search(r"cpu0 at 0x\w+: 38840001  addi r4,r4,1, breakpoint\n", client.answer())
    assert client.ask("info status") == "stopped by the monitor\n"


def test_python_is_spoken_with_the_machine_stopped(served):
    machine, client = served
    client.socket.sendall(b"python\n1+1\nmachine.held, step(3) > 0\nfor n in range(2):\n  print('line', n)\n\n")
    client.socket.sendall(b"mem[0x1000:0x1004].hex()\n1/0\nimport os\nmonitor('info status')\nx = input()\ntyped\nx\n")
    client.socket.sendall(b"dis(0x1000, 1)\nread(0x1000, 2), translate(0x1234), hex(regs['pc'])[:4]\nexit()\n")
    text = client.answer()
    for found in (
        "2\n", "(True, True)\n", "line 0\nline 1\n", "'3c600010'\n", "ZeroDivisionError: division by zero\n",
        "stopped by the monitor\n", "'typed'\n", "0x1000: lis r3,16\n", "(b'<`', 4660, '0x10')\n",
    ):  # fmt: skip
        assert found in text
    assert counts(machine)
    client.ask("stop")
    client.socket.sendall(b"python\nraise SystemExit(3)\n")
    client.answer()
    assert machine.held and not machine.ended


def test_python_neither_ends_a_machine_that_is_in_use_nor_leaves_it_held(served):
    machine, client = served
    client.socket.sendall(b"python\nmachine.close()\nmachine.stop()\nwith machine: pass\n\nother = machine.fork()\n")
    client.socket.sendall(b"other.close()\nmachine.run(0.02), cpu.step(2) > 0\nexit()\n")
    text = client.answer()
    assert text.count("PowervisorError: close: others use the machine here; machine.quit() ends it\n") == 2
    assert text.count("PowervisorError: stop: others use the machine here; machine.quit() ends it\n") == 1
    assert "Traceback" not in text and "(None, True)\n" in text
    assert not machine.held and counts(machine)


def test_random_bytes_at_a_socket_hurt_nobody(served):
    machine, client = served
    rng = random.Random(5)
    for _ in range(60):
        line = bytes(rng.choices(range(256), k=rng.randrange(60))).replace(b"q", b"z").replace(b"\n", b"")
        client.socket.sendall(line + b"\n")
        client.answer()
    client.socket.sendall(b"x" * 100_000 + b"\n")
    assert "a line has up to 1000 characters" in client.answer()
    assert client.ask("info status") == "running\n"


def test_the_next_client_finds_the_monitor_as_it_is(served, tmp_path):
    machine, client = served
    client.ask("stop")
    client.socket.sendall(b"python\nunfinished = (")
    time.sleep(0.05)
    client.socket.close()
    second = Client(tmp_path / "m")
    second.answer()
    assert second.ask("info status") == "stopped by the monitor\n"
    second.ask("cont")
    assert counts(machine)
    second.socket.close()


def test_closing_interrupts_what_computes(tmp_path):
    with bare_machine(COUNTS) as machine:
        port = open_chardev(f"unix:{tmp_path}/m,server=on,wait=off", "-monitor")
        server = MonitorServer(machine, port)
        machine.start()
        client = Client(tmp_path / "m")
        client.answer()
        client.socket.sendall(b"python\nwhile True: pass\n\n")
        until(lambda: machine.held)
        time.sleep(0.2)
        begin = time.monotonic()
        server.close()
        assert time.monotonic() - begin < 3
        port.close()
        client.socket.close()
