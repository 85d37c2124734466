"""Where things are in the effective address space. RAM is mapped one to one as far as ePAPR's first entry reaches."""

from __future__ import annotations

CCSR = 0xE000_0000
SPIN_TABLE = 0xEF00_0000
WINDOW = 0xD000_0000
"""A page of 1 MiB through which any physical address is looked at."""
TEST_PAGE = 0xC000_0000
"""Unmapped but for what the MMU test maps there."""

WINDOW_SLOT, CCSR_SLOT, SPIN_SLOT = 8, 9, 10
"""TLB1 entries; the first two are ePAPR's."""
