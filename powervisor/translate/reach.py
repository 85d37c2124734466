"""How many instructions may be executed before translated code looks at its budget.

Blocks and regions look at backward jumps, at jumps to another page and at those through registers. Until then control
goes forward in its page: from words alone can be told how far.
"""

from __future__ import annotations

from ..native.ints import i64, u32, u64
from ..native.lang import bswap, load, native

LONGEST = 96
"""Words that are looked at."""
BRANCH, BRANCH_CONDITIONAL, BRANCH_REGISTER = 18, 16, 19
TO_LR, TO_CTR = 16, 528
ABSOLUTE, ALWAYS = 2, 0x14


@native
def reach(code: u64, count: u32) -> u32:
    """Instructions that can follow each other from a host address on, of the `count` words to the end of the page."""
    furthest = u32(0)
    for n in range(count if count < LONGEST else u32(LONGEST)):
        word = bswap(load(u32, code + u64(n) * 4))
        op = word >> 26
        goes_on = True
        if op == BRANCH or op == BRANCH_CONDITIONAL:
            if word & ABSOLUTE:
                return count
            distance = i64(word << 6) << 32 >> 40 if op == BRANCH else i64(word << 16) << 32 >> 50
            words = i64(n) + distance
            if distance > 0 and words < i64(count) and words > i64(furthest):
                furthest = u32(words)
            goes_on = op == BRANCH_CONDITIONAL
        elif op == BRANCH_REGISTER:
            where = word >> 1 & 0x3FF
            goes_on = not ((where == TO_LR or where == TO_CTR) and word >> 21 & ALWAYS == ALWAYS)
        if not goes_on and n >= furthest:
            return n + 1
    return count
