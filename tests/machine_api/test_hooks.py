"""Hooks: when they are called, what they may do, and what becomes of their mistakes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from powervisor import Machine
from powervisor.errors import PowervisorError, UserError
from powervisor.machine import Cpu, HookError
from powervisor.machine.events import Access, Accessed, Exited, Interrupt, Syscall
from tests.system.bare import ORIGIN, RESULTS, bare_machine

GUTS_SVR = 0xF_E00E_00A4


def address(machine: Machine, name: str) -> int:
    """Of a label in the program."""
    return int(machine.symbols[name])  # type: ignore[attr-defined]


# ---- addresses ---------------------------------------------------------------------------------------------------


def test_an_address_hook_sees_each_passage_until_it_is_removed(looping: Machine):
    counts: list[int] = []

    @looping.hooks.at(address(looping, "count"))
    def look(cpu: Cpu) -> None:
        counts.append(cpu.regs["r3"])
        if len(counts) == 30:
            cpu.stop()

    assert looping.run(20) is None
    assert counts == list(range(1, 31)) and look.calls == 30
    look.remove()
    looping.run(0.02)
    assert look.calls == 30
    assert (len(looping.hooks), int(looping.vm.state.stop_count)) == (0, 0)


def test_a_hook_lasts_as_long_as_its_block(looping: Machine):
    with looping.hooks.at(address(looping, "count"), lambda cpu: cpu.stop()) as hook:
        looping.run(20)
    looping.run(0.02)
    assert hook.calls == 1


def test_a_hook_may_change_registers_memory_and_pc(looping: Machine):
    def skip(cpu: Cpu) -> None:
        cpu.pc += 4  # the store of r3
        cpu.memory.write32(RESULTS + 4, 0x5555)
        cpu.regs["r3"] = 41
        if hook.calls == 3:
            cpu.stop()

    hook = looping.hooks.at(address(looping, "count"), skip)
    looping.run(20)
    assert looping.memory.read32(RESULTS + 4) == 0x5555
    assert looping.cpus[0].regs["r3"] == 41 and looping.cpus[0].pc == address(looping, "count") + 4


def test_hooks_at_one_address_are_called_in_order_of_their_making(looping: Machine):
    order: list[str] = []
    looping.hooks.at(address(looping, "count"), lambda cpu: order.append("first"))
    looping.hooks.at(address(looping, "count"), lambda cpu: (order.append("second"), cpu.stop()))
    looping.run(20)
    assert order == ["first", "second"]


def test_a_hook_of_one_cpu_is_not_called_for_another(looping: Machine):
    with pytest.raises(UserError, match="cpu=1: there are cpus 0 to 0"):
        looping.hooks.at(ORIGIN, lambda cpu: None, cpu=1)
    hook = looping.hooks.at(address(looping, "count"), lambda cpu: cpu.stop(), cpu=0)
    looping.run(20)
    assert hook.calls == 1


def test_hooks_are_called_while_instructions_are_counted_and_stepped(looping: Machine):
    hook = looping.hooks.at(address(looping, "count"), lambda cpu: None)
    looping.run(instructions=800)
    calls = hook.calls
    assert calls in range(90, 100)
    looping.cpus[0].step(8)
    assert hook.calls == calls + 1


def test_a_watched_byte_is_told_before_it_changes(looping: Machine):
    told: list[tuple[int, bool, int]] = []

    def look(access: Accessed) -> None:
        told.append((access.address, access.write, looping.memory.read32(RESULTS + 4)))
        if len(told) == 3:
            access.cpu.stop()

    looping.hooks.access(RESULTS + 4, 4, look, reads=False)
    looping.run(20)
    assert told == [(RESULTS + 4, True, n) for n in range(3)]


# ---- devices -----------------------------------------------------------------------------------------------------


def test_a_device_register_is_read_with_the_value_a_hook_gives(looping: Machine):
    seen: list[Access] = []

    @looping.hooks.mmio("guts", "svr")
    def answer(access: Access) -> None:
        seen.append(access)
        access.value = 0xCAFE

    looping.run(until=address(looping, "again"))
    looping.run(until=address(looping, "again"))
    assert looping.memory.read32(RESULTS) == 0xCAFE
    first = seen[0]
    assert (first.address, first.size, first.write, first.offset) == (GUTS_SVR, 4, False, 0xA4)
    assert (first.device, first.register, str(first)) == ("guts", "svr", "read of guts.svr on cpu0")
    answer.remove()
    looping.run(until=address(looping, "again"))
    assert looping.memory.read32(RESULTS) == looping.cpus[0].spr.svr


def test_a_hook_that_only_looks_changes_nothing(looping: Machine):
    values: list[int] = []
    looping.hooks.mmio("guts", function=lambda access: values.append(access.value))
    looping.run(until=address(looping, "again"))
    looping.run(until=address(looping, "again"))
    assert values == [looping.cpus[0].spr.svr] == [looping.memory.read32(RESULTS)]


def test_a_register_that_native_code_answers_for_is_seen_too(looping: Machine):
    """The scratch register only holds bits: without a hook no access to it leaves native code."""
    written: list[tuple[bool, int]] = []
    looping.run(instructions=100)
    before = looping.vcpus[0].exit_counts()["mmio"]
    with looping.hooks.mmio("serial0", "scratch", lambda access: written.append((access.write, access.value))):
        looping.run(instructions=800)
    assert written[0][1] == written[1][1] and {write for write, _ in written} == {True, False}
    assert len(written) in range(198, 202)
    exits = looping.vcpus[0].exit_counts()["mmio"]
    assert exits - before >= 298
    looping.run(instructions=800)
    assert looping.vcpus[0].exit_counts()["mmio"] - exits in range(98, 102), "SVR's only"


def test_a_dropped_write_never_reaches_the_device_and_a_changed_one_does(looping: Machine):
    scratch = looping.devices["serial0"].registers["scratch"][0]
    with looping.hooks.mmio("serial0", "scratch", lambda access: access.drop(), reads=False):
        looping.run(instructions=200)
    assert scratch.value == 0
    looping.hooks.mmio("serial0", "scratch", lambda access: setattr(access, "value", 0x77), reads=False)
    looping.run(instructions=200)
    assert scratch.value == 0x77 == looping.memory.read8(RESULTS + 15)


def test_a_dropped_read_gives_zero_and_leaves_the_device_alone(looping: Machine):
    reads = looping.devices["guts"].counters.reads
    looping.hooks.mmio("guts", "svr", lambda access: access.drop())
    looping.run(instructions=200)
    assert looping.memory.read32(RESULTS) == 0
    assert looping.devices["guts"].counters.reads == reads


def test_a_failed_access_is_a_machine_check():
    source = """
        vector 401, handler           # IVOR1
        li    r31, 0x1000             # MSR[ME]
        mtmsr r31
        devices
        load32 r4, DEVICES + 0xE00A4
    access:
        lwz   r5, 0(r4)
        b     .
        .balign 16
    handler:
        b     .
    """
    with bare_machine(source) as machine:
        machine.hooks.mmio(GUTS_SVR, function=lambda access: access.fail())
        machine.run(until=address(machine, "handler"), seconds=20)
        assert machine.cpus[0].spr.mcsrr0 == address(machine, "access")
        assert machine.cpus[0].spr.mcsr.LD == 1


def test_a_range_and_reads_or_writes_only(looping: Machine):
    told: list[str] = []
    looping.hooks.mmio(range(0xF_E000_4500, 0xF_E000_4600), function=lambda a: told.append(str(a)), writes=False)
    looping.run(instructions=100)
    assert set(told) == {"read of serial0.scratch on cpu0"}


def test_interrupt_controller_registers_can_be_hooked():
    source = """
        devices
        load32 r4, DEVICES + 0x40000
        lwz   r5, 0x20A0(r4)          # no register
        lwz   r5, 0xA0(r4)            # IACK
        b     .
    """
    with bare_machine(source) as machine:
        hook = machine.hooks.mmio("mpic", "IACK", lambda access: setattr(access, "value", 0x99))
        machine.run(instructions=100)
        assert (hook.calls, machine.cpus[0].regs["r5"]) == (1, 0x99)


def test_places_that_cannot_be_hooked_are_refused_in_one_line(looping: Machine):
    for where, register, message in (
        ("serial9", None, "no device serial9: did you mean serial"),
        ("serial0", "scrach", "serial0 has no register scrach: did you mean scratch"),
        ("rtc", None, "rtc has no registers at a physical address of its own; these have: i2c, serial0"),
        (RESULTS, None, "0x100000: give an address or range above RAM"),
        (GUTS_SVR, "svr", "give an address or range above RAM, or a device's name"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            looping.hooks.mmio(where, register, lambda access: None)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="instructions lie at multiples of 4"):
        looping.hooks.at(0x1002, lambda cpu: None)
    with pytest.raises(UserError, match="give a length of 1 or more"):
        looping.hooks.access(0x1000, 0, lambda access: None)
    for arguments in ({"number": "NOPE"}, {"number": 34}, {}, {"number": "DECREMENTER", "source": 42}):
        with pytest.raises(UserError, match="hooks.interrupt"):
            looping.hooks.interrupt(**arguments)
    with pytest.raises(UserError, match="hooks.exit mio: there are mmio, kick"):
        looping.hooks.exit("mio")


# ---- interrupts and system calls -----------------------------------------------------------------------------------

CALLS = """
    vector 408, handler           # IVOR8
    li    r9, 7
