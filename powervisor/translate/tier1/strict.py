"""Floating point in regions: what LLVM must respect because the guest can see the host's inexact flag."""

from __future__ import annotations

import re

_FP_TWO = re.compile(r"(fadd|fsub|fmul|fdiv) (double|<\d x (?:float|double)>) (\S+), (\S+)")
_FP_CALL = re.compile(r"call \S.*? @llvm\.(fma|sqrt)\.(\w+)\((.*)\)")
_FP_CONVERT = re.compile(r"(fptrunc|sitofp|uitofp|fptosi) (.+) (%\S+) to (.+)")
_SUFFIX = {
    "double": "f64", "float": "f32", "i64": "i64", "<4 x float>": "v4f32", "<4 x double>": "v4f64",
    "<4 x i32>": "v4i32",
}  # fmt: skip
_TYPES = {suffix: name for name, suffix in _SUFFIX.items()}


def strict_floating_point(lines: list[str]) -> tuple[list[str], set[str]]:
    """Lines of IR with the operations that raise the host's inexact flag as constrained ones, and declarations.

    FPSCR[XX] is the host's flag: LLVM must neither leave out an operation whose result is not used nor do it where the
    guest does not, such as before it is known that an AltiVec operation has the flags for itself. "fpexcept.strict"
    says that but orders operations among each other and with stores; an empty use of each result is enough.
    """
    result, declarations = [], set()
    for line in lines:
        name, equals, text = line.partition(" = ")
        kinds, operands, rounds = [], "", True
        if not equals:
            pass
        elif found := _FP_TWO.fullmatch(text):
            op, kind, a, b = found.groups()
            symbol, kinds, operands, kind = f"{op}.{_SUFFIX[kind]}", [kind, kind], f"{kind} {a}, {kind} {b}", kind
        elif found := _FP_CALL.fullmatch(text):
            op, suffix, operands = found.groups()
            kind = _TYPES[suffix]
            symbol, kinds = f"{op}.{suffix}", [kind] * (3 if op == "fma" else 1)
        elif found := _FP_CONVERT.fullmatch(text):
            op, source, value, kind = found.groups()
            symbol, kinds, operands = f"{op}.{_SUFFIX[kind]}.{_SUFFIX[source]}", [source], f"{source} {value}"
            rounds = op != "fptosi"
        if kinds:
            modes = ', metadata !"round.tonearest"' if rounds else ""
            symbol = f"@llvm.experimental.constrained.{symbol}"
            declarations.add(f"declare {kind} {symbol}({', '.join(kinds)}{', metadata' * (1 + rounds)})")
            line = f'{name} = call {kind} {symbol}({operands}{modes}, metadata !"fpexcept.maytrap") #5'
        result.append(line)
        if kinds and kind in ("double", "float"):
            result.append(f'  call void asm sideeffect "", "x"({kind} {name.strip()})')
    return result, declarations
