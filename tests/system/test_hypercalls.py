"""Hypercalls from bare metal: every call, its errors, and the vCPU that a guest of Powervisor has."""

from __future__ import annotations

import struct
import time

import pytest

from powervisor.isa.epapr import Hcall, Status
from tests.support.hypercalls import BOARD, answers, call, program, run
from tests.support.waiting import run_until
from tests.system.bare import bare_machine, results

CORES = ["e500mc", "e5500", "e6500"]
CONSOLE, DOORBELL = 1, 0x101
"""Handles in the tree of a board with one serial line and one doorbell."""


def outcome(*calls: tuple[int, ...], cpu: str = "e5500", typed: bytes = b"", **options: object):
    """Results of calls, and what was printed."""
    with bare_machine(program(*(call(*words) for words in calls)), cpu, board=BOARD, **options) as machine:
        if typed:
            machine.console.on_receive(typed)
        run(machine)
        return answers(machine, len(calls)), machine.console.text


@pytest.mark.parametrize("cpu", CORES)
def test_bytes_go_both_ways_through_a_channel(cpu):
    words = struct.unpack(">4I", b"Hello, partition")
    found, printed = outcome(
        (Hcall.BYTE_CHANNEL_SEND, CONSOLE, 16, *words),
        (Hcall.BYTE_CHANNEL_SEND, CONSOLE, 3, *words),
        (Hcall.BYTE_CHANNEL_POLL, CONSOLE),
        (Hcall.BYTE_CHANNEL_RECEIVE, CONSOLE, 5),
        (Hcall.BYTE_CHANNEL_RECEIVE, CONSOLE, 16),
        (Hcall.BYTE_CHANNEL_RECEIVE, CONSOLE, 16),
        cpu=cpu,
        typed=b"typed words",
    )
    assert printed == "Hello, partitionHel"
    assert [answer[:2] for answer in found] == [(0, 16), (0, 3), (0, 11), (0, 5), (0, 6), (0, 0)]
    assert found[2][2] >= 16  # room to send
    assert struct.pack(">4I", *found[3][2:6]) == b"typed" + bytes(11)
    assert struct.pack(">4I", *found[4][2:6]) == b" words" + bytes(10)


WRONG = {
    "no-such-channel": (Hcall.BYTE_CHANNEL_SEND, 77, 1),
    "a-line-that-leads-nowhere": (Hcall.BYTE_CHANNEL_SEND, 2, 1),
    "a-doorbell-is-no-channel": (Hcall.BYTE_CHANNEL_SEND, DOORBELL, 1),
    "seventeen-bytes-out": (Hcall.BYTE_CHANNEL_SEND, CONSOLE, 17),
    "minus-one-bytes-out": (Hcall.BYTE_CHANNEL_SEND, CONSOLE, 0xFFFF_FFFF),
    "receive-of-nothing": (Hcall.BYTE_CHANNEL_RECEIVE, 0, 1),
    "seventeen-bytes-in": (Hcall.BYTE_CHANNEL_RECEIVE, CONSOLE, 17),
    "poll-of-nothing": (Hcall.BYTE_CHANNEL_POLL, 0xFFFF_FFFF),
    "a-channel-is-no-doorbell": (Hcall.DOORBELL_SEND, CONSOLE),
    "no-such-doorbell": (Hcall.DOORBELL_SEND, DOORBELL + 1),
}


def test_wrong_handles_and_counts_are_invalid_and_do_nothing():
    found, printed = outcome(*WRONG.values())
    assert dict(zip(WRONG, (answer[0] for answer in found), strict=True)) == dict.fromkeys(WRONG, Status.EINVAL)
    assert printed == ""


def test_what_is_not_there_is_unimplemented():
    """Local numbers, the virtual PIC's calls, Freescale's, IBM's, KVM's magic page; and nothing else changes."""
    tokens = [0, 1, *(1 << 16 | n for n in (0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 0xFFFF)), 2 << 16 | 1, 3 << 16]
    tokens += [42 << 16 | 4, 42 << 16 | 1, 0xFFFF_FFFF, 0x8001_0001]
    found, _ = outcome(*((token, 11, 12, 13, 14, 15, 16) for token in tokens))
    assert {answer[:6] for answer in found} == {(Status.UNIMPLEMENTED, 12, 13, 14, 15, 16)}


def test_kvm_has_no_feature_that_linux_would_use():
    found, _ = outcome((Hcall.KVM_FEATURES, 5, 5))
    assert found[0][:2] == (0, 0)


def test_upper_halves_of_arguments_mean_nothing():
    """lis sign-extends on 64-bit cores: handle and token have ones above."""
    upper = "lis r3, -1\nsldi r3, r3, 32\nori r3, r3, 1\nload32 r4, 1\nload32 r5, 0x41000000\n"
    source = f"{upper}lis r11, -1\nsldi r11, r11, 32\noris r11, r11, 1\nori r11, r11, 1\nsc 1\nstd r3, 0(r20)"
    with bare_machine(program(source), board=BOARD) as machine:
        run(machine)
        assert (results(machine, 2), machine.console.text) == ((0, 0), "A")