again:
    or    r0, r9, r9
    li    r3, 1
    li    r4, 2
call:
    sc
    addi  r10, r3, 0
    addi  r9, r9, 1
    b     again
    .balign 16
handler:
    li    r3, 100
    rfi
"""


def test_system_calls_are_seen_with_number_and_arguments():
    with bare_machine(CALLS) as machine:
        seen: list[tuple[int, tuple[int, ...], int]] = []

        @machine.hooks.syscall()
        def look(call: Syscall) -> None:
            seen.append((call.call, call.arguments[:2], call.pc))
            if len(seen) == 3:
                call.cpu.stop()

        machine.run(20)
        assert seen == [(n, (1, 2), address(machine, "call")) for n in (7, 8, 9)]
        assert machine.cpus[0].pc == address(machine, "handler"), "the call is taken"
        look.remove()
        assert int(machine.vm.state.hooked_interrupts) == 0


def test_a_system_call_can_be_answered_in_the_kernels_place():
    with bare_machine(CALLS) as machine:
        machine.hooks.syscall(8, lambda call: call.answer(55, failed=True))
        machine.run(until=address(machine, "again"))
        results = []
        for _ in range(3):
            machine.run(until=address(machine, "again"))
            results.append((machine.cpus[0].regs["r10"], machine.cpus[0].regs["cr"] >> 28 & 1))
        assert results == [(100, 0), (55, 1), (100, 1)]


def test_system_calls_of_a_partition_are_told_from_the_hypervisors():
    source = """
        vector 443, guest_handler     # GIVOR8
        vector 408, handler           # IVOR8
        load32 r31, 0x10000000        # TLB1 entry 2: the first 64 MiB, for partition 1 in guest state
        oris  r31, r31, 2
        mtspr 624, r31
        load32 r31, 0xC0000800
        mtspr 625, r31
        li    r31, 0
        mtspr 626, r31
        mtspr 944, r31
        li    r31, 0x3F
        mtspr 627, r31
        load32 r31, 0x80000001        # MAS8: TGS, TLPID 1
        mtspr 341, r31
        isync
        tlbwe
        isync
        li    r31, 1
        mtspr 338, r31                # LPIDR
        li    r0, 1
        sc
        load32 r31, guest
        mtspr 26, r31
        load32 r31, 0x10000000        # MSR[GS]
        mtspr 27, r31
        rfi
    guest:
        li    r0, 2
        sc
        b     .
        .balign 16
    handler:
        rfi
        .balign 16
    guest_handler:
        b     .
    """
    with bare_machine(source) as machine:
        seen: list[tuple[int, bool, str, int]] = []
        machine.hooks.syscall(None, lambda c: seen.append((c.call, c.guest, c.saved, c.cpu.lpid)))
        partition = machine.hooks.syscall(None, lambda call: call.cpu.stop(), lpid=1)
        machine.run(20)
        assert seen == [(1, False, "srr", 0), (2, True, "gsrr", 1)]
        assert partition.calls == 1 and machine.cpus[0].pc == address(machine, "guest_handler")


def test_hooks_follow_the_vectors_that_the_guest_moves():
    source = """
        vector 408, first
        sc
        vector 408, second
        sc
        b     .
        .balign 16
    first:
        rfi
        .balign 16
    second:
        rfi
    """
    with bare_machine(source) as machine:
        vectors: list[int] = []
        machine.hooks.interrupt("SYSTEM_CALL", lambda interrupt: vectors.append(interrupt.cpu.pc))
        machine.run(instructions=100)
        assert vectors == [address(machine, "first"), address(machine, "second")]


DECREMENTER = """
    vector 410, handler           # IVOR10
    load32 r31, 0x04000000        # TCR[DIE]
    mtspr 340, r31
    li    r31, 1000
    mtspr 22, r31
    load32 r31, 0x8000
    mtmsr r31
    b     .
    .balign 16
