"""Tests of the running core: integer, floating-point, vector and 64-bit arithmetic, interrupts it causes itself."""

from __future__ import annotations

from ....isa.registers import ESR, IVOR
from ....native.ints import u32
from ....native.lang import Static, native
from ..words import routine, say, symbol, the
from .checks import detail, operands_at, put_operands, results_at, verdict, wrong_results
from .cpu import faulted, read_safely, this
from .expected import (
    FLOAT_OPERANDS,
    FLOAT_RESULTS,
    VECTOR_OPERANDS,
    VECTOR_RESULTS,
    WIDE_OPERANDS,
    WIDE_RESULTS,
)  # fmt: skip
from .kernels import crc_check, integer_turns, same_by_compiler, sieve
from .layout import TEST_PAGE
from .state import Board

TURNS = 2000
PRIMES_BELOW_8192 = 1028


@native
def check_integer() -> None:
    """Compiled code, assembled code and known results agree."""
    a, b = integer_turns(TURNS), same_by_compiler(TURNS)
    primes, crc = sieve(), crc_check()
    verdict(a == b and primes == PRIMES_BELOW_8192 and crc, "integer")
    say("assembled and compiled loop {:08x} {:08x}, {} primes below 8192, CRC-32\n", a, b, primes)


@native
def check_float() -> None:
    """The FPU gives what the host computed when the guest was built."""
    put_operands(FLOAT_OPERANDS)
    before = this().unavailable
    routine(None, "float_suite", operands_at(), results_at())
    wrong = wrong_results(FLOAT_RESULTS)
    verdict(wrong == 0, "float")
    say("{} of {} results exact", len(FLOAT_RESULTS) - wrong, len(FLOAT_RESULTS))
    if this().unavailable != before:
        say("; enabled by the unavailable interrupt")
    say("\n")


@native
def check_vector() -> None:
    """AltiVec, where the core has it."""
    if the(Board).altivec == 0:
        return
    put_operands(VECTOR_OPERANDS)
    routine(None, "vector_suite", operands_at(), results_at())
    wrong = wrong_results(VECTOR_RESULTS)
    verdict(wrong == 0, "altivec")
    say("{} of {} vectors exact\n", (len(VECTOR_RESULTS) - wrong) // 2, len(VECTOR_RESULTS) // 2)


@native
def check_wide() -> None:
    """64-bit mode, where the core has it."""
    if the(Board).wide == 0:
        return
    put_operands(WIDE_OPERANDS)
    routine(None, "wide_suite", operands_at(), results_at())
    wrong = wrong_results(WIDE_RESULTS)
    verdict(wrong == 0, "64-bit")
    say("{} of {} results exact\n", len(WIDE_RESULTS) - wrong, len(WIDE_RESULTS))


@native
def caused(number: Static, syndrome: Static) -> bool:
    """Whether the last guarded call ended by this interrupt, with these ESR bits."""
    cpu = this()
    return bool(cpu.fault == number + 1 and cpu.fault_syndrome & syndrome == syndrome)


@native
def check_exceptions() -> None:
    """Interrupts caused by instructions, with their syndromes."""
    cpu = this()
    calls = cpu.system_calls
    routine(None, "do_sc")
    system_call = cpu.system_calls == calls + 1
    routine(u32, "guarded", symbol("do_trap"), u32(0), u32(0))
    trap = caused(IVOR.PROGRAM, ESR.PTR)
    routine(u32, "guarded", symbol("do_illegal"), u32(0), u32(0))
    illegal = caused(IVOR.PROGRAM, ESR.PIL)
    routine(u32, "guarded", symbol("load_reserve"), operands_at() + 1, u32(0))
    alignment = caused(IVOR.ALIGNMENT, 0)
    read_safely(TEST_PAGE + 0x124, 4)
    miss = caused(IVOR.DATA_TLB, 0) and cpu.fault_address == TEST_PAGE + 0x124
    verdict(system_call and trap and illegal and alignment and miss and faulted(), "exceptions")
    detail(system_call, "system call", False)
    detail(trap, "trap", False)
    detail(illegal, "illegal", False)
    detail(alignment, "alignment", False)
    detail(miss, "TLB miss", True)


@native
def check_core() -> None:
    """All of them."""
    check_integer()
    check_float()
    check_vector()
    check_wide()
    check_exceptions()
