"""Guests in which everything happens that could come at another time: interrupts, locks, doorbells, sleep."""

from __future__ import annotations

BUSY = """
    devices
    vector 410, tick            # decrementer
    vector 532, bell            # doorbell
    li    r3, 311
    mtspr 54, r3                # DECAR
    mtspr 22, r3                # DEC
    load32 r3, 0x04400000       # TCR[DIE, ARE]
    mtspr 340, r3
    load32 r7, RESULTS
    addi  r8, r7, 32            # a lock of both CPUs
    li    r10, 0
    release 1, other
    wrteei 1
1:  lwarx r4, 0, r8
    addi  r4, r4, 1
    stwcx. r4, 0, r8
    bne   1b
    addi  r10, r10, 1
    andi. r5, r10, 63
    bne   1b
    li    r5, 1
    msgsnd r5                   # CPU 1
    b     1b

other:
    load32 r7, RESULTS
    vector 532, bell
    addi  r8, r7, 32
    wrteei 1
2:  li    r6, 40
3:  lwarx r4, 0, r8
    addi  r4, r4, 1
    stwcx. r4, 0, r8
    bne   3b
    addi  r6, r6, -1
    cmpwi r6, 0
    bne   3b
    wait
    b     2b

    .balign 16
tick:
    mfcr  r22
    lwz   r20, 16(r7)
    addi  r20, r20, 1
    stw   r20, 16(r7)
    mfspr r21, 268              # time base
    lwz   r20, 20(r7)
    xor   r20, r20, r21
    add   r20, r20, r10
    stw   r20, 20(r7)
    lis   r21, 0x0800           # TSR[DIS]
    mtspr 336, r21
    mtcr  r22
    rfi
    .balign 16
bell:
    lwz   r20, 24(r7)
    addi  r20, r20, 1
    stw   r20, 24(r7)
    rfi
"""
"""Two CPUs for ever. Words of the results: 4 decrementer interrupts, 5 what they saw, 6 doorbells, 8 the lock."""

ECHO = """
    devices
    load32 r3, DEVICES + 0x4500 # the first UART
1:  lbz   r4, 5(r3)
    andi. r4, r4, 1
    beq   1b
got:
    lbz   r5, 0(r3)
    stb   r5, 0(r3)
    b     1b
"""
"""Sends back what comes, polling."""
