"""Flash under a bare guest: what native code reads of it, and running from it."""

from __future__ import annotations

import pytest

from powervisor.insns import assemble_source
from powervisor.isa import cores
from tests.support.waiting import run_until
from tests.system.bare import MACROS, bare_machine, results

FLASH, SIZE = 0x9000_0000, 1 << 20

PROGRAM = """
    devices
    map   13, 0x90000000, 0xF, 0, 10, 0xA
    load32 r10, 0x90000000
    load32 r7, RESULTS
    li    r8, 1000
    mtctr r8
again: lwz r3, 0x100(r10)
    bdnz  again
    stw   r3, 4(r7)
    lhz   r3, 0x102(r10)
    stw   r3, 8(r7)
    lbz   r3, 0x101(r10)
    stw   r3, 12(r7)
    li    r4, 0x70              # status
    sth   r4, 0(r10)
    lhz   r3, 0(r10)
    stw   r3, 16(r7)
    li    r4, 0x40              # program a word to 0
    li    r5, 0
    sth   r4, 0x300(r10)
    sth   r5, 0x300(r10)
    li    r14, 0
busy: lhz r3, 0(r10)
    addi  r14, r14, 1
    andi. r3, r3, 0x80
    beq   busy
    li    r4, 0xFF              # the array
    sth   r4, 0(r10)
    lwz   r3, 0x300(r10)
    stw   r3, 20(r7)
    addi  r4, r10, 0x200
    mtctr r4
    bctrl
    stw   r3, 24(r7)
    stw   r14, 32(r7)
    li    r8, 1
    stw   r8, 0(r7)
stay: b stay
"""

# Runs in the flash: reads a device's register and the flash, counts, and goes back.
IN_FLASH = """
    load32 r11, DEVICES + 0xE00A4       # GUTS SVR
    li    r8, 100
    mtctr r8
    li    r3, 0
1:  lwz   r12, 0(r11)
    lwz   r13, 0x100(r10)
    add   r3, r3, r13
    stw   r12, 28(r7)
    bdnz  1b
    blr
"""


@pytest.mark.parametrize("cpu", ["e500mc", "e5500", "e6500"])
def test_flash_is_read_without_exits_and_programs_run_in_it(cpu, tmp_path):
    image = tmp_path / "nor.img"
    content = bytearray(b"\xff" * SIZE)
    content[0x100:0x104] = bytes.fromhex("00123456")
    code = assemble_source(MACROS + IN_FLASH, FLASH + 0x200, cores.get(cpu)).data
    content[0x200 : 0x200 + len(code)] = code
    image.write_bytes(content)
    with bare_machine(PROGRAM, cpu, drives=[f"file={image},if=pflash,format=raw"]) as machine:
        run_until(machine, lambda: results(machine, 1) == (1,))
        svr = machine.board.core(cpu).svr
        word = 0x0012_3456
        assert results(machine, 8)[1:] == (word, 0x3456, 0x12, 0x80, 0x0000_FFFF, 100 * word, svr)
        polls = results(machine, 9)[8]
        # Commands and status, and a hundred times the register that code in flash reads.
        assert machine.vcpus[0].exit_counts()["mmio"] - polls in range(100, 120)
    assert image.read_bytes()[0x300:0x304] == bytes.fromhex("0000ffff")
