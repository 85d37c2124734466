"""Assembly source to bytes: labels, symbols, data, macros; GNU as's words where it has them.

    program = assemble_source(text, 0x1000, assembler)
    program.data, program.symbols["start"], program.lines

Statements end at a newline or `;`; comments are `# ..`, `// ..` and `/* .. */`. `name:` is a label, `1:` one that may
be repeated and is referred to as `1b` (the last before) or `1f` (the next after). `.` is the address of the statement.

    .byte .short .half .2byte .word (2 bytes, as GNU has it)  .long .int .4byte  .quad .llong .8byte    EXPR, ...
    .ascii .asciz .string "text", ...      .space .skip SIZE[, BYTE]     .org ADDRESS[, BYTE]
    .align .p2align POWER[, BYTE]          .balign BYTES[, BYTE]         .set .equ NAME, EXPR   or   NAME = EXPR
    .macro NAME A, B=DEFAULT .. .endm      .rept COUNT .. .endr          .if EXPR .. .else .. .endif
    .globl .global NAME (accepted: every symbol is visible)

In a macro's body `\\A` is an argument, `\\@` a number that differs in each use, `\\()` nothing. Padding between
instructions is nops, other padding zeros, unless a byte is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import UserError
from .asm import Assembler, split_operands
from .asm_text import Statement, expand, head, statements
from .expressions import ESCAPES, ExpressionError, UndefinedError, evaluate

NOP = 0x6000_0000

_SIZES = {
    ".byte": 1, ".short": 2, ".half": 2, ".2byte": 2, ".word": 2, ".long": 4, ".int": 4, ".4byte": 4,
    ".quad": 8, ".llong": 8, ".8byte": 8,
}  # fmt: skip
_NAME = r"[A-Za-z_.$][\w.$]*"
_ASSIGN = re.compile(rf"({_NAME})\s*=(?!=)(.*)", re.DOTALL)
_STRING = re.compile(r'"((?:\\.|[^"\\])*)"')
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)


@dataclass
class Program:
    """Assembled bytes, their address, the symbols, and the source line of each statement's address."""

    origin: int
    data: bytes
    symbols: dict[str, int]
    lines: dict[int, int] = field(default_factory=dict)


def unescape(text: str) -> bytes:
    """The bytes of a string literal's inside."""
    out, at = bytearray(), 0
    for found in _ESCAPE.finditer(text):
        out += text[at : found.start()].encode()
        at = found.end()
        if found[1]:
            out.append(int(found[1], 16))
        elif found[2]:
            out.append(int(found[2], 8) & 0xFF)
        elif found[3] in ESCAPES:
            out += ESCAPES[found[3]].encode()
        else:
            raise ExpressionError(f"\\{found[3]} is not an escape")
    return bytes(out + text[at:].encode())