@pytest.mark.parametrize("cpu", CORES)
def test_users_may_not_call(cpu):
    source = """
    vector 406, handler         # program
    load32 r9, 0x4000           # PR
    mtmsr r9
    isync
    sc    1
    nop
    .balign 16
handler:
    mfspr r3, 62                # ESR
    stw   r3, 0(r20)
    mfspr r3, 26
    lwz   r4, 0(r3)
    stw   r4, 4(r20)
    """
    with bare_machine(program(source), cpu, board=BOARD) as machine:
        run(machine)
        assert results(machine, 2) == (0x0400_0000, 0x4400_0022)  # PPR, at the call


ABSENT = {
    "rfgi": "rfgi",
    "ehpriv": "ehpriv 0",
    **{f"mfspr {n}": f"mfspr r3, {n}" for n in (338, 339, 341, 311, 368, 370, 378, 379, 382, 383, 432, 435, 440, 447)},
    **{f"mtspr {n}": f"mtspr {n}, r3" for n in (338, 341, 339, 311, 432, 447)},
}
"""LPIDR, MAS5, MAS8, MSRP, guest registers, IVOR38 to 41."""


@pytest.mark.parametrize("cpu", CORES)
def test_a_guest_has_no_hypervisor_category(cpu):
    """MMUCFG says so, its registers and instructions are illegal, MSR[GS] does not exist, EPCR has ICM at most."""
    tries = "\n".join(f"{text}\nnop" for text in ABSENT.values())
    source = f"""
    vector 406, handler
    b     begin
    .balign 16
handler:
    mfspr r3, 62
    stw   r3, 0(r20)
    addi  r20, r20, 4
    mfspr r3, 26
    addi  r3, r3, 4
    mtspr 26, r3
    rfi
begin:
{tries}
    mfspr r3, 1015              # MMUCFG
    stw   r3, 0(r20)
    mfmsr r3
    oris  r3, r3, 0x1000        # GS
    mtmsr r3
    mfmsr r3
    stw   r3, 4(r20)
    li    r3, -1
    mtspr 947, r3               # EPLC
    mfspr r3, 947
    stw   r3, 8(r20)
    """
    source += "addi r20, r20, 12\nli r3, -1\nmtspr 307, r3\nmfspr r3, 307\n"
    if cpu != "e500mc":
        source += "stw r3, 0(r20)"
    with bare_machine(program(source), cpu, board=BOARD) as machine:
        run(machine)
        found = results(machine, len(ABSENT) + 4)
    illegal = 0x0800_0000
    assert dict(zip(ABSENT, found, strict=False)) == dict.fromkeys(ABSENT, illegal)
    mmucfg, msr, eplc, epcr = found[len(ABSENT) :]
    assert mmucfg & 0x0F01_0000 == 0
    assert msr & 0x1000_0000 == 0
    assert eplc & 0x20FF_0000 == 0 and eplc & 0xC000_00FF == 0xC000_00FF
    assert epcr == (illegal if cpu == "e500mc" else 0x0200_0000)


def test_without_a_hypervisor_sc_1_is_an_interrupt():
    source = "vector 434, handler\nsc 1\nnop\n.balign 16\nhandler:\nli r3, 77\nstw r3, 0(r20)"
    with bare_machine(program(source)) as machine:
        run(machine)
        assert results(machine, 1) == (77,)


# ---- idle, messages, doorbells -------------------------------------------------------------------------------------

IDLE = f"load32 r11, {Hcall.IDLE:#x}\nli r3, 5\nsc 1\nstw r3, 0(r20)"
TIMER = """
    load32 r9, 4000000          # 10 ms
    mtspr 22, r9
    load32 r9, 0x04000000       # TCR[DIE]
    mtspr 340, r9
"""


def slept(source: str, **options: object) -> tuple[dict[str, int], tuple[int, ...]]:
    """Run a program to its end; its counters and results."""
    with bare_machine(program(source), board=BOARD, **options) as machine:
        machine.start()
        end = time.monotonic() + 30
        while machine.memory[0xFFFFC:0x100000] == bytes(4):
            assert time.monotonic() < end, machine.state_text()
            time.sleep(0.001)
        machine.stop()
        return machine.vcpus[0].counters() | machine.vcpus[0].exit_counts(), results(machine, 4)


def test_idle_sleeps_until_an_interrupt():
    handler = "b begin\n.balign 16\nhandler:\nli r9, 33\nstw r9, 4(r20)\nlis r9, 0x0800\nmtspr 336, r9\nrfi\nbegin:\n"
    counters, found = slept(f"vector 410, handler\n{handler}{TIMER}wrteei 1\n{IDLE}")
    assert found[:2] == (0, 33)
    assert counters["halts"] >= 1 and counters["hypercalls"] == 1 and "hcall" not in counters


