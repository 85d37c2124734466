# Into a partition, and out of it by whatever interrupt.

.macro SAVE reg, at, base       # 64 bits of a register where it has them
.if WIDE
    std     \reg, \at(\base)
.else
    stw     \reg, \at + 4(\base)
.endif
.endm

.macro LOAD reg, at, base
.if WIDE
    ld      \reg, \at(\base)
.else
    lwz     \reg, \at + 4(\base)
.endif
.endm

.macro SAVE_GPRS first, last, base
.if (\first) <= \last
    SAVE    \first, Partition.gpr + 8 * (\first), \base
    SAVE_GPRS \first + 1, \last, \base
.endif
.endm

.macro LOAD_GPRS first, last, base
.if (\first) <= \last
    LOAD    \first, Partition.gpr + 8 * (\first), \base
    LOAD_GPRS \first + 1, \last, \base
.endif
.endm

FRAME = 16                      # above it r14 to r31, which callees keep; compiled code has no use for r2 and r13
FRAME_SIZE = FRAME + 80

# ---- in ------------------------------------------------------------------------------------------------------------

enter_partition:                # r3 partition -> r3 the interrupt that brings us back
    mflr    r0
    stw     r0, 4(r1)
    stwu    r1, -FRAME_SIZE(r1)
    stmw    r14, FRAME(r1)
    mfcr    r0
    stw     r0, 8(r1)
    mtsprg0 r3                  # where the interrupt puts the partition's registers
    mtsprg1 r1                  # the stack to come back to
    LOAD    r4, Partition.pc, r3
    lwz     r5, Partition.msr(r3)
    mtsrr0  r4
    mtsrr1  r5                  # MSR with GS=1: rfi makes the CPU the partition's
    LOAD    r4, Partition.lr, r3
    LOAD    r5, Partition.ctr, r3
    lwz     r6, Partition.xer(r3)
    lwz     r7, Partition.cr(r3)
    mtlr    r4
    mtctr   r5
    mtxer   r6
    mtcr    r7
    LOAD_GPRS 4, 31, r3
    LOAD_GPRS 0, 2, r3
    LOAD    r3, Partition.gpr + 8 * 3, r3
    rfi

# ---- out -----------------------------------------------------------------------------------------------------------

.macro VECTOR number, class=base
.align 4
vector\number:
    mtsprg3 r3
    mfsprg0 r3
    SAVE    r4, Partition.gpr + 8 * 4, r3
    SAVE    r5, Partition.gpr + 8 * 5, r3
    li      r4, \number
    b       leave_\class
.endm

.macro LEAVE class, pc, msr     # each class of interrupts has registers of its own for PC and MSR
leave_\class:
    stw     r4, Partition.exit(r3)
    mf\pc   r4
    SAVE    r4, Partition.pc, r3
    mf\msr  r5
    b       leave
.endm

    LEAVE base, srr0, srr1
    LEAVE guest, gsrr0, gsrr1
    LEAVE machine, mcsrr0, mcsrr1

leave:                          # r3 where the registers go, r5 the interrupted MSR
    stw     r5, Partition.msr(r3)
    mfcr    r4
    stw     r4, Partition.cr(r3)
    andis.  r4, r5, MSR.GS@h
    beq     own_interrupt
    SAVE_GPRS 0, 2, r3
    SAVE_GPRS 6, 31, r3
    mfsprg3 r4
    SAVE    r4, Partition.gpr + 8 * 3, r3
    mflr    r4
    SAVE    r4, Partition.lr, r3
    mfctr   r4
    SAVE    r4, Partition.ctr, r3
    mfdear  r4
    SAVE    r4, Partition.dear, r3
    mfesr   r4
    stw     r4, Partition.esr(r3)
    mfxer   r4
    stw     r4, Partition.xer(r3)
    mfsprg1 r1
    addi    r4, r1, 12
    stwcx.  r4, 0, r4           # a reservation of the partition's ends here
    mfsprg2 r4
    addi    r4, r4, Cpu.own
    mtsprg0 r4                  # from here on an interrupt is the hypervisor's own
    lwz     r3, Partition.exit(r3)
    lwz     r0, 8(r1)
    mtcr    r0
    lmw     r14, FRAME(r1)
    addi    r1, r1, FRAME_SIZE
    lwz     r0, 4(r1)
    mtlr    r0
    blr

