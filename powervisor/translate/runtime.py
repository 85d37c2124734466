"""The runtime module: handlers of every instruction, dispatch, the translator, and the glue between conventions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..isa.insn import Field, Insn, Table
from ..native.compile import Module, may_abort
from ..native.lang import NativeFunction
from ..vcpu.state import ExitReason, Vcpu
from . import dispatch
from .edges import CONVENTION, SIGNATURE
from .stencils import HoleTable, derived_symbol

_ARGUMENTS = "(ptr %cpu, ptr %ctx, i64 %bud, i64 %page, i64 %x)"


def glue(next_code: str, resume: str, enter: str, leave: str) -> str:
    """Entry from C, and the functions stencils jump to when they leave translated code.

    `rt.run` enters; `rt.dispatch` continues at Vcpu.pc; `rt.lookup` at the address in x; `rt.miss` at word x of
    the current page; `rt.once` as `rt.lookup`, with an instruction that its handler executes.
    """
    pc, budget = Vcpu.offset("pc"), Vcpu.offset("budget")
    context, page = Vcpu.offset("context"), Vcpu.offset("page")

    def continuing(symbol: str, function: str, before: str = "") -> str:
        return f"""
define {CONVENTION} void @"{symbol}"{SIGNATURE} #0 {{
{before}  %b = getelementptr i8, ptr %cpu, i64 {budget}
  store i64 %bud, ptr %b
  %code = call i64 @"{function}"(ptr %cpu)
  %none = icmp eq i64 %code, 0
  br i1 %none, label %out, label %on, !prof !1
out:
  ret void
on:
  %f = inttoptr i64 %code to ptr
  %c = getelementptr i8, ptr %cpu, i64 {context}
  %ctx2 = load ptr, ptr %c
  %bud2 = load i64, ptr %b
  %p = getelementptr i8, ptr %cpu, i64 {page}
  %page2 = load i64, ptr %p
  musttail call {CONVENTION} void %f(ptr %cpu, ptr %ctx2, i64 %bud2, i64 %page2, i64 poison)
  ret void
}}
"""

    to_x = f"  %a = getelementptr i8, ptr %cpu, i64 {pc}\n  store i64 %x, ptr %a\n"
    return (
        continuing("rt.dispatch", next_code)
        + continuing("rt.once", resume, to_x)
        + f"""
define {CONVENTION} void @"rt.lookup"{SIGNATURE} #0 {{
{to_x}  musttail call {CONVENTION} void @"rt.dispatch"{_ARGUMENTS}
  ret void
}}
define {CONVENTION} void @"rt.miss"{SIGNATURE} #0 {{
  %base = and i64 %page, -4096
  %off = shl i64 %x, 2
  %at = or i64 %base, %off
  musttail call {CONVENTION} void @"rt.lookup"(ptr %cpu, ptr %ctx, i64 %bud, i64 %page, i64 %at)
  ret void
}}
define void @"rt.run"(ptr %cpu) #0 {{
  call void @"{enter}"(ptr %cpu)
  %b = getelementptr i8, ptr %cpu, i64 {budget}
  %bud = load i64, ptr %b
  call {CONVENTION} void @"rt.dispatch"(ptr %cpu, ptr poison, i64 %bud, i64 poison, i64 poison)
  call void @"{leave}"(ptr %cpu)
  ret void
}}
"""
    )


LIBRARY = """
define ptr @memset(ptr %to, i8 %byte, i64 %size) #0 {
  %large = icmp ugt i64 %size, 255
  br i1 %large, label %string, label %head
string:
  call void asm sideeffect "rep stosb", "{di},{al},{cx},~{di},~{cx},~{memory},~{dirflag}"(ptr %to, i8 %byte, i64 %size)
  ret ptr %to
head:
  %at = phi i64 [ 0, %0 ], [ %more, %body ]
  %done = icmp eq i64 %at, %size
  br i1 %done, label %out, label %body
body:
  %p = getelementptr i8, ptr %to, i64 %at
  store i8 %byte, ptr %p
  %more = add i64 %at, 1
  br label %head
