"""-M ppce500,hypervisor=on, with real machines that are not run."""

import pytest


@pytest.fixture
def words(tmp_path):
    """Options for a machine with something to run."""
    program = tmp_path / "program.bin"
    program.write_bytes(bytes(64))
    return ["-M", "ppce500,hypervisor=on", "-device", f"loader,file={program},addr=0x1000,cpu-num=0"]


def test_the_tree_has_a_channel_for_each_serial_line(command, words):
    done = command("dtb", *words, *["-serial", "null"] * 3, "-serial", "none", "-serial", "null")
    assert done.status == 0 and done.err == ""
    assert [f"byte-channel{n} {{" in done.out for n in range(6)] == [True, True, True, False, True, False]
    assert 'stdout-path = "/hypervisor/handles/byte-channel0"' in done.out


def test_there_are_eight_lines(command, words):
    done = command("run", *words, *["-serial", "null"] * 9)
    assert (done.status, done.out) == (1, "")
    assert "-serial: 9 lines given, ppce500 has 8; leave the others out" in done.err


def test_the_built_in_guest_wants_a_uart(command):
    done = command("run", "-M", "ppce500,hypervisor=on", "-serial", "null")
    assert (done.status, done.out) == (1, "")
    assert "-M ppce500,hypervisor=on: the built-in guest knows UARTs only; add serial=uart" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-guest", "uboot", "-M", "ppce500,hypervisor=on"], "-guest uboot: it knows UARTs only; add serial=uart"),
        (
            ["hypervisor-demo", "-M", "ppce500,hypervisor=on,serial=uart"],
            "needs category E.HV, which hypervisor=on hides",
        ),
        (["kvm-k32", "-M", "ppce500,hypervisor=on"], "needs category E.HV, which hypervisor=on hides"),
        (["k64", "-cpu", "e500mc"], "-guest k64: it is for cores of 64 bits, e500mc has 32; leave -cpu out"),
    ],
)
def test_a_guest_that_would_be_silent_is_refused(command, words, message):
    done = command("run", *words)
    assert done.status == 1 and message in done.err and done.err.count("\n") == 1
