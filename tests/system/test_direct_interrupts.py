"""External interrupts that EPCR[EXTGS] directs to a guest: from a UART and a PCI card to its vector, with no exit."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from powervisor import Machine
from powervisor.devices.pci.function import Bar, PciFunction
from powervisor.devices.pci.msi import Msix
from tests.support.pci import MEMORY, Guest
from tests.support.waiting import run_until
from tests.system.bare import RESULTS, bare_machine, results

CCSR = 0xF_E000_0000
MIXED, PROXY = 0x2000_0000, 0x6000_0000
UART, MSI = 42, 224
"""Sources of the MPIC; their vectors have the same numbers."""
BAR, MSIIR = 0xE010_0000, 0xE004_1740
GUEST_ENABLED, GUEST_DISABLED, HYPERVISOR, SEND = range(4)
"""What the program is told to do: the guest with EE=1 or 0, the hypervisor with EE=1, the guest sending a character."""

PROGRAM = """
    .set MPIC, DEVICES + 0x40000
    .macro count offset         # a word of the results
    load32 r10, RESULTS
    lwz   r11, \\offset(r10)
    addi  r11, r11, 1
    stw   r11, \\offset(r10)
    .endm
    .macro source n
    load32 r3, MPIC + 0x10000 + \\n * 0x20
    li    r4, 1
    stw   r4, 0x10(r3)
    load32 r4, 0x80000 + \\n
    stw   r4, 0(r3)
    .endm
    .macro acknowledge          # and what makes both devices let go of their interrupts
    .if {gcr} & 0x40000000
    mfspr r12, 702
    .else
    load32 r12, MPIC + 0xA0
    lwz   r12, 0(r12)
    .endif
    load32 r10, DEVICES + 0x4502
    lbz   r10, 0(r10)
    load32 r10, MPIC + 0x1600
    lwz   r10, 0(r10)
    load32 r10, MPIC + 0xB0
    li    r11, 0
    stw   r11, 0(r10)
    load32 r10, RESULTS
    stw   r12, 8(r10)
    .endm

    devices
    load32 r3, MPIC + 0x1020
    load32 r4, {gcr}
    stw   r4, 0(r3)
    load32 r3, MPIC + 0x80
    li    r4, 0
    stw   r4, 0(r3)
    source 42
    source 224
    li    r5, 0                 # IVPR; every vector but two counts as a mistake
    mtspr 63, r5
    .rept_vectors
    vector 404, external
    vector 434, call
    load32 r31, 0x80000001      # MAS8: the guest's pages are the hypervisor's
    mtspr 341, r31
    map 8, 0, 0, 0, 16, 0
    map 9, DEVICES, 0xF, 0xE0000000, 10, 0xA
    li    r31, 0
    mtspr 341, r31
    li    r31, 1
    mtspr 338, r31              # LPIDR
    load32 r31, {epcr}
    mtspr 307, r31
    li    r31, 0
    mtspr 447, r31              # GIVPR, GIVOR4
    vector 442, guest_external
    load32 r31, guest
    mtspr 26, r31
    load32 r31, 0x10001000      # GS, ME
    mtspr 27, r31
    rfi

guest:
    load32 r3, RESULTS
    lwz   r4, 0x40(r3)
    stw   r4, 0x44(r3)          # the command is being obeyed
    cmpwi r4, 0
    beq   1f
    wrteei 0
    cmpwi r4, 2
    bne   2f
    sc    1
2:  cmpwi r4, 3
    bne   guest
    load32 r5, DEVICES + 0x4500
    li    r6, 2                 # interrupt when a character can be sent
    stb   r6, 1(r5)
    li    r6, 0x2E
    stb   r6, 0(r5)
    li    r6, 0
    stw   r6, 0x40(r3)
1:  wrteei 1
    b     guest

    .balign 16
guest_external:
    acknowledge
    mfmsr r12
    stw   r12, 0x50(r10)
    mfspr r12, 26
    stw   r12, 0x54(r10)
    count 4                     # last: a message that comes before it is acknowledged would be one with it
    rfi

    .balign 16
call:                           # the hypervisor, ready for interrupts itself
    wrteei 1
    load32 r3, RESULTS
3:  li    r4, 2
    stw   r4, 0x44(r3)
    lwz   r4, 0x40(r3)
    cmpwi r4, 2
    beq   3b
    wrteei 0
    rfi

    .balign 16
external:
    acknowledge
    count 0x14
    rfi

    .balign 16
mistake:
    count 0x18
    b     .
"""


class Card(PciFunction):
    """A card with one MSI-X vector."""

    vendor_id, device_id, class_code = 0x1AF4, 0x1000, 0x020000
    bars = {1: Bar(Msix.bar_size(1))}

    def _declare(self) -> None:
        super()._declare()
        self.msix = Msix(self, 1, 1)


class Bus:
    """Accesses of the bridge's and the card's driver, by the test."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.machine.space.write(CCSR + offset, size, value)

    def read(self, offset: int, size: int = 4) -> int:
        return int(self.machine.space.read(CCSR + offset, size))


