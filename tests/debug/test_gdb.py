"""The gdb server, packet by packet, on bare-metal programs."""

from __future__ import annotations

import random
import re
import time

import pytest

from powervisor.debug.gdb.server import GdbServer
from powervisor.errors import UserError
from powervisor.vcpu import sprs
from tests.support.waiting import until
from tests.system.bare import ORIGIN, RESULTS, bare_machine, results

CORES = ("e500mc", "e5500", "e6500")

COUNTS = """
    load32 r3, RESULTS
    li    r4, 0
loop:
    addi  r4, r4, 1
    cmpwi r4, 0
    stw   r4, 0(r3)
    lwz   r5, 0(r3)
    bne   loop
"""
PAGE_LATER = """
    b     far
    .align 12
near:
    addi  r4, r4, 1
    stw   r4, 0(r3)
    b     far + 8
    .align 12
far:
    load32 r3, RESULTS
    cmpwi r4, 0
    b     near
"""


def stop_thread(reply: bytes) -> int:
    found = re.search(rb"thread:p1\.([0-9a-f]+);", reply)
    assert found, reply
    return int(found[1], 16)


@pytest.mark.parametrize("cpu", CORES)
def test_every_register_can_be_read_and_its_kind_is_told(debugged, cpu):
    machine, gdb = debugged(COUNTS, cpu)
    core = machine.vm.core
    whole = gdb.ask(b"g")
    assert re.fullmatch(rb"[0-9a-f]+", whole)
    tree = gdb.document(b"features", b"target.xml")
    assert f"<architecture>powerpc:{cpu}</architecture>" in tree
    readable = {row.name.lower() for row in sprs.rows(core) if row.access[0] != "-"}
    assert readable <= gdb.numbers.keys()
    widths = [int(bits) for bits in re.findall(r'bitsize="(\d+)"', tree)]
    assert len(whole) == sum(widths) // 4
    assert gdb.register("pvr") == core.pvr
    assert ("vr31" in gdb.numbers) == (cpu == "e6500")
    assert gdb.register("tbl") < gdb.register("tbl") + 1  # time stands still, but is there
    gdb.set_register("r7", 0x1234, core.bits)
    gdb.set_register("dec", 1000)
    assert (gdb.register("r7"), gdb.register("dec")) == (0x1234, 1000)
    assert machine.vcpus[0].regs["r7"] == 0x1234
    assert gdb.ask(b"G" + whole) == b"OK"
    assert gdb.ask(b"p%x" % 5000) == b"E22"


@pytest.mark.parametrize("cpu", CORES)
def test_a_breakpoint_stops_before_its_instruction_each_time(debugged, cpu):
    machine, gdb = debugged(COUNTS, cpu)
    loop = machine.symbols["loop"]
    for at in (loop, loop + 4, loop + 16):  # a compare that is fused with its branch elsewhere, and the branch
        assert gdb.ask(b"Z0,%x,4" % at) == b"OK"
        for _ in range(3):
            assert b"T05swbreak:;" in gdb.ask(b"vCont;c")
            assert gdb.register("pc") == at
            before = gdb.register("r4")
            assert gdb.ask(b"vCont;s:p1.1").startswith(b"T05")
            assert gdb.register("pc") == (loop if at == loop + 16 else at + 4)
            assert gdb.register("r4") == before + (at == loop)
        assert gdb.ask(b"z0,%x,4" % at) == b"OK"


def test_other_pages_go_on_where_a_breakpoint_is_at_the_same_place_of_a_page(debugged):
    machine, gdb = debugged(PAGE_LATER)
    near, far = machine.symbols["near"], machine.symbols["far"]
    assert near % 4096 == far % 4096
    gdb.ask(b"Z1,%x,4" % (far + 8))
    for _ in range(3):
        gdb.ask(b"vCont;c")
        assert gdb.register("pc") == far + 8
        gdb.ask(b"vCont;s:p1.1")
    gdb.ask(b"z1,%x,4" % (far + 8))
    gdb.ask(b"Z1,%x,4" % near)
    count = gdb.register("r4")
    for n in range(1, 4):
        gdb.ask(b"vCont;c")
        assert gdb.register("pc") == near and gdb.register("r4") == count + n - 1
        gdb.ask(b"vCont;s:p1.1")