handler:
    load32 r31, 0x08000000
    mtspr 336, r31                # TSR[DIS]
    li    r31, 1000
    mtspr 22, r31
    rfi
"""


def test_interrupts_have_names_and_the_interrupted_place():
    with bare_machine(DECREMENTER) as machine:
        seen: list[Interrupt] = []

        @machine.hooks.interrupt(10)
        def look(interrupt: Interrupt) -> None:
            seen.append(interrupt)
            if len(seen) == 2:
                interrupt.cpu.stop()

        machine.run(20)
        assert [i.name for i in seen] == ["DECREMENTER"] * 2
        assert not seen[1].guest and seen[1].saved == "srr"
        assert machine.cpus[0].memory.read32(seen[1].interrupted) == 0x4800_0000, "b ."
        assert (look.calls, machine.cpus[0].msr.EE) == (2, 0)


def test_an_interrupt_that_is_undone_comes_again_while_its_cause_stays():
    with bare_machine(DECREMENTER) as machine:

        @machine.hooks.interrupt("decrementer")
        def undo(interrupt: Interrupt) -> None:
            if undo.calls < 5:
                interrupt.return_()
            else:
                interrupt.cpu.stop()

        machine.run(20)
        assert undo.calls == 5 and machine.cpus[0].pc == address(machine, "handler")


EXTERNAL = """
    vector 404, handler           # IVOR4
    uart_interrupts
    li    r31, 2
    stb   r31, 1(r6)              # IER: transmitter empty
    load32 r31, 0x8000
    mtmsr r31
    b     .
    .balign 16
