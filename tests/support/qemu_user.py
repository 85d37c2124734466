"""Run instructions under QEMU's user mode and see what they did: an outside reference for user-level instructions.

    qemu = QemuUser("e6500")            # "e500mc", "7448" (32-bit), "e5500", "e6500", "power7" (64-bit mode)
    before = State()
    before.gpr[4], before.gpr[5], before.fpr[1] = 7, 9, double_bits
    before.memory[0:4] = b"abcd"                  # bytes at BUFFER, for loads and stores
    [outcome] = qemu.run([Case([0x7C642A14], before)])
    outcome.after.gpr[3], outcome.signal, outcome.address

A case is a register image, one or more instruction words, and 512 bytes of memory at guest address BUFFER. All cases
of a `run` execute in one process (thousands a second) of a static ELF file written here, without any tool chain:
for each case it loads every register from the image, executes the words, and writes every register back out.
`Outcome.address` is where the words stood, for what depends on the PC. A case that is killed (illegal instruction,
trap, bad address) has `after` None and the signal's number in `signal`; the others still run.

Rules: r31 holds AREA and must not be changed by the words (BUFFER is `BUFFER_OFFSET(r31)`; use another register
for any other address); control must reach the end of the words. GPRs, CTR and LR are 32 bits wide in a 32-bit
process. FPSCR and VSCR are loaded and stored with mtfsf 255 and mtvscr. Vector registers are there for e6500,
7448 and power7 only; a vector is an integer, element 0 in its most significant bits.

`oracle_user.run_oracle(core, case, address)` runs the same case in the Python oracle at the same addresses, and
`native_user.native(core).run(case, address, wide)` as translated code;
`oracle_user.differences(got, wanted, bits)` lists what two outcomes disagree on. `available(cpu)` tells whether the
QEMU program is installed; tests skip otherwise. What QEMU is known to do wrong is listed with the tests that meet it.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

AREA = 0x2_0000  # where the image of the case being run is
BUFFER_OFFSET = 0x500
BUFFER = AREA + BUFFER_OFFSET
BUFFER_SIZE = 512
CODE = 0x10_0000
INPUT = 0x1000_0000

_FPR, _VR, _CR, _XER, _CTR, _LR, _FPSCR, _VSCR = 0x100, 0x200, 0x400, 0x408, 0x410, 0x418, 0x420, 0x430
RECORD = BUFFER_OFFSET + BUFFER_SIZE
_CURSOR = RECORD  # address of the next case's image
_BATCH = 1000

VECTOR_CPUS = ("e6500", "7448", "power7")
WIDE_CPUS = ("e5500", "e6500", "power7")


@dataclass
class State:
    """Registers and memory before or after a case."""

    gpr: list[int] = field(default_factory=lambda: [0] * 32)
    fpr: list[int] = field(default_factory=lambda: [0] * 32)
    vr: list[int] = field(default_factory=lambda: [0] * 32)
    cr: int = 0
    xer: int = 0
    ctr: int = 0
    lr: int = 0
    fpscr: int = 0
    vscr: int = 0
    memory: bytearray = field(default_factory=lambda: bytearray(BUFFER_SIZE))

    def pack(self) -> bytes:
        """The image, big-endian."""
        gpr = [*self.gpr[:31], AREA]
        head = struct.pack(">64Q", *gpr, *self.fpr) + b"".join(v.to_bytes(16, "big") for v in self.vr)
        special = struct.pack(">6Q", self.cr, self.xer, self.ctr, self.lr, self.fpscr, 0)
        special += self.vscr.to_bytes(16, "big")
        return (head + special).ljust(BUFFER_OFFSET, b"\0") + bytes(self.memory)

    @classmethod
    def unpack(cls, image: bytes) -> State:
        """The state of an image."""
        words = struct.unpack_from(">64Q", image)
        cr, xer, ctr, lr, fpscr = struct.unpack_from(">5Q", image, _CR)
        vr = [int.from_bytes(image[_VR + 16 * n : _VR + 16 * n + 16], "big") for n in range(32)]
        vscr = int.from_bytes(image[_VSCR : _VSCR + 16], "big") & 0xFFFF_FFFF
        return cls(
            list(words[:32]), list(words[32:]), vr, cr, xer, ctr, lr, fpscr & 0xFFFF_FFFF, vscr,
            bytearray(image[BUFFER_OFFSET:RECORD]),
        )  # fmt: skip


@dataclass
class Case:
    """Words to execute, and the state before."""

    words: Sequence[int]
    before: State


@dataclass
class Outcome:
    """State after a case (None when a signal ended it) and the address of its first word."""

    after: State | None
    signal: int
    address: int


def binary(cpu: str) -> str:
    """Name of the QEMU program for a CPU."""
    return "qemu-ppc64" if cpu in WIDE_CPUS else "qemu-ppc"


def available(cpu: str) -> bool:
    """Whether the QEMU program for a CPU is installed."""
    return shutil.which(binary(cpu)) is not None


# ---- encodings the driver needs: written out, so that a mistake in the product's table cannot hide itself ------------


def _d(opcode: int, rt: int, ra: int, d: int) -> int:
    return opcode << 26 | rt << 21 | ra << 16 | d & 0xFFFF


def _x(rt: int, ra: int, rb: int, extended: int) -> int:
    return 31 << 26 | rt << 21 | ra << 16 | rb << 11 | extended << 1


def _li(rt: int, value: int) -> int:
    return _d(14, rt, 0, value)


_BLR = 0x4E80_0020
_SC = 0x4400_0002
_MTFSF_ALL = 63 << 26 | 255 << 17 | 0 << 11 | 711 << 1
_MFFS = 63 << 26 | 583 << 1


class QemuUser:
    """Runs cases under qemu-ppc or qemu-ppc64 with one CPU model."""

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu
        self.wide = cpu in WIDE_CPUS
        self.vectors = cpu in VECTOR_CPUS

    def run(self, cases: Iterable[Case]) -> list[Outcome]:
        """Outcomes in the order of the cases."""
        rest, outcomes = list(cases), []
        while rest:
            done = self._process(rest[:_BATCH])
            outcomes += done
            rest = rest[len(done) :]
        return outcomes

    def _process(self, cases: list[Case]) -> list[Outcome]:
        """Run cases in one process; the outcomes up to the end or the first signal."""
        code, addresses = self._program(cases)
        image = self._elf(code, b"".join(case.before.pack() for case in cases))
        with tempfile.NamedTemporaryFile(suffix=".elf", delete=False) as file:
            file.write(image)
        try:
            os.chmod(file.name, 0o755)
            # QEMU would write a core file of every killed case.
            command = ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", binary(self.cpu), "-cpu", self.cpu, file.name]
            ran = subprocess.run(command, capture_output=True)
        finally:
            os.unlink(file.name)
        count = len(ran.stdout) // RECORD
        records = (ran.stdout[n * RECORD : (n + 1) * RECORD] for n in range(count))
        outcomes = [Outcome(State.unpack(r), 0, at) for r, at in zip(records, addresses, strict=False)]
        if count < len(cases):
            if ran.returncode >= 0:
                raise RuntimeError(f"{' '.join(command)}: {ran.stderr.decode(errors='replace')[-500:]}")
            outcomes.append(Outcome(None, -ran.returncode, addresses[count]))
        return outcomes

    # ---- the driver program --------------------------------------------------------------------------------------

    def _load(self, rt: int, d: int) -> int:
        return _d(58, rt, 31, d) if self.wide else _d(32, rt, 31, d + 4)

    def _store(self, rs: int, d: int) -> int:
        return _d(62, rs, 31, d) if self.wide else _d(36, rs, 31, d + 4)

    def _load_state(self) -> list[int]:
        code = [_d(15, 31, 0, AREA >> 16), self._load(3, _CURSOR)]
        code += [_d(14, 4, 31, -4), _d(14, 3, 3, -4), _li(5, RECORD // 4), _x(5, *_split(9), 467)]
        code += [_d(33, 6, 3, 4), _d(37, 6, 4, 4), 16 << 26 | 16 << 21 | -8 & 0xFFFC]  # lwzu, stwu, bdnz
        code += [_d(14, 3, 3, 4), self._store(3, _CURSOR)]
        code += [_d(50, 0, 31, _FPSCR), _MTFSF_ALL]
        code += [_d(50, n, 31, _FPR + 8 * n) for n in range(32)]
        if self.vectors:
            code += [_li(3, _VSCR), _x(0, 31, 3, 103), 4 << 26 | 1604]  # lvx, mtvscr
            for n in range(32):
                code += [_li(3, _VR + 16 * n), _x(n, 31, 3, 103)]
        code += [self._load(3, _CR), 31 << 26 | 3 << 21 | 0xFF << 12 | 144 << 1]
        code += [self._load(3, _XER), _x(3, *_split(1), 467), self._load(3, _CTR), _x(3, *_split(9), 467)]
        return [*code, *(self._load(n, 8 * n) for n in range(31)), _BLR]

    def _save_state(self) -> list[int]:
        code = [self._store(n, 8 * n) for n in range(1, 32)]
        code += [_x(3, 0, 0, 19), self._store(3, _CR), _x(3, *_split(1), 339), self._store(3, _XER)]
        code += [_x(3, *_split(9), 339), self._store(3, _CTR)]
        code += [_d(54, n, 31, _FPR + 8 * n) for n in range(32)]
        code += [_MFFS, _d(54, 0, 31, _FPSCR)]
        if self.vectors:
            for n in range(32):
                code += [_li(3, _VR + 16 * n), _x(n, 31, 3, 231)]
            code += [4 << 26 | 1540, _li(3, _VSCR), _x(0, 31, 3, 231)]
        return [*code, _li(0, 4), _li(3, 1), _d(14, 4, 31, 0), _li(5, RECORD), _SC, _BLR]  # write(1, AREA, RECORD)

    def _program(self, cases: list[Case]) -> tuple[bytes, list[int]]:
        """Code at CODE (entry at its start), and the address of each case's words."""
        load, save = self._load_state(), self._save_state()
        load_at = CODE + 4
        save_at = load_at + 4 * len(load)
        code = [18 << 26 | 4 * (1 + len(load) + len(save)), *load, *save]
        addresses = []

        def call(target: int) -> int:
            return 18 << 26 | target - (CODE + 4 * len(code)) & 0x3FF_FFFC | 1

        for case in cases:
            code.append(call(load_at))
            code += [self._load(0, _LR), _x(0, *_split(8), 467), self._load(0, 0)]
            addresses.append(CODE + 4 * len(code))
            code += case.words
            code += [self._store(0, 0), _x(0, *_split(8), 339), self._store(0, _LR)]
            code.append(call(save_at))
        code += [_li(0, 1), _li(3, 0), _SC]  # exit(0)
        return struct.pack(f">{len(code)}I", *code), addresses

    def _elf(self, code: bytes, images: bytes) -> bytes:
        """A static executable: the code, the area with the cursor, the images."""
        area = b"\0" * _CURSOR + INPUT.to_bytes(8, "big")
        parts = [(CODE, code), (AREA, area), (INPUT, images)]
        table, offset, bodies = b"", 0x1000, b""
        for at, body in parts:
            size = len(body)
            if self.wide:
                table += struct.pack(">IIQQQQQQ", 1, 7, offset, at, at, size, size, 0x1000)
            else:
                table += struct.pack(">IIIIIIII", 1, offset, at, at, size, size, 7, 0x1000)
            padded = body + b"\0" * (-size % 0x1000)
            bodies += padded
            offset += len(padded)
        ident = b"\x7fELF" + bytes((2 if self.wide else 1, 2, 1)) + bytes(9)
        # ABI version 2: the entry point is code, not a descriptor.
        if self.wide:
            head = ident + struct.pack(">HHIQQQIHHHHHH", 2, 21, 1, CODE, 64, 0, 2, 64, 56, len(parts), 0, 0, 0)
        else:
            head = ident + struct.pack(">HHIIIIIHHHHHH", 2, 20, 1, CODE, 52, 0, 0, 52, 32, len(parts), 0, 0, 0)
        return (head + table).ljust(0x1000, b"\0") + bodies


def _split(number: int) -> tuple[int, int]:
    """The two halves of an SPR number, as the ra and rb fields hold them."""
    return number & 31, number >> 5