class _Pass:
    """One walk over the statements. The first finds the addresses of labels, the second knows them all."""

    def __init__(self, assembler: Assembler, origin: int, earlier: _Pass | None) -> None:
        self.assembler, self.origin, self.earlier = assembler, origin, earlier
        self.data = bytearray()
        self.symbols: dict[str, int] = dict(earlier.symbols) if earlier else {}
        self.labels: set[str] = set()
        self.local: dict[str, list[int]] = {}
        self.lines: dict[int, int] = {}
        self.code = False  # the last thing written was an instruction

    @property
    def here(self) -> int:
        return self.origin + len(self.data)

    # ---- symbols -------------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> int:
        if name == ".":
            return self.here
        if name[0].isdigit():
            number, seen = name[:-1], self.local.get(name[:-1], [])
            if name[-1] == "b":
                if not seen:
                    raise ExpressionError(f"there is no label {number}: before this")
                return seen[-1]
            known = self.earlier.local.get(number, []) if self.earlier else []
            if len(known) <= len(seen):
                raise UndefinedError(f"there is no label {number}: after this")
            return known[len(seen)]
        if name not in self.symbols:
            raise UndefinedError(f"{name} is not defined")
        return self.symbols[name]

    def now(self, text: str) -> int:
        """The value of an expression that decides addresses, so that it cannot wait for later symbols."""
        try:
            return evaluate(text, self.resolve).value
        except UndefinedError as error:
            raise UserError(f"{error} before this, and the size here depends on it") from None

    def later(self, text: str) -> int:
        """The value of an expression; 0 in the first pass while a symbol is unknown."""
        try:
            return evaluate(text, self.resolve).value
        except UndefinedError:
            if self.earlier is not None:
                raise
            return 0

    def label(self, name: str) -> None:
        if name.isdigit():
            self.local.setdefault(name, []).append(self.here)
            return
        if name in self.labels or (self.earlier is None and name in self.symbols):
            raise UserError(f"label {name} is defined twice")
        self.labels.add(name)
        self.symbols[name] = self.here

    def assign(self, name: str, text: str) -> None:
        if name in self.labels:
            raise UserError(f"{name} is a label already")
        try:
            self.symbols[name] = evaluate(text, self.resolve).value
        except UndefinedError:
            if self.earlier is not None:
                raise

    # ---- statements ----------------------------------------------------------------------------------------------

    def statement(self, text: str, line: int) -> None:
        if text.endswith(":"):
            self.label(text[:-1].strip())
            return
        if found := _ASSIGN.fullmatch(text):
            self.assign(found[1], found[2])
            return
        if text.startswith("."):
            self.directive(*head(text))
            return
        if len(self.data) % 4:
            raise UserError("an instruction must be at a multiple of 4; use .align 2")
        self.lines[self.here] = line
        try:
            code = self.assembler.encode(text, self.here, self.resolve)
        except UndefinedError:
            if self.earlier is not None:
                raise
            code = 0
        self.data += code.to_bytes(4, "big")
        self.code = True

    def directive(self, word: str, rest: str) -> None:
        operands = split_operands(rest)
        if word in _SIZES:
            self.numbers(_SIZES[word], operands)
        elif word in (".ascii", ".asciz", ".string"):
            self.strings(operands, b"" if word == ".ascii" else b"\0")
        elif word in (".set", ".equ"):
            if len(operands) != 2 or not re.fullmatch(_NAME, operands[0]):
                raise UserError(f"{word} takes a name and an expression")
            self.assign(*operands)
        elif word not in (".globl", ".global"):
            method = self.PADDING.get(word)
            if method is None:
                raise UserError(f"{word}: no such directive")
            if not 1 <= len(operands) <= 2:
                raise UserError(f"{word} takes a number, and perhaps a byte to fill with")
            fill = self.now(operands[1]) if len(operands) == 2 else None
            self.pad(method(self, self.now(operands[0])), fill)

    def numbers(self, size: int, operands: list[str]) -> None:
        for text in operands:
            value = self.later(text)
            if not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
                raise UserError(f"{text}: {value:#x} does not fit {size} bytes")
            self.data += (value & (1 << 8 * size) - 1).to_bytes(size, "big")
        self.code = False

    def strings(self, operands: list[str], end: bytes) -> None:
        for text in operands:
            found = _STRING.fullmatch(text)
            if found is None:
                raise UserError(f"{text}: a string in double quotes is needed")
            self.data += unescape(found[1]) + end
        self.code = False

    def pad(self, size: int, fill: int | None) -> None:
        if not 0 <= size <= 1 << 30:
            raise UserError(f"{size} bytes of padding: it would go backwards or past 1 GiB")
        if fill is None and self.code and size % 4 == 0 == len(self.data) % 4:
            self.data += NOP.to_bytes(4, "big") * (size // 4)
        else:
            self.data += bytes([(fill or 0) & 0xFF]) * size

    def to_power(self, power: int) -> int:
        return -self.here % (1 << power) if 0 <= power < 30 else -1

    def to_multiple(self, step: int) -> int:
        return -self.here % step if step > 0 else -1

    def to_address(self, address: int) -> int:
        return address - self.here

    def of_size(self, size: int) -> int:
        self.code = False
        return size

    PADDING: dict[str, Callable[[_Pass, int], int]] = {
        ".align": to_power, ".p2align": to_power, ".balign": to_multiple, ".org": to_address,
        ".space": of_size, ".skip": of_size,
    }  # fmt: skip


def assemble_source(text: str, origin: int, assembler: Assembler, name: str = "source") -> Program:
    """Assemble a source text at an address. Raises UserError naming the line."""
    walk: _Pass | None = None
    for _ in range(2):
        walk = _Pass(assembler, origin, walk)
        where = Statement(0, "")
        try:
            for where in expand(statements(text), walk.now):
                walk.statement(where.text, where.line)
        except (UserError, ExpressionError) as error:
            line = getattr(error, "line", where.line)
            shown = f": '{where.text}'" if line == where.line else ""
            raise UserError(f"{name}:{line}: {error}{shown}") from None
    assert walk is not None
    return Program(origin, bytes(walk.data), walk.symbols, walk.lines)