@pytest.mark.parametrize("cpu", CORES)
@pytest.mark.parametrize(
    ("kind", "word", "at"), [(2, b"watch", 8), (3, b"rwatch", 12), (4, b"awatch", 8)], ids=["write", "read", "access"]
)
def test_a_watchpoint_stops_before_the_access(debugged, cpu, kind, word, at):
    machine, gdb = debugged(COUNTS, cpu)
    gdb.ask(b"Z%d,%x,1" % (kind, RESULTS + 3))  # the last byte of a word
    for _ in range(3):
        reply = gdb.ask(b"vCont;c")
        assert b"T05%s:%x;" % (word, RESULTS + 3) in reply
        pc = gdb.register("pc")
        assert pc == machine.symbols["loop"] + at or kind == 4 and pc == machine.symbols["loop"] + 12
        stored = int(gdb.ask(b"m%x,4" % RESULTS), 16)
        assert stored == gdb.register("r4") - (pc == machine.symbols["loop"] + 8)
        gdb.ask(b"vCont;s:p1.1")
        assert gdb.register("pc") == pc + 4
    gdb.ask(b"z%d,%x,1" % (kind, RESULTS + 3))
    gdb.send(b"vCont;c")
    time.sleep(0.05)
    gdb.socket.sendall(b"\x03")
    assert gdb.reply().startswith(b"T02")


def test_memory_is_read_and_written_as_the_program_sees_it(debugged):
    machine, gdb = debugged(COUNTS)
    data = bytes(range(256)) * 20
    assert gdb.ask(b"M%x,%x:%s" % (0x20_0FF0, len(data), data.hex().encode())) == b"OK"
    assert bytes.fromhex(gdb.ask(b"m%x,%x" % (0x20_0FF0, len(data))).decode()) == data
    special = b"}#$*\x00"
    assert gdb.ask(b"X%x,%x:" % (0x20_0000, len(special)) + b"}]}\x03}\x04}\x0a\x00") == b"OK"
    assert machine.memory[0x20_0000 : 0x20_0000 + 5] == special
    assert gdb.ask(b"m%x,4" % 0xF000_0000) == b"E14"
    assert gdb.ask(b"Mf0000000,1:00") == b"E14"
    # Code that was executed already: its change is seen.
    loop = machine.symbols["loop"]
    assert gdb.ask(b"M%x,4:38840005" % loop) == b"OK"  # addi r4, r4, 5
    gdb.ask(b"Z0,%x,4" % loop)
    gdb.ask(b"vCont;c")
    before = gdb.register("r4")
    gdb.ask(b"vCont;s:p1.1")
    assert gdb.register("r4") == before + 5


def test_all_cpus_stop_together_and_each_is_stepped_alone(debugged):
    source = """
    devices
    release 1, second
first: addi  r4, r4, 1
    b     first
second: addi r5, r5, 1
    b     second
"""
    machine, gdb = debugged(source, cores=2)
    assert gdb.ask(b"qfThreadInfo") == b"mp1.1,p1.2"
    assert gdb.ask(b"qsThreadInfo") == b"l"
    second = machine.symbols["second"]
    gdb.ask(b"Z0,%x,4" % second)
    assert stop_thread(gdb.ask(b"vCont;c")) == 2
    assert bytes.fromhex(gdb.ask(b"qThreadExtraInfo,p1.2").decode()) == b"CPU 1 [runs]"
    assert gdb.register("pc") == second and gdb.register("pir") == 1
    counts = [vcpu.instructions for vcpu in machine.vcpus]
    time.sleep(0.05)
    assert counts == [vcpu.instructions for vcpu in machine.vcpus]
    gdb.ask(b"vCont;s:p1.2")
    assert [vcpu.instructions for vcpu in machine.vcpus] == [counts[0], counts[1] + 1]
    gdb.ask(b"vCont;s:p1.2;c:p1.-1")
    assert machine.vcpus[0].instructions > counts[0]
    assert gdb.ask(b"Hgp1.1") == b"OK"
    assert machine.symbols["first"] <= gdb.register("pc") <= machine.symbols["first"] + 4
    assert gdb.ask(b"Hgp1.3") == b"E22" and gdb.ask(b"Tp1.7") == b"E22" and gdb.ask(b"Tp1.2") == b"OK"