out:
  ret ptr %to
}
define ptr @memcpy(ptr %to, ptr %from, i64 %size) #0 {
  call void asm sideeffect "rep movsb",
    "{di},{si},{cx},~{di},~{si},~{cx},~{memory},~{dirflag}"(ptr %to, ptr %from, i64 %size)
  ret ptr %to
}
"""
"""What LLVM calls by these names; a call into libc would tie the image to one process."""


HANDLER_ATTRIBUTES = '\nattributes #4 = { nounwind "no-builtins" }\n'


def field_ir(field: Field, name: str) -> list[str]:
    """IR that extracts a field of %word into %name, as i32 or (signed) i64."""
    lines = []
    parts = []
    for number, piece in enumerate(field.pieces):
        lines.append(f"  %{name}.s{number} = lshr i32 %word, {piece.shift}")
        lines.append(f"  %{name}.m{number} = and i32 %{name}.s{number}, {(1 << piece.width) - 1}")
        lines.append(f"  %{name}.p{number} = shl i32 %{name}.m{number}, {piece.at}")
        parts.append(f"%{name}.p{number}")
    value = parts[0]
    for number, other in enumerate(parts[1:]):
        lines.append(f"  %{name}.o{number} = or i32 {value}, {other}")
        value = f"%{name}.o{number}"
    if field.signed:
        up = 64 - field.width
        lines.append(f"  %{name}.w = zext i32 {value} to i64")
        lines.append(f"  %{name}.u = shl i64 %{name}.w, {up}")
        lines.append(f"  %{name}.d = ashr i64 %{name}.u, {up}")
        lines.append(f"  %{name} = shl i64 %{name}.d, {field.scale}")
    else:
        lines.append(f"  %{name} = shl i32 {value}, {field.scale}")
    return lines


def handler_ir(module: Module, insn: Insn, symbol: str) -> str:
    """A handler: execute the word at Vcpu.pc exactly; 0: go on with the next instruction, 1: done and PC is set,
    2 (`dispatch.ABANDONED`): the instruction was abandoned, by an interrupt or an exit."""
    body = module.require(insn.function)
    lines = [f'define i32 @"{symbol}"(ptr %cpu, i32 %word) #4 {{']
    arguments = ["ptr %cpu"]
    for name, f in insn.fields.items():
        lines += field_ir(f, f"f.{name}")
        arguments.append(f"{'i64' if f.signed else 'i32'} %f.{name}")
    if insn.ends:
        lines.append(next_address_ir())
    aborts = may_abort(insn.function)
    result = "i1" if aborts else "void"
    if insn.restartable:
        lines.append(f"  %many = getelementptr i8, ptr %cpu, i64 {Vcpu.offset('restartable')}")
        lines.append("  store i32 1, ptr %many")
    lines.append(f'  {"%gone = " if aborts else ""}call {result} @"{body}"({", ".join(arguments)})')
    if insn.restartable:
        lines.append("  store i32 0, ptr %many")
    if not insn.ends:
        lines.append("  %r = select i1 %gone, i32 2, i32 0\n  ret i32 %r" if aborts else "  ret i32 0")
    else:
        if aborts:
            lines.append("  br i1 %gone, label %out, label %done, !prof !1")
            lines.append("out:\n  ret i32 2\ndone:")
        lines.append(
            f"  %npcp = getelementptr i8, ptr %cpu, i64 {Vcpu.offset('npc')}\n  %to = load i64, ptr %npcp\n"
            f"  %pcp2 = getelementptr i8, ptr %cpu, i64 {Vcpu.offset('pc')}\n  store i64 %to, ptr %pcp2\n  ret i32 1"
        )
    return "\n".join([*lines, "}\n"])


def next_address_ir() -> str:
    """IR that sets Vcpu.npc to the following instruction, in 32 bits when the mode says so."""
    return f"""  %pcp = getelementptr i8, ptr %cpu, i64 {Vcpu.offset("pc")}
  %pc = load i64, ptr %pcp
  %after = add i64 %pc, 4
  %low = and i64 %after, 4294967295
  %modep = getelementptr i8, ptr %cpu, i64 {Vcpu.offset("mode")}
  %mode = load i32, ptr %modep
  %cm = and i32 %mode, 1
  %wide = icmp ne i32 %cm, 0
  %next = select i1 %wide, i64 %after, i64 %low
  %np = getelementptr i8, ptr %cpu, i64 {Vcpu.offset("npc")}
  store i64 %next, ptr %np"""


def derived_module(holes: HoleTable, cm: bool) -> str:
    """IR of the functions that compute the derived holes of a mode's stencils."""
    module = Module()
    parts = [derived_ir(module, derived_symbol(n, cm), *row) for n, row in enumerate(holes.derived)]
    return "\n".join([*parts, module.emit()])


