"""Numbers that the hypervisor, its assembler and the partitions' program share."""

from __future__ import annotations

# What a partition sees; the hypervisor maps real pages there, with the partition's LPID.
MEMORY, MEMORY_SIZE = 0x0000_0000, 0x1_0000
"""Program, data and stack: the same address in both partitions, different memory."""
VAULT_A, VAULT_B, VAULT_SIZE = 0x0010_0000, 0x0020_0000, 0x1000
"""A page that one partition has and the other has not."""
SHARED = 0x0030_0000
"""A page that both have."""
CONTROLLER = 0x0040_0000
"""The interrupt controller's page with the running CPU's own registers: EOI and IACK."""
OWN_PAGE = 0x0050_0000
"""What partition A maps for itself."""
PROGRAM_SIZE, START = 0x2000, 0x1000
"""Room for the partitions' program, and where it begins."""

# In the shared page.
ANSWERED, OVER = 0, 4

# Hypercalls: r11 says which, r3 and r4 are operands, r3 is the result.
NEXT, SAY, RING, NOTHING = 1, 2, 3, 4
DONE, REFUSED = 0, 1

# What a partition can be asked to do: indexes of `jobs` in partition.s.
GREET, READ_MMUCFG, CALL, RING_OTHER, LISTEN, ALONE, SHARE, MAP, TOUCH, END, LIVE_ON = range(11)

# How much of each.
CALLS, RINGS, TICKS, SYSTEM_CALLS, SLICES = 1000, 20, 20, 1000, 10

VECTOR_DOORBELL, VECTOR_TIMER = 0x200, 0x110
"""What EPR holds when an external input interrupt comes: from the hypervisor, or from the controller's timers."""
STACK_SIZE = 8192
MMUCFG_LRAT, MMUCFG_LPIDSIZE = 0x0001_0000, 0x0F00_0000