def test_interrupts_wait_while_a_program_is_stepped(debugged):
    source = """
    vector 410, handler        # IVOR10
    li    r3, 1
    mtspr 22, r3               # DEC
    load32 r3, 0x04000000      # TCR[DIE]
    mtspr 340, r3
due: mfspr r3, 336             # TSR
    andis. r3, r3, 0x0800
    beq   due
enable: wrteei 1
loop: addi r4, r4, 1
    b     loop
    .align 4
handler: b handler
"""
    machine, gdb = debugged(source, started=False)
    enable, loop, handler = (machine.symbols[name] for name in ("enable", "loop", "handler"))
    gdb.ask(b"Z0,%x,4" % enable)
    gdb.ask(b"vCont;c")
    for n in range(20):
        gdb.ask(b"vCont;s:p1.1")
        assert gdb.register("pc") == (loop, loop + 4)[n % 2]
    gdb.ask(b"Z0,%x,4" % handler)
    gdb.ask(b"vCont;c")
    assert gdb.register("pc") == handler and gdb.register("srr0") == loop + 4


def test_time_stands_still_while_the_machine_is_stopped(debugged):
    machine, gdb = debugged(COUNTS)
    before = gdb.register("tbl")
    time.sleep(0.1)
    assert gdb.register("tbl") == before
    for _ in range(10):
        gdb.ask(b"vCont;s:p1.1")
    assert 0 <= gdb.register("tbl") - before < 100
    now = machine.clock.now_ns()
    time.sleep(0.02)
    assert machine.clock.now_ns() == now


def test_a_machine_that_is_held_begins_at_its_first_instruction(debugged):
    machine, gdb = debugged(COUNTS, started=False)
    assert gdb.register("pc") == ORIGIN and machine.vcpus[0].instructions == 0
    gdb.ask(b"vCont;s:p1.1")
    assert gdb.register("pc") == ORIGIN + 4


def test_gdb_comes_and_goes_and_the_program_does_not_notice(debugged):
    machine, gdb = debugged(COUNTS)
    gdb.ask(b"Z0,%x,4" % machine.symbols["loop"])
    gdb.ask(b"vCont;c")
    assert gdb.ask(b"D;1") == b"OK"
    count = results(machine, 1)
    deadline = time.monotonic() + 5
    while results(machine, 1) == count:
        assert time.monotonic() < deadline, "the program does not run"
    gdb.close()


def test_a_gdb_that_vanishes_leaves_no_breakpoint(debugged):
    machine, gdb = debugged(COUNTS)
    gdb.ask(b"Z0,%x,4" % machine.symbols["loop"])
    gdb.ask(b"vCont;c")
    gdb.close()
    count, deadline = results(machine, 1), time.monotonic() + 5
    while results(machine, 1) == count:
        assert time.monotonic() < deadline, "the program does not run"
    assert int(machine.vm.state.stop_count) == 0


def test_the_end_of_the_machine_is_told(debugged):
    machine, gdb = debugged(COUNTS)
    gdb.send(b"vCont;c")
    machine.quit()
    assert gdb.reply() == b"W00"


def test_kill_ends_the_machine(debugged):
    machine, gdb = debugged(COUNTS)
    gdb.send(b"k")
    assert machine.wait(10).kind == "stopped"


@pytest.mark.parametrize(
    "packet",
    [b"Z9,0,4", b"qXfer:auxv:read::0,100", b"vMustReplyEmpty", b"Z2,1000,0", b"vRun;a", b"", b"R00", b"QNonStop:1"],
)
def test_what_is_not_there_is_refused_by_an_empty_reply_or_an_error(debugged, packet):
    _, gdb = debugged(COUNTS)
    assert gdb.ask(packet) in (b"", b"E00")
    assert gdb.ask(b"qC") == b"QCp1.1"


@pytest.mark.parametrize(
    "packet",
    [
        b"m",
        b"mxyz,4",
        b"m1000",
        b"M1000,4:00",
        b"X0,9:a",
        b"Z0",
        b"p",
        b"Pfoo=1",
        b"vCont;q",
        b"qRcmd,zz",
        b"Hq1",
        b"vAttach;x",
        b"vAttach;99",
        b"Tpx.1",
        b"Hgp1.z",
    ],
)
def test_malformed_packets_are_errors_and_nothing_more(debugged, packet):
    machine, gdb = debugged(COUNTS)
    assert gdb.ask(packet).startswith(b"E")
    assert gdb.ask(b"qC") == b"QCp1.1"


