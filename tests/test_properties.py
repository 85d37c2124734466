"""Properties declared as a dataclass: values, defaults, help, refusals."""

from dataclasses import dataclass

import pytest

from powervisor.errors import UserError
from powervisor.properties import NUMBER, SIZE, choice, listing, number, parse, prop


@dataclass(frozen=True)
class Options:
    file: str = prop("", "the file", required=True)
    read_only: bool = prop(False, "refuse writes", name="readonly")
    addr: int | None = prop(None, "where", NUMBER)
    block_size: int = prop(512, "bytes of a block", SIZE)
    mode: str = prop("auto", "how", choice("auto", "fast"))
    count: int = prop(1, "how many", number(1, 4))


def test_values_come_in_their_types():
    text = "file=a,,b=c,readonly=on,addr=0x10,block-size=4K,mode=fast,count=4"
    assert parse(Options, text, "-x") == Options("a,b=c", True, 16, 4096, "fast", 4)
    assert parse(Options, "file=f", "-x") == Options("f")
    assert parse(Options, "file=f,readonly", "-x").read_only, "a switch alone is on"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "-x: file= is missing; add file=TEXT"),
        ("file=", "-x: file= is missing"),
        ("file=f,fiel=g", "-x: unknown property 'fiel'; did you mean file"),
        ("file=f,zzz=1", "it takes file, readonly, addr, block-size, mode, count"),
        ("file=f,readonly=maybe", "-x: readonly=maybe is neither on nor off"),
        ("file=f,addr=ten", "addr=ten is not a number; write 4096 or 0x1000"),
        ("file=f,block-size=4X", "block-size=4X is not a size; write for example 4096, 64K"),
        ("file=f,mode=slow", "mode=slow is not one of auto, fast"),
        ("file=f,count=5", "count=5 is not within 1..4"),
        ("file=f,file=g", "-x: file is given twice"),
    ],
)
def test_refusals_begin_with_the_option_and_name_the_remedy(text, message):
    with pytest.raises(UserError, match=message):
        parse(Options, text, "-x")


def test_help_tells_kinds_and_defaults():
    assert listing(Options) == [
        ("file=text", "the file; required"),
        ("readonly=on|off", "refuse writes; default off"),
        ("addr=number", "where"),
        ("block-size=size", "bytes of a block; default 512"),
        ("mode=auto|fast", "how; default auto"),
        ("count=1..4", "how many; default 1"),
    ]
