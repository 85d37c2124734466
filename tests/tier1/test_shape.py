"""What a region is made of."""

from __future__ import annotations

import struct

from powervisor.insns import TABLE, assemble_source
from powervisor.isa import cores
from powervisor.translate.tier1.shape import Former, Region

CORE = cores.get("e5500")
HOME = 0x1000
SWITCH = """
head:
    lwzx  r9, r10, r9
    add   r9, r9, r10
    mtctr r9
    bctr                        # the last words of a page
first:
    cmpwi r3, 0
    beq   seldom
    b     head
second:
    addi  r3, r3, 1
    b     head
seldom:                         # a branch leads here
    addi  r4, r4, 1
    b     head
function:
    stdu  r1, -64(r1)
    b     head
never:                          # not executed so far
    b     head
"""


def region_of(source: str, executed: tuple[str, ...]) -> tuple[Region, dict[str, int]]:
    """The region around `head`, whose four words end a page, and where everything is."""
    start = HOME - 16
    code = assemble_source(source, start, CORE)
    words = dict(enumerate(struct.unpack(f">{len(code.data) // 4}I", code.data), start // 4))
    at = dict(code.symbols)
    known = {at[name] for name in executed}
    former = Former("e5500", TABLE.for_core(CORE.categories), 1, lambda a: words.get(a // 4), known.__contains__)
    region = former.form(at["head"])
    assert region is not None
    return region, at


def test_a_jump_table_leads_to_the_next_page_and_not_to_what_branches_lead_to() -> None:
    region, at = region_of(SWITCH, ("head", "first", "second", "seldom", "function"))
    assert region.cases == (at["first"], at["second"])
    assert at["seldom"] in {block.start for block in region.blocks} and region.pages == (0, 1)


def test_where_branches_lead_everywhere_they_are_cases_too() -> None:
    branches = "always:\n beq first\n beq second\n b head\n"
    region, at = region_of(SWITCH + branches, ("head", "first", "second", "always"))
    assert region.cases == (at["first"], at["second"], at["always"])