def derived_ir(module: Module, symbol: str, function: NativeFunction, insn: Insn, arguments: tuple[object, ...]) -> str:
    """A function of the instruction word that computes a derived hole."""
    body = module.require(function)
    lines = [f'define i64 @"{symbol}"(i32 %word) #0 {{']
    texts = []
    parameters, result = module.compiler(module).signature(function, {})
    for position, (argument, (_, kind)) in enumerate(zip(arguments, parameters, strict=True)):
        if isinstance(argument, str):
            f = insn.fields[argument]
            lines += field_ir(f, f"a{position}")
            texts.append(f"{'i64' if f.signed else 'i32'} %a{position}")
        else:
            texts.append(f"{kind.ir} {argument}")
    lines.append(f'  %v = call {result.ir} @"{body}"({", ".join(texts)})')
    if result.bits < 64:
        lines.append(f"  %w = {'sext' if result.signed else 'zext'} {result.ir} %v to i64\n  ret i64 %w")
    else:
        lines.append("  ret i64 %v")
    return "\n".join([*lines, "}\n"])


def undefined_handler(module: Module, function: NativeFunction) -> str:
    """The handler of words no entry matches."""
    body = module.require(function)
    return (
        f'define i32 @"handler.undefined"(ptr %cpu, i32 %word) #0 {{\n'
        f'  %gone = call i1 @"{body}"(ptr %cpu, i32 134217728)\n  ret i32 2\n}}\n'
    )


def missing_handler() -> str:
    """The handler in place of one that is not compiled yet: leave and say so, unless another exit is due first."""
    return f"""
define i32 @"handler.missing"(ptr %cpu, i32 %word) #0 {{
  %reason = getelementptr i8, ptr %cpu, i64 {Vcpu.offset("exit_reason")}
  %due = load i32, ptr %reason
  %none = icmp eq i32 %due, 0
  br i1 %none, label %leave, label %out
leave:
  store i32 {ExitReason.HANDLER}, ptr %reason
  %detail = getelementptr i8, ptr %cpu, i64 {Vcpu.offset("exit_detail")}
  store i32 %word, ptr %detail
  br label %out
out:
  ret i32 2
}}
"""


def later_handlers_ir(insns: Sequence[Insn], known: Collection[str]) -> str:
    """IR of some handlers and of what they call beyond the `known` symbols of an image."""
    module = Module(known=known)
    handlers = [handler_ir(module, insn, handler_symbol(insn)) for insn in insns]
    module.compile_queue()
    text, _ = module.emit_parts(set(module.symbols.values()) - module.exported)
    return "\n".join([text, *handlers]) + HANDLER_ATTRIBUTES


def handler_symbol(insn: Insn) -> str:
    """Symbol of an instruction's handler."""
    return f"handler.{insn.name}.{insn.match:08x}"


def runtime_ir(
    table: Table, exports: dict[str, NativeFunction], rare: Sequence[Insn] = ()
) -> tuple[str, str, dict[str, str]]:
    """IR of the handlers of a core's table without the `rare`, IR of everything else, the exported natives' symbols.

    Handlers are many and each is rare: they are compiled the quick way, apart from what runs all the time.
    """
    from ..vcpu.interrupts import raise_program

    module = Module()
    absent = set(rare)
    own = [insn for insn in table if insn not in absent]
    handlers = [handler_ir(module, insn, handler_symbol(insn)) for insn in own]
    bodies = {module.require(insn.function) for insn in own}
    parts = [undefined_handler(module, raise_program), missing_handler()]
    glued = [module.require(f) for f in (dispatch.next_code, dispatch.resume, dispatch.enter, dispatch.leave)]
    symbols = {name: module.require(function, export=True) for name, function in exports.items()}
    parts.append(glue(*glued))
    selects = {insn.select for insn in table if insn.select is not None}
    symbols |= {f"select.{f.name}": module.require(f, export=True) for f in selects}
    seldom, common = module.emit_parts(bodies)
    return "\n".join([seldom, *handlers]) + HANDLER_ATTRIBUTES, "\n".join([common, LIBRARY, *parts]), symbols
