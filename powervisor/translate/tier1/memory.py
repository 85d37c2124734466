"""Guest memory from a region: through the soft TLB, or by a *probe* that makes sure of several accesses at once."""

from __future__ import annotations

import ast
from functools import cache
from typing import Any, ClassVar

from ...native.compile import Module
from ...native.ints import u32, u64, u128
from ...native.lang import NativeFunction
from ...native.source import syntax
from ...native.values import Const, Frame, Value
from ...vcpu import access as access_natives
from ...vcpu import mmu, vector
from ...vcpu.state import Context, Vcpu
from ..inlining import InlineCompiler

GO_ON, LEAVE, TAKEN, JUMP = range(4)
"""What a meaning returns: the next instruction follows; the handler must execute this one, nothing has changed; the
relative branch is taken; the address is in the frame's `npc`."""

PAGE_SIZE = 4096
PROBE_PARAMETERS = "ptr %cpu, ptr %ctx, ptr %near, i1 %remember, i64 %ea, i64 %last"
PROBES = {"read": ("read",), "write": ("write",), "both": ("read", "write")}
"""Probes by name, and what they make sure of."""
NOWHERE = 1 << 63
"""What %near holds when it remembers no page: more than any number of a page, and far from all 32-bit addresses."""


class MemoryCompiler(InlineCompiler):
    """Emits semantics that access guest memory; leaving is to return LEAVE."""

    overrides: ClassVar[dict[NativeFunction, str]] = InlineCompiler.overrides | {
        access_natives.load: "on_load",
        access_natives.store: "on_store",
        vector.load_vector: "on_load_vector",
        vector.store_vector: "on_store_vector",
    }

    def __init__(self, module: Module, cm: bool) -> None:
        super().__init__(module, cm)
        self.leaves = False
        self.accesses: list[tuple[str, int]] = []

    def finish(self, code: int) -> None:
        self.put(f"ret i8 {code}")
        self.terminated = True

    def leave(self) -> None:
        self.leaves = True
        self.finish(LEAVE)

    def host_address(self, node: ast.AST, cpu: Any, where: Value, size: int, access: str) -> Value:
        """Host address of an access: with %sure by the addend in %near, else through the soft TLB, or leave."""
        self.accesses.append((access, size))
        host = self.alloca(u64, "host")
        sure, table, done = self.new_label("sure"), self.new_label("table"), self.new_label("done")
        self.put(f"br i1 %sure, label %{sure}, label %{table}")
        self.start(sure)
        addend = self.temp(f"load i64, ptr {self.temp('getelementptr i8, ptr %near, i64 8')}")
        self.put(f"store i64 {self.temp(f'add i64 {where.ref}, {addend}')}, ptr {host}")
        self.put(f"br label %{done}")
        self.start(table)
        if self.cm:
            last = Value(u64, self.temp(f"add i64 {where.ref}, {size - 1}")) if size > 1 else where
            addend = self.soft_addend(node, cpu, where, self.inline_call(mmu.soft_tag, [last], node), (access,))
        else:
            crosses = self.inline_call(access_natives.crosses, [where, Const(u32(size))], node)
            self.leave_if(self.truth(crosses, node).ref)
            addend = self.low_addend(node, where, (access,))
        self.put(f"store i64 {self.temp(f'add i64 {where.ref}, {addend}')}, ptr {host}")
        self.put(f"br label %{done}")
        self.start(done)
        return Value(u64, self.temp(f"load i64, ptr {host}"))

    def soft_addend(self, node: ast.AST, cpu: Any, where: Value, tag: Value, kinds: tuple[str, ...]) -> str:
        """The addend of the soft TLB's entry for an address, which must have a tag for some kinds of access."""
        soft = self.inline_call(access_natives.soft_entry, [cpu, where], node)
        for kind in kinds:
            found = self.read(self.field_place(soft, kind, node))
            self.leave_if(self.temp(f"icmp ne i64 {found.ref}, {tag.ref}"))
        addend: str = self.read(self.field_place(soft, "addend", node)).ref
        return addend

    def low_addend(self, node: ast.AST, where: Value, kinds: tuple[str, ...]) -> str:
        """The addend of an address below 4 GiB, which must be known for some kinds of access."""
        addend, page = "", self.temp(f"lshr i64 {where.ref}, 12")
        for kind in kinds:
            table = self.temp(f"getelementptr i8, ptr %ctx, i64 {Context.offset(f'low_{kind}')}")
            addend = self.temp(f"load i64, ptr {self.temp(f'getelementptr i64, ptr {table}, i64 {page}')}")
            self.leave_if(self.temp(f"icmp eq i64 {addend}, 0"))
        return addend

    def address(self, node: ast.AST, ea: Any) -> Value:
        """As `ops.address`."""
        whole = self.coerce(ea, u64, node).ref
        if self.cm:
            return Value(u64, whole)
        word = self.temp(f"trunc i64 {whole} to i32")  # as GPRs of 32 bits are computed, so that both are one value
        return Value(u64, self.temp(f"zext i32 {word} to i64"))

    def leave_if(self, condition: str) -> None:
        """Let the handler execute the instruction when something rare is so."""
        out, on = self.new_label("out"), self.new_label("hit")
        self.put(f"br i1 {condition}, label %{out}, label %{on}, !prof !1")
        self.start(out)
        self.leave()
        self.start(on)

    def on_load(self, node: ast.AST, cpu: Any, kind: Any, ea: Any) -> Value:
        where = self.address(node, ea)
        host = self.host_address(node, cpu, where, kind.value.size, "read")
        swapped: Value = self.word_bswap(node, self.word_load(node, kind, host))
        return swapped

    def on_store(self, node: ast.AST, cpu: Any, kind: Any, ea: Any, value: Any) -> None:
        where = self.address(node, ea)
        host = self.host_address(node, cpu, where, kind.value.size, "write")
        self.word_store(node, kind, host, self.word_bswap(node, self.coerce(value, kind.value, node)))

    def quadword(self, node: ast.AST, cpu: Any, ea: Any, access: str) -> Value:
        where = self.address(node, ea)
        aligned = Value(u64, self.temp(f"and i64 {where.ref}, -16"))
        return self.host_address(node, cpu, aligned, 1, access)

    def on_load_vector(self, node: ast.AST, cpu: Any, ea: Any) -> Any:
        value = self.word_load(node, Const(u128), self.quadword(node, cpu, ea, "read"))
        return self.inline_call(vector.reversed_bytes, [value], node)

    def on_store_vector(self, node: ast.AST, cpu: Any, ea: Any, value: Any) -> None:
        host = self.quadword(node, cpu, ea, "write")
        self.word_store(node, Const(u128), host, self.inline_call(vector.reversed_bytes, [value], node))