class Board:
    """The running program, and what it says."""

    def __init__(self, machine: Machine, card: Card) -> None:
        self.machine, self.card = machine, card

    def counts(self) -> tuple[int, int, int]:
        """Interrupts of the guest; of the hypervisor; mistakes."""
        words = results(self.machine, 7)
        return words[1], words[5], words[6]

    def command(self, number: int) -> None:
        """Tell the program what to do, and wait until it does."""
        self.machine.memory[RESULTS + 0x40 : RESULTS + 0x44] = struct.pack(">I", number)
        if number != SEND:
            run_until(self.machine, lambda: self.word(0x44) == number)

    def word(self, offset: int) -> int:
        return int.from_bytes(self.machine.memory[RESULTS + offset : RESULTS + offset + 4], "big")

    def interrupt(self, kind: str) -> None:
        """One interrupt of a device."""
        if kind == "uart":
            self.command(SEND)
            run_until(self.machine, lambda: self.word(0x40) == GUEST_ENABLED)
            return
        with self.machine.lock:
            self.card.msix.notify(0)

    def wait(self, counts: tuple[int, int, int]) -> None:
        run_until(self.machine, lambda: self.counts() == counts)


@contextmanager
def board(cpu: str, gcr: int, epcr: int = 0x8000_0000) -> Iterator[Board]:
    """The program on a board with a card whose messages arrive as source MSI."""
    vectors = "\n".join(f"vector {n}, mistake" for n in (*range(400, 416), *range(531, 534), 432, 433, 435))
    source = PROGRAM.replace("{gcr}", hex(gcr)).replace("{epcr}", hex(epcr)).replace(".rept_vectors", vectors)
    with bare_machine(source, cpu) as machine:
        bus: Any = machine.built.devices["pci"]
        card = Card("card")
        bus.bus.attach(card)
        driver = Guest(Bus(machine))
        driver.set_config(0, 0x10, 0xE000_0000)
        driver.outbound(1, 0xE000_0000, MEMORY, 29)
        driver.set_config(1, 0x14, BAR)
        driver.set_config(1, 4, 6, 2)
        driver.set_config(1, card.msix.offset + 2, 0x8000, 2)
        for word, value in enumerate((MSIIR, 0, 0, 0)):
            raw = int.from_bytes(value.to_bytes(4, "little"), "big")
            machine.space.write(MEMORY + BAR - 0xE000_0000 + 4 * word, 4, raw)
        made = Board(machine, card)
        machine.memory[RESULTS + 0x44 : RESULTS + 0x48] = struct.pack(">I", 0xFFFF_FFFF)
        machine.start()
        run_until(machine, lambda: made.word(0x44) == GUEST_ENABLED)
        yield made


@pytest.mark.parametrize("cpu", ["e500mc", "e5500", "e6500"])
@pytest.mark.parametrize("gcr", [MIXED, PROXY], ids=["iack", "proxy"])
@pytest.mark.parametrize(("kind", "vector"), [("uart", UART), ("msi", MSI)])
def test_an_interrupt_for_the_guest_is_no_exit(cpu, gcr, kind, vector):
    with board(cpu, gcr) as running:
        for n in range(1, 6):
            running.interrupt(kind)
            running.wait((n, 0, 0))
        assert running.word(8) == vector
        assert running.word(0x50) == 0x1000_1000, "GS stays, EE is off in the handler"
        assert running.machine.symbols["guest"] <= running.word(0x54) < running.machine.symbols["guest_external"]


@pytest.mark.parametrize("gcr", [MIXED, PROXY], ids=["iack", "proxy"])
def test_an_interrupt_waits_for_the_guests_ee(gcr):
    with board("e5500", gcr) as running:
        running.command(GUEST_DISABLED)
        running.interrupt("msi")
        running.machine.run(seconds=0.05)
        assert running.counts() == (0, 0, 0)
        running.command(GUEST_ENABLED)
        running.wait((1, 0, 0))


@pytest.mark.parametrize("gcr", [MIXED, PROXY], ids=["iack", "proxy"])
def test_an_interrupt_of_the_guest_waits_while_the_hypervisor_runs(gcr):
    """It is not the hypervisor's, whose EE is set, and not lost: the guest has it as soon as it runs again."""
    with board("e5500", gcr) as running:
        running.command(HYPERVISOR)
        running.interrupt("msi")
        running.machine.run(seconds=0.05)
        assert running.counts() == (0, 0, 0)
        running.command(GUEST_ENABLED)
        running.wait((1, 0, 0))
        assert running.word(8) == MSI


@pytest.mark.parametrize("gcr", [MIXED, PROXY], ids=["iack", "proxy"])
def test_without_extgs_each_interrupt_is_an_exit_that_no_guest_masks(gcr):
    with board("e5500", gcr, epcr=0) as running:
        for n, state in enumerate((GUEST_ENABLED, GUEST_DISABLED), 1):
            running.command(state)
            running.interrupt("msi")
            running.wait((0, n, 0))
        assert running.word(8) == MSI
