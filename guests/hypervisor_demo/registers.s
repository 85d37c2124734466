# Registers and instructions that compiled code cannot name; guests/builtin/routines.s has GET, PUT and more.

    GET msr
    GET epr
    PUT gsrr0
    PUT gsrr1
    PUT gepr
    PUT gesr
    PUT gdear
    PUT mas8
    GET mas0
    GET mas7

forget_doorbells:               # r3 message
    msgclr  r3
    blr

tlb_rewrite:                    # r3 MAS3, r4 MAS7, r5 MAS8: the entry that MAS0 to MAS2 of the partition describe
    mtmas3  r3
    mtmas7  r4
    mtmas8  r5
    isync
    tlbwe
    li      r5, 0
    mtmas8  r5
    isync
    blr

lrat_write:                     # r3 MAS0, r4 MAS1, r5 LPID: logical 0 is real r6
    mtmas0  r3
    mtmas1  r4
    mtmas8  r5
    li      r5, 0
    mtmas2  r5
    mtmas7  r5
    mtmas3  r6
    isync
    tlbwe
    mtmas8  r5
    isync
    blr

relax:                          # in a loop that polls
    or      r31, r31, r31
    blr