handler:
    lwz   r7, 0xA0(r4)            # IACK
    lbz   r8, 2(r6)               # IIR: ends it
    li    r31, 0
    stw   r31, 0xB0(r4)           # EOI
    li    r31, 0
    stb   r31, 1(r6)
    li    r31, 2
    stb   r31, 1(r6)
    rfi
"""


def test_external_interrupts_are_told_by_their_source():
    with bare_machine(EXTERNAL) as machine:
        others = machine.hooks.interrupt(source=43, function=lambda interrupt: None)
        seen: list[Interrupt] = []
        machine.hooks.interrupt(source=42, function=lambda interrupt: (seen.append(interrupt), interrupt.cpu.stop()))
        machine.run(20)
        machine.run(20)
        assert [(i.name, i.source) for i in seen] == [("EXTERNAL", "42")] * 2
        assert machine.cpus[0].regs["r7"] == 0x33 and others.calls == 0


# ---- exits -------------------------------------------------------------------------------------------------------


def test_exits_are_told_with_what_they_took(looping: Machine):
    told: list[Exited] = []

    def look(exited: Exited) -> None:
        told.append(exited)
        if len(told) == 5:
            exited.cpu.stop()

    with looping.hooks.exit("mmio", look):
        assert looping.vm.observers
        looping.run(20)
    assert {type(exited.exit).__name__ for exited in told} == {"Mmio"}
    assert all(0 < exited.seconds < 5 for exited in told)
    assert not looping.vm.observers


def test_exit_statistics_count_what_hooks_make():
    from powervisor.analysis.timing import measure

    with bare_machine(CALLS) as machine:
        hook = machine.hooks.syscall(function=lambda call: None)
        with measure(machine):
            machine.run(instructions=1000)
            assert hook.calls > 50
            assert "DEBUG" in str(machine.statistics())


# ---- mistakes ----------------------------------------------------------------------------------------------------


def test_what_a_hook_raises_comes_to_the_caller_with_place_and_cause(looping: Machine):
    @looping.hooks.at(address(looping, "count"))
    def wrong(cpu: Cpu) -> None:
        if cpu.regs["r3"] == 4:
            raise KeyError("four")

    with pytest.raises(HookError, match="cpu0 pc=0x[0-9a-f]+ 'stw r3,4.r6.': the hook at 0x") as caught:
        looping.run(20)
    error = caught.value
    assert (error.cpu, error.pc, error.instruction) == (0, address(looping, "count"), "stw r3,4(r6)")
    assert isinstance(error.__cause__, KeyError) and "KeyError: 'four'" in str(error) and "\n" not in str(error)
    assert looping.memory.read32(RESULTS + 4) == 3, "the machine is held before the instruction"
    wrong.remove()
    looping.run(20, until=lambda machine: machine.memory.read32(RESULTS + 4) > 100)


@pytest.mark.parametrize("kind", ["mmio", "interrupt", "exit", "access"])
def test_hooks_of_every_kind_give_their_mistakes_to_the_caller(kind: str):
    source = """
        vector 408, handler
        devices
        load32 r4, DEVICES + 0xE00A4
        load32 r6, RESULTS
    again:
        lwz   r5, 0(r4)
        stw   r5, 0(r6)
        sc
        b     again
        .balign 16
    handler:
        rfi
    """
    with bare_machine(source) as machine:

        def wrong(event: Any) -> None:
            raise ValueError(kind)

        hooks = machine.hooks
        hook = {
            "mmio": lambda: hooks.mmio("guts", function=wrong), "interrupt": lambda: hooks.syscall(function=wrong),
            "exit": lambda: hooks.exit(function=wrong), "access": lambda: hooks.access(RESULTS, 4, wrong),
        }[kind]()  # fmt: skip
        with pytest.raises(HookError, match=f"raised ValueError: {kind}"):
            machine.run(20)
        hook.remove()
        assert machine.run(0.02) is None, "it goes on"
        assert machine.memory.read32(RESULTS) == machine.cpus[0].spr.svr


def test_a_mistake_ends_waiting_for_text_and_counting(looping: Machine):
    looping.hooks.at(address(looping, "count"), lambda cpu: 1 // 0)
    looping.start()
    with pytest.raises(HookError, match="ZeroDivisionError"):
        looping.console.expect("never", 60)
    looping.release()
    with pytest.raises(HookError, match="ZeroDivisionError"):
        looping.wait(60)
    executed = looping.cpus[0].instructions
    with pytest.raises(HookError, match="ZeroDivisionError"):
        looping.run(instructions=1_000_000)
    assert looping.cpus[0].instructions - executed < 20


def test_an_assertion_of_a_test_in_a_hook_is_not_lost(looping: Machine):
    looping.hooks.at(address(looping, "count"), lambda cpu: pytest.fail("not here"))
    with pytest.raises(HookError, match="not here"):
        looping.run(20)


@pytest.mark.parametrize("act", ["run", "wait", "step", "expect", "snapshot", "stop", "close"])
def test_a_hook_must_not_wait_for_vcpus(looping: Machine, act: str):
    acts = {
        "run": lambda: looping.run(1), "wait": lambda: looping.wait(1), "step": lambda: looping.cpus[0].step(),
        "expect": lambda: looping.console.expect("x", 1), "snapshot": looping.snapshot, "stop": looping.stop,
        "close": looping.close,
    }  # fmt: skip
    looping.hooks.at(address(looping, "count"), lambda cpu: acts[act]())
    with pytest.raises(HookError, match="must not wait for the machine; call cpu.stop") as caught:
        looping.run(20)
    assert isinstance(caught.value.__cause__, PowervisorError)


def test_a_hook_has_one_function(looping: Machine):
    hook = looping.hooks.at(ORIGIN, lambda cpu: None)
    with pytest.raises(PowervisorError, match="the hook at 0x1000 has a function already"):
        hook(lambda cpu: None)
    looping.hooks.at(ORIGIN, lambda cpu: None)
    looping.hooks.clear()
    assert len(looping.hooks) == 0


# ---- under load --------------------------------------------------------------------------------------------------


def test_hooks_come_and_go_from_hooks_and_other_threads_while_cpus_run():
    source = """
        devices
        release 1, work
        release 2, work
        release 3, work
    work:
        li    r3, 0
    again:
        addi  r3, r3, 1
    count:
        b     again
    """
    with bare_machine(source, cores=4) as machine:
        place, met = address(machine, "count"), set[int]()

        def nested(cpu: Cpu) -> None:
            met.add(cpu.index)
            with machine.hooks.at(place + 0x100, lambda cpu: None):
                pass

        machine.start()
        end = time.monotonic() + 20

        def coming_and_going() -> None:
            while len(met) < 4 and time.monotonic() < end:
                with machine.hooks.at(place, nested):
                    machine.wait(0.01)

        threads = [threading.Thread(target=coming_and_going) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert met == {0, 1, 2, 3}
        machine.hold()
        while len(machine.hooks) and time.monotonic() < end + 5:  # one that a vCPU is in
            time.sleep(0.01)
        assert len(machine.hooks) == 0
        then = [cpu.instructions for cpu in machine.cpus]
        machine.run(0.1)
        assert all(cpu.instructions > before for cpu, before in zip(machine.cpus, then, strict=True))


def test_a_run_until_text_ends_when_a_hook_stops_it():
    with bare_machine("again: b again\n") as machine:
        machine.hooks.at(machine.symbols["again"], lambda hit: machine.stop_run())
        assert machine.run(20, until="never") is None
        assert machine.run_stopped and machine.held