def test_random_packets_hurt_nobody(debugged):
    machine, gdb = debugged(COUNTS)
    rng = random.Random(7)
    words = [b"g", b"p", b"P", b"m", b"M", b"X", b"Z0", b"z2", b"H", b"T", b"qXfer:", b"vCont;s", b"qRcmd,", b"vCont"]
    words += [b"qXfer:osdata:read:", b"Hg", b"Hc", b"vAttach;", b"qThreadExtraInfo,", b"!", b"Q", b"G"]
    for _ in range(1000):
        tail = bytes(rng.choices(b"0123456789abcdef,:;=-.pxs", k=rng.randrange(12)))
        gdb.ask(rng.choice(words) + tail.replace(b"c", b"d"))
    assert gdb.ask(b"qC").startswith(b"QCp1.1")


def monitor(gdb, line: str) -> str:
    return bytes.fromhex(gdb.ask(b"qRcmd," + line.encode().hex().encode()).decode()).decode()


GUEST = """
    load32 r3, 5
    mtspr 338, r3              # LPIDR
    load32 r3, 0x10000000 | 1 << 16    # MAS0: TLB1 entry 1
    mtspr 624, r3
    load32 r3, 0x80000000 | 2 << 7
    mtspr 625, r3
    li    r3, 0x1000
    mtspr 626, r3
    ori   r3, r3, 0x3F
    mtspr 627, r3
    li    r3, 0
    mtspr 944, r3
    load32 r3, 0x80000005      # MAS8: TGS, TLPID 5
    mtspr 341, r3
    isync
    tlbwe
    isync
    vector 434, called         # IVOR40
again:
    load32 r3, 0x10000000      # MSR[GS]
    mtspr 27, r3
    load32 r3, shared
    mtspr 26, r3
    rfi
    .align 4
called:
    load32 r3, shared + 4
    mtspr 26, r3
    addi  r6, r6, 1
    bl    shared
    b     again
shared:
    addi  r4, r4, 1
    mfmsr r5
    andis. r5, r5, 0x1000
    bne   guest
    blr
guest:
    sc    1
"""


@pytest.mark.parametrize("cpu", CORES)
def test_a_breakpoint_of_a_partition_stops_there_only(debugged, cpu):
    machine, gdb = debugged(GUEST, cpu)
    shared = machine.symbols["shared"]
    assert monitor(gdb, f"break {shared:#x} lpid 5") == f"{shared:#x} lpid 5\n"
    for _ in range(3):
        gdb.ask(b"vCont;c")
        assert gdb.register("pc") == shared and gdb.register("msr") & 1 << 28
        gdb.ask(b"vCont;s:p1.1")
    assert monitor(gdb, "delete") == "no breakpoints\n"
    monitor(gdb, f"break {shared:#x} lpid 0")
    for _ in range(3):
        gdb.ask(b"vCont;c")
        assert gdb.register("pc") == shared and not gdb.register("msr") & 1 << 28
        gdb.ask(b"vCont;s:p1.1")
    monitor(gdb, f"break {shared:#x} lpid 6")
    assert monitor(gdb, f"delete {shared + 4:#x}").count("lpid") == 2
    monitor(gdb, "delete")
    monitor(gdb, f"break {shared:#x} lpid 6")
    gdb.send(b"vCont;c")
    time.sleep(0.05)
    gdb.socket.sendall(b"\x03")
    assert gdb.reply().startswith(b"T02")


