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

ANSWERS = """
    devices
    map 13, 0xD0000000, 0xF, 0, 2, 0xA
    load32 r3, 0xD0000000       # eTSEC
    load32 r4, 0x20000          # two descriptors to receive, one to send
    load32 r7, RESULTS
    load32 r5, 0x80000000       # EMPTY
    stw   r5, 0(r4)
    load32 r5, 0x30000
    stw   r5, 4(r4)
    load32 r5, 0xA0000000       # EMPTY, WRAP
    stw   r5, 8(r4)
    load32 r5, 0x31000
    stw   r5, 12(r4)
    load32 r5, 0x7205
    stw   r5, 0x504(r3)         # MACCFG2
    li    r5, 1536
    stw   r5, 0x340(r3)         # MRBLR
    li    r5, 8
    stw   r5, 0x300(r3)         # RCTRL: promiscuous
    addi  r5, r4, 0x40
    stw   r5, 0x204(r3)         # TBASE0
    stw   r4, 0x404(r3)         # RBASE0
    li    r5, 5
    stw   r5, 0x500(r3)         # MACCFG1
    load32 r6, 0x80000000
    load32 r14, 0x00800000
    release 1, other
    li    r8, 0
next:
    add   r9, r4, r8
1:  lhz   r10, 0(r9)
    andi. r10, r10, 0x8000
    bne   1b
    lhz   r11, 2(r9)
    addi  r11, r11, -4
    oris  r11, r11, 0xEC00      # READY, PAD, WRAP, LAST, CRC
    lwz   r12, 4(r9)
    stw   r12, 0x44(r4)
    stw   r11, 0x40(r4)
    stw   r6, 0x104(r3)         # TSTAT
2:  lhz   r10, 0x40(r4)
    andi. r10, r10, 0x8000
    bne   2b
answered:
    lwz   r10, 0(r7)
    addi  r10, r10, 1
    stw   r10, 0(r7)
    lhz   r10, 0(r9)
    ori   r10, r10, 0x8000
    sth   r10, 0(r9)
    stw   r14, 0x304(r3)        # RSTAT
    xori  r8, r8, 8
    b     next
other:
    load32 r7, RESULTS
3:  lwz   r4, 4(r7)
    addi  r4, r4, 1
    stw   r4, 4(r7)
    b     3b
"""
"""Sends back every frame that the eTSEC receives, and counts them in the first word of the results."""