def test_idle_ends_for_what_msr_holds_off():
    """It would never end for a guest that looks at what is pending itself."""
    counters, found = slept(f"{TIMER}{IDLE}\nmfspr r9, 336\nstw r9, 4(r20)")
    assert found[:2] == (0, 0x0800_0000) and counters["halts"] >= 1


def test_idle_does_not_end_for_what_is_disabled_at_its_source():
    disabled = TIMER.replace("0x04000000", "0")
    with bare_machine(program(f"{disabled}{IDLE}"), board=BOARD) as machine:
        run_until(machine, lambda: bool(machine.vcpus[0].state.waiting))
        assert machine.run(seconds=0.1) is None  # ten times as long as the decrementer takes
        assert machine.memory[0xFFFFC:0x100000] == bytes(4)
        assert int(machine.vcpus[0].state.waiting)


def test_messages_are_those_of_msgsnd():
    source = f"""
    vector 532, handler         # IVOR36, processor doorbell
    b     begin
    .balign 16
handler:
    li    r9, 44
    stw   r9, 4(r20)
    rfi
begin:
    wrteei 1
    load32 r11, {Hcall.MSGSND:#x}
    li    r3, 0
    sc    1
    stw   r3, 0(r20)
    """
    with bare_machine(program(source), board=BOARD) as machine:
        run(machine)
        assert results(machine, 2) == (0, 44)


def test_guests_have_no_guest_doorbells():
    message = 2 << 27 | 1 << 26
    found, _ = outcome((Hcall.MSGSND, message), (Hcall.MSGSND, 3 << 27 | 1 << 26), (Hcall.MSGSND, 31 << 27))
    assert [answer[0] for answer in found] == [0, 0, 0]
    with bare_machine(program(call(Hcall.MSGSND, message)), board=BOARD) as machine:
        run(machine)
        assert int(machine.vcpus[0].state.doorbells) == 0


RISING, HIGH = 0x0080_0000, 0x00C0_0000
"""Polarity and sense of an interrupt source."""


def source_register(source: int) -> int:
    """Offset in CCSR of an interrupt source's vector and priority."""
    return 0x5_0000 + 0x20 * source


def interrupt_by(source: int, sense: int, vector: int) -> str:
    """Let a source interrupt this CPU; the handler stores what IACK says at RESULTS + 64."""
    return f"""
    devices
    vector 404, external
    b     armed
    .balign 16
external:
    load32 r9, DEVICES + 0x600A0
    lwz   r10, 0(r9)
    load32 r9, RESULTS + 64
    stw   r10, 0(r9)
    load32 r9, DEVICES + {source_register(source):#x}
    lis   r10, 0x8000           # masked, or a level would come again
    stw   r10, 0(r9)
    load32 r9, DEVICES + 0x600B0
    li    r10, 0
    stw   r10, 0(r9)
    rfi
armed:
    load32 r9, DEVICES + 0x41020
    lis   r10, 0x2000           # mixed mode
    stw   r10, 0(r9)
    load32 r9, DEVICES + 0x60080
    li    r10, 0
    stw   r10, 0(r9)            # CTPR
    load32 r9, DEVICES + {source_register(source) + 0x10:#x}
    li    r10, 1
    stw   r10, 0(r9)
    load32 r9, DEVICES + {source_register(source):#x}
    load32 r10, {sense | 0x0008_0000 | vector:#x}   # priority 8
    stw   r10, 0(r9)
    wrteei 1
    """


def test_a_doorbell_interrupts():
    source = interrupt_by(15, RISING, 0x55) + call(Hcall.DOORBELL_SEND, DOORBELL)
    with bare_machine(program(source), board=BOARD) as machine:
        run(machine)
        assert answers(machine, 1)[0][0] == 0
        assert results(machine, 17)[16] == 0x55


def test_input_of_a_channel_interrupts():
    with bare_machine(program(interrupt_by(96, HIGH, 0x66), IDLE), board=BOARD) as machine:
        run_until(machine, lambda: bool(machine.vcpus[0].state.waiting))
        assert results(machine, 17)[16] == 0
        machine.console.on_receive(b"x")
        run_until(machine, lambda: results(machine, 17)[16] == 0x66)


# ---- storms ----------------------------------------------------------------------------------------------


def test_storms_of_calls_from_every_cpu_hurt_nobody():
    """Four CPUs call at random; the machine stops and goes on every 20 ms, and ends at any moment."""
    source = """
    devices
    release 1, other
    release 2, other
    release 3, other
other:
    load32 r24, 12345
    mfspr r9, 286
    add   r24, r24, r9
1:  mulli r24, r24, 1103
    addi  r24, r24, 12345
    rlwinm r11, r24, 0, 28, 31  # EV_IDLE is 16
    oris  r11, r11, 1
    rlwinm r3, r24, 20, 27, 31
    rlwinm r4, r24, 10, 27, 31
    sc    1
    b     1b
    """
    with bare_machine(source, board=BOARD, cores=4, serial=[None] * 8) as machine:
        run_until(machine, lambda: all(vcpu.exit_counts().get("hcall", 0) > 1000 for vcpu in machine.vcpus))
        machine.stop()