@pytest.mark.parametrize("cpu", CORES)
def test_a_partition_is_a_process_once_gdb_attaches_to_it(debugged, cpu):
    machine, gdb = debugged(GUEST, cpu, started=False)
    shared, bits = machine.symbols["shared"], machine.vm.core.bits
    assert gdb.ask(b"!") == b"OK" and gdb.ask(b"qfThreadInfo") == b"mp1.1"
    gdb.ask(b"Z0,%x,4" % shared)
    modes = set()
    for _ in range(4):  # without a process of its own it is a part of the guest
        assert stop_thread(gdb.ask(b"vCont;c")) == 1
        modes.add(gdb.register("msr") >> 28 & 1)
        gdb.ask(b"vCont;s:p1.1")
    assert modes == {0, 1}
    gdb.ask(b"z0,%x,4" % shared)
    assert gdb.ask(b"vAttach;6") == b"T00thread:p6.1;" and gdb.ask(b"vAttach;6") == b"E01"
    assert gdb.ask(b"qfThreadInfo") == b"mp1.1,p6.1"
    for process, guest in ((6, 1), (1, 0)):
        assert gdb.ask(b"Hgp%x.0" % process) == b"OK" and gdb.ask(b"Z0,%x,4" % shared) == b"OK"
        for _ in range(3):
            assert b"swbreak:;thread:p%x.1;" % process in gdb.ask(b"vCont;c")
            assert gdb.register("pc") == shared and gdb.register("msr") >> 28 & 1 == guest
            other = 7 - process
            assert gdb.ask(b"Hgp%x.1" % other) == b"OK" and set(gdb.ask(b"p40")) == set(b"x")
            assert gdb.ask(b"P3=%0*x" % (bits // 4, 5)) == b"E14" and gdb.ask(b"m%x,4" % shared) == b"E14"
            assert b"in another process" in bytes.fromhex(gdb.ask(b"qThreadExtraInfo,p%x.1" % other).decode())
            assert gdb.ask(b"Hgp%x.1" % process) == b"OK" and gdb.ask(b"m%x,4" % shared) == b"38840001"
            gdb.ask(b"vCont;s:p%x.1" % process)
        gdb.ask(b"Hgp%x.0" % process)
        gdb.ask(b"z0,%x,4" % shared)
    table = gdb.document(b"osdata", b"processes")
    assert "partition with LPID 5" in table and table.count("<item>") == 2
    assert gdb.ask(b"vKill;6") == b"E01" and gdb.ask(b"D;6") == b"OK" and gdb.ask(b"qfThreadInfo") == b"mp1.1"
    gdb.ask(b"Z0,%x,4" % shared)
    assert gdb.ask(b"D;1") == b"OK" and gdb.ask(b"?") == b"W00"  # connected still, and nothing stops
    assert not machine.held
    assert gdb.ask(b"vAttach;1") == b"T00thread:p1.1;" and machine.held


def test_a_guest_of_the_machine_itself_has_no_partitions(debugged):
    _, gdb = debugged(COUNTS, board="ppce500,hypervisor=on,serial=uart")
    assert gdb.ask(b"vAttach;6") == b"E01"


def test_physical_addresses_are_a_table_for_info_os(debugged):
    _, gdb = debugged(COUNTS)
    assert '<column name="Type">memory</column>' in gdb.document(b"osdata", b"")
    table = gdb.document(b"osdata", b"memory")
    assert '<column name="base">0xfe0004500</column><column name="size">0x100</column>' in table
    assert gdb.ask(b"qXfer:osdata:read:nothing:0,100") == b"E00"


LOAD = """
    devices
    release 1, work
    release 2, work
    release 3, work
work:
    mfspr r6, 286              # PIR
    slwi  r6, r6, 12
    load32 r3, 0x200000
    add   r3, r3, r6
again:
    lwz   r4, 0(r3)
    addi  r4, r4, 1
    stw   r4, 0(r3)
    bl    called
    b     again
called:
    addi  r5, r5, 1
    blr
"""


def attach_at_random(address: str, symbols: dict[str, int], cycles: int, seed: int) -> None:
    """So many connections, each with some random packets that a gdb sends; every one is answered."""
    from tests.debug.conftest import Client

    rng = random.Random(seed)
    for _ in range(cycles):
        gdb = Client(address)
        for _ in range(rng.randrange(6)):
            match rng.randrange(6):
                case 0:
                    assert gdb.ask(b"vCont;s:p1.%x" % rng.randrange(1, 5)).startswith(b"T05")
                case 1:
                    assert gdb.ask(b"vCont;s:p1.%x;c" % rng.randrange(1, 5)).startswith(b"T05")
                case 2:
                    gdb.send(b"vCont;c")
                    time.sleep(rng.random() * 0.002)
                    gdb.socket.sendall(b"\x03")
                    assert gdb.reply().startswith((b"T02", b"T05"))  # a breakpoint may have come first
                case 3:
                    gdb.ask(b"Z0,%x,4" % symbols["called"])
                    assert b"swbreak" in gdb.ask(b"vCont;c")
                    if rng.randrange(2):
                        gdb.ask(b"z0,%x,4" % symbols["called"])
                case 4:
                    thread = rng.randrange(1, 5)
                    gdb.ask(b"Hgp1.%x" % thread)
                    assert re.fullmatch(rb"[0-9a-f]+", gdb.ask(b"g"))
                    gdb.ask(b"Z2,%x,4" % (0x20_0000 + 0x1000 * (thread - 1)))
                    assert gdb.ask(b"vCont;c").startswith((b"T05watch:", b"T05swbreak:"))
                    gdb.ask(b"z2,%x,4" % (0x20_0000 + 0x1000 * (thread - 1)))
                case 5:
                    assert gdb.ask(b"m200000,4000")
        if rng.randrange(3):
            assert gdb.ask(b"D;1") == b"OK"
        gdb.close()


@pytest.mark.parametrize("cycles", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_gdb_comes_and_goes_at_random_while_four_cpus_compute(cycles):
    with bare_machine(LOAD, "e5500", cores=4) as machine:
        server = GdbServer(machine, "tcp::0")
        machine.start()
        attach_at_random(server.address, machine.symbols, cycles, seed=cycles)
        deadline = time.monotonic() + 10
        for cpu in range(4):
            before = machine.memory[0x20_0000 + 0x1000 * cpu :][:4]
            while machine.memory[0x20_0000 + 0x1000 * cpu :][:4] == before:
                assert time.monotonic() < deadline, f"cpu{cpu} stands still"
        assert int(machine.vm.state.stop_count) == 0 and not machine.held
        server.close()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", "OK"),
        ("help", "list the commands"),
        ("info cpus", "cpu0: pc 0x"),
        ("info registers pc msr", "pc   0x1"),
        ("info registers nonsense", "no register 'nonsense'"),
        ("info tlb", "64M   0"),
        ("info mtree", "0000000000-0003ffffff RAM"),
        ("info exits", "cpu0"),
        ("x /2i 0x1000", "lis r3,16"),
        ("x /3xb 0x1000", "0x1000: 3c 60 00"),
        ("x /q 0x1000", "write x /COUNTxw ADDRESS"),
        ("xp 0xfff00000000", "no device or RAM"),
        ("gva2gpa 0x1234", "0x1234"),
        ("gva2gpa 0xf0000000", "no translation now"),
        ("cpu 1", "there are cpus 0 to 0"),
        ("break", "write break ADDRESS"),
        ("break 4 lpid 999", "write break ADDRESS"),
        ("delete 1 2", "is one too many"),
        ("no 'such", "No closing quotation"),
        ("nonsense", "no such command; help lists them"),
    ],
)
def test_the_monitor_answers(debugged, line, answer):
    _, gdb = debugged(COUNTS)
    reply = gdb.ask(b"qRcmd," + line.encode().hex().encode())
    assert answer in (reply if reply == b"OK" else bytes.fromhex(reply.decode())).decode()


def test_the_monitor_resets_and_ends_the_machine(debugged):
    machine, gdb = debugged(COUNTS)
    monitor_resets = gdb.ask(b"qRcmd," + b"system_reset".hex().encode())
    assert monitor_resets == b"OK"
    deadline = time.monotonic() + 5
    while gdb.register("pc") != ORIGIN:
        assert time.monotonic() < deadline, "no reset"
    assert machine.vcpus[0].regs["r4"] == 0
    gdb.ask(b"qRcmd," + b"quit".hex().encode())
    assert machine.wait(10).kind == "stopped"


def test_a_gdb_may_leave_after_its_machine():
    from tests.debug.conftest import Client

    with bare_machine(COUNTS) as machine:
        server = GdbServer(machine, "tcp::0")
        machine.start()
        gdb = Client(server.address)
        assert gdb.ask(b"Z0,%x,4" % (ORIGIN + 0x100)) == b"OK"  # nothing goes there
        gdb.send(b"vCont;c")
        until(lambda: not machine.held)
    gdb.close()
    server.close()


def test_a_unix_socket_is_made_and_removed(tmp_path):
    from tests.debug.conftest import Client

    path = tmp_path / "gdb"
    with bare_machine(COUNTS) as machine:
        server = GdbServer(machine, f"unix:{path}")
        machine.start()
        assert path.stat().st_mode & 0o777 == 0o600
        client = Client(server.address)
        assert client.ask(b"?").startswith(b"T05")
        client.close()
        server.close()
    assert not path.exists()


@pytest.mark.parametrize("where", ["tcp::99999", "tcp:", "udp::1", "unix:", "1234", "unix:/nowhere/at/all"])
def test_a_place_that_cannot_be_listened_at_is_refused(where):
    with bare_machine(COUNTS) as machine, pytest.raises(UserError, match="-gdb"):
        GdbServer(machine, where, "-gdb")