own_interrupt:                  # guest_word went wrong, or the hypervisor is
    mfsprg2 r5
    lwz     r4, Cpu.recover(r5)
    cmpwi   r4, 0
    beq     crash
    mtsrr0  r4
    rfi

    VECTOR 1, machine
    VECTOR 2
    VECTOR 3
    VECTOR 4
    VECTOR 5
    VECTOR 6
    VECTOR 7
    VECTOR 10
    VECTOR 13
    VECTOR 14
    VECTOR 32
    VECTOR 38, guest
    VECTOR 40
    VECTOR 41
    VECTOR 42

.macro SET number
    li      r4, vector\number - start
    mtivor\number r4
.endm

set_vectors:
    SET 1
    SET 2
    SET 3
    SET 4
    SET 5
    SET 6
    SET 7
    SET 10
    SET 13
    SET 14
    SET 38
    SET 40
    SET 41
    mfmmucfg r5
    andis.  r5, r5, MMUCFG_LRAT@h
    beqlr
    SET 32                      # e6500 alone has AltiVec and an LRAT
    SET 42
    blr

# ---- with other eyes -----------------------------------------------------------------------------------------------

guest_word:                     # r3 address in the partition -> r3 the word there; Cpu.unreadable tells a refusal
    mfsprg2 r5
    lis     r4, unreadable@h
    ori     r4, r4, unreadable@l
    stw     r4, Cpu.recover(r5)
    li      r4, 0
    lwepx   r3, 0, r3           # as the partition would load it: EPLC has its LPID, and GS=1
    b       1f
unreadable:
    mfsprg2 r5
    li      r4, 1
1:  stw     r4, Cpu.unreadable(r5)
    li      r4, 0
    stw     r4, Cpu.recover(r5)
    blr

# ---- another partition on this CPU ---------------------------------------------------------------------------------

depart:                         # r3 the partition whose registers are here
    mfgsrr0 r4
    SAVE    r4, Partition.gsrr0, r3
    mfgsrr1 r4
    stw     r4, Partition.gsrr1(r3)
    mfgdear r4
    SAVE    r4, Partition.gdear, r3
    mfgesr  r4
    stw     r4, Partition.gesr(r3)
    mfgepr  r4
    stw     r4, Partition.gepr(r3)
    mfgsprg0 r4
    SAVE    r4, Partition.gsprg, r3
    mfgsprg1 r4
    SAVE    r4, Partition.gsprg + 8, r3
    mfgsprg2 r4
    SAVE    r4, Partition.gsprg + 16, r3
    mfgsprg3 r4
    SAVE    r4, Partition.gsprg + 24, r3
    blr

arrive:                         # r3 the partition that gets this CPU
    LOAD    r4, Partition.gsrr0, r3
    mtgsrr0 r4
    lwz     r4, Partition.gsrr1(r3)
    mtgsrr1 r4
    LOAD    r4, Partition.gdear, r3
    mtgdear r4
    lwz     r4, Partition.gesr(r3)
    mtgesr  r4
    lwz     r4, Partition.gepr(r3)
    mtgepr  r4
    LOAD    r4, Partition.gsprg, r3
    mtgsprg0 r4
    LOAD    r4, Partition.gsprg + 8, r3
    mtgsprg1 r4
    LOAD    r4, Partition.gsprg + 16, r3
    mtgsprg2 r4
    LOAD    r4, Partition.gsprg + 24, r3
    mtgsprg3 r4
    lwz     r4, Partition.number(r3)
    mtgpir  r4                  # what it reads as PIR, and what guest doorbells go by
    lwz     r4, Partition.epcr(r3)
    mtepcr  r4                  # which of its interrupts are its own business
    lwz     r4, Partition.lpid(r3)
    mtlpidr r4                  # which TLB entries are its own
    slwi    r4, r4, 16
    oris    r4, r4, EPLC.EGS@h
    mteplc  r4                  # for guest_word
    isync
    blr