class ProbeCompiler(MemoryCompiler):
    """Emits a probe."""

    def leave(self) -> None:
        self.put("store [2 x i64] poison, ptr %near")  # nobody looks there any more
        super().leave()

    def begin(self) -> tuple[ast.AST, Value, Value]:
        """Begin the function: a node for messages, the vCPU, and the address of the first byte."""
        self.frames.append(Frame(access_natives.load, {}, None))
        self.enter(access_natives.load)
        node = syntax(access_natives.load)[0]
        return node, Value(Vcpu, "%cpu"), self.address(node, Value(u64, "%ea"))

    def end(self, symbol: str) -> str:
        """End the function with success: its IR."""
        self.finish(GO_ON)
        text = "\n".join(["entry:", *self.allocas, *self.lines])
        return f'define internal i8 @"{symbol}"({PROBE_PARAMETERS}) #1 {{\n{text}\n}}\n'

    def probe(self, symbol: str, kinds: tuple[str, ...]) -> str:
        """A function that makes sure of the bytes %ea .. %ea + %last and leaves their addend in %near.

        With %remember, the page that %near was made for last is recognised there: by its number, or by its address
        where addresses have 32 bits.
        """
        node, cpu, where = self.begin()
        last = Value(u64, self.temp(f"add i64 {where.ref}, %last"))
        room = self.temp(f"sub i64 {PAGE_SIZE - 1}, %last")
        page = self.temp(f"lshr i64 {where.ref}, 12" if self.cm else f"and i64 {where.ref}, {-PAGE_SIZE}")
        ask, known, table = self.new_label("ask"), self.new_label("known"), self.new_label("table")
        self.put(f"br i1 %remember, label %{ask}, label %{table}")
        self.start(ask)
        known_page = self.temp("load i64, ptr %near")
        if self.cm:
            same = self.temp(f"icmp eq i64 {known_page}, {page}")
        else:  # one comparison says that all bytes are in the page
            same = self.temp(f"icmp ule i64 {self.temp(f'sub i64 {where.ref}, {known_page}')}, {room}")
        self.put(f"br i1 {same}, label %{known}, label %{table}, !prof !0")
        self.start(known)
        if self.cm:
            self.stay_in_page(where, room)
        self.finish(GO_ON)
        self.start(table)
        if self.cm:
            addend = self.soft_addend(node, cpu, where, self.inline_call(mmu.soft_tag, [last], node), kinds)
        else:
            self.stay_in_page(where, room)
            addend = self.low_addend(node, where, kinds)
        self.put(f"store i64 {page}, ptr %near")
        self.put(f"store i64 {addend}, ptr {self.temp('getelementptr i8, ptr %near, i64 8')}")
        return self.end(symbol)

    def straddle(self, symbol: str, kinds: tuple[str, ...]) -> str:
        """As a probe for bytes in two pages: leaves where the second begins and the addends of both in %near."""
        node, cpu, where = self.begin()
        second = Value(u64, self.temp(f"and i64 {self.temp(f'add i64 {where.ref}, %last')}, {-PAGE_SIZE}"))
        self.leave_if(self.temp(f"icmp eq i64 {second.ref}, {0 if self.cm else 1 << 32}"))  # it is page 0 of all
        addends = [
            self.soft_addend(node, cpu, page, self.inline_call(mmu.soft_tag, [page], node), kinds)
            if self.cm
            else self.low_addend(node, page, kinds)
            for page in (where, second)
        ]
        for n, value in enumerate((second.ref, *addends)):
            self.put(f"store i64 {value}, ptr {self.temp(f'getelementptr i8, ptr %near, i64 {8 * n}')}")
        return self.end(symbol)

    def stay_in_page(self, where: Value, room: str) -> None:
        """Leave when the bytes go on in the next page. Most single accesses are seen not to by their lowest bits."""
        more = self.temp("add i64 %last, 1")
        power = self.temp(f"icmp eq i64 {self.temp(f'and i64 %last, {more}')}, 0")
        low = self.temp(f"and i64 {where.ref}, {self.temp(f'select i1 {power}, i64 %last, i64 -1')}")
        look, fine = self.new_label("look"), self.new_label("fine")
        self.put(f"br i1 {self.temp(f'icmp eq i64 {low}, 0')}, label %{fine}, label %{look}, !prof !0")
        self.start(look)
        self.leave_if(self.temp(f"icmp ugt i64 {self.temp(f'and i64 {where.ref}, {PAGE_SIZE - 1}')}, {room}"))
        self.label(fine)


@cache
def probe(name: str, cm: bool) -> str:
    """IR of a probe, see `ProbeCompiler.probe`."""
    return ProbeCompiler(Module(), cm).probe(f"probe.{name}", PROBES[name])


@cache
def straddle(name: str, cm: bool) -> str:
    """IR of a probe of two pages, see `ProbeCompiler.straddle`."""
    return ProbeCompiler(Module(), cm).straddle(f"straddle.{name}", PROBES[name])
