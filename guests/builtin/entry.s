# Where CPUs enter, and where interrupts arrive.
#
# Names with a dot come from the build: the.X is the struct X, X.field an offset, X.size a size, MSR.X a mask.
# Compiled code follows the 32-bit SVR4 ABI; SPRG2 holds the address of the running CPU's struct.

# ---- entry of CPUs -------------------------------------------------------------------------------------------------

start:                          # CPU 0: r3 device tree, r7 size of the initial mapping (ePAPR 5.4.1)
    mr      r30, r3
    mr      r31, r7
    li      r3, 0
    bl      set_up
    mr      r3, r30
    mr      r4, r31
    bl      first_cpu
1:  b       1b

secondary:                      # other CPUs, one at a time: the.Team says which one comes
    lis     r3, (the.Team + Team.entering)@ha
    lwz     r3, (the.Team + Team.entering)@l(r3)
    bl      set_up
    bl      other_cpu
1:  b       1b

set_up:                         # r3 number of the CPU: stack, own struct, vectors, MSR
    mulli   r4, r3, Cpu.size
    addis   r4, r4, the.Cpus@ha
    addi    r4, r4, the.Cpus@l
    mtsprg2 r4
    stw     r3, Cpu.number(r4)
    addi    r3, r3, 1
    mulli   r3, r3, STACK_SIZE
    addis   r3, r3, the.Stacks@ha
    addi    r3, r3, the.Stacks@l
    addi    r1, r3, -16
    li      r0, 0
    stw     r0, 0(r1)
    lis     r4, start@h
    mtivpr  r4
    li      r6, MSR.ME
    mtmsr   r6
    isync
    b       set_vectors

# ---- interrupts ----------------------------------------------------------------------------------------------------

FRAME = 16                      # above the ABI's back chain and LR word, 16-byte aligned
FRAME_SIZE = (FRAME + Frame.size + 15) & ~15
GPRS = FRAME + Frame.gpr

.macro VECTOR number, class=base
.align 4
vector\number:
    stwu    r1, -FRAME_SIZE(r1)
    stw     r0, GPRS(r1)
    stmw    r2, GPRS + 8(r1)
    li      r3, \number
    b       take_\class
.endm

.macro TAKE class, pc, msr, return
take_\class:
    mflr    r6
    stw     r6, FRAME + Frame.lr(r1)
    mf\pc   r4
    mf\msr  r5
    bl      save
    bl      on_interrupt
    bl      restore
    mt\pc   r4
    mt\msr  r5
    lwz     r6, FRAME + Frame.lr(r1)
    mtlr    r6
    lwz     r0, GPRS(r1)
    lmw     r2, GPRS + 8(r1)
    lwz     r1, GPRS + 4(r1)
    \return
.endm

save:                           # r4 PC, r5 MSR -> r4 address of the frame; r3 stays
    stw     r4, FRAME + Frame.pc(r1)
    stw     r5, FRAME + Frame.msr(r1)
    mfcr    r6
    stw     r6, FRAME + Frame.cr(r1)
    mfxer   r6
    stw     r6, FRAME + Frame.xer(r1)
    mfctr   r6
    stw     r6, FRAME + Frame.ctr(r1)
    mfesr   r6
    stw     r6, FRAME + Frame.esr(r1)
    mfdear  r6
    stw     r6, FRAME + Frame.dear(r1)
    addi    r6, r1, FRAME_SIZE
    stw     r6, GPRS + 4(r1)
    addi    r4, r1, FRAME
    blr

restore:                        # -> r4 PC, r5 MSR
    addi    r6, r1, 8
    stwcx.  r6, 0, r6           # the interrupted code's reservation must not survive (Book II 1.7.3)
    lwz     r6, FRAME + Frame.cr(r1)
    mtcr    r6
    lwz     r6, FRAME + Frame.xer(r1)
    mtxer   r6
    lwz     r6, FRAME + Frame.ctr(r1)
    mtctr   r6
    lwz     r4, FRAME + Frame.pc(r1)
    lwz     r5, FRAME + Frame.msr(r1)
    blr

    TAKE base, srr0, srr1, rfi
    TAKE critical, csrr0, csrr1, rfci
    TAKE machine, mcsrr0, mcsrr1, rfmci
    TAKE debug, dsrr0, dsrr1, rfdi

    VECTOR 0, critical
    VECTOR 1, machine
    VECTOR 2
    VECTOR 3
    VECTOR 4
    VECTOR 5
    VECTOR 6
    VECTOR 7
    VECTOR 8
    VECTOR 9
    VECTOR 10
    VECTOR 11
    VECTOR 12, critical
    VECTOR 13
    VECTOR 14
    VECTOR 15, debug
    VECTOR 32
    VECTOR 33
    VECTOR 35
    VECTOR 36
    VECTOR 37, critical

.macro SET number
    li      r4, vector\number - start
    mtivor\number r4
.endm

set_vectors:
    SET 0
    SET 1
    SET 2
    SET 3
    SET 4
    SET 5
    SET 6
    SET 7
    SET 8
    SET 9
    SET 10
    SET 11
    SET 12
    SET 13
    SET 14
    SET 15
    SET 35
    SET 36
    SET 37
    mfpvr   r5
    srwi    r5, r5, 16
    cmplwi  r5, E6500 >> 16
    bnelr
    SET 32
    SET 33
    blr

# ---- waiting -------------------------------------------------------------------------------------------------------

idle:                           # r3 address, r4 value: sleep until an interrupt, unless the word there has another value
    lwz     r5, 0(r3)
    cmpw    r5, r4
    bnelr
    wait                        # on_interrupt goes on at idle_end when it came from here: no wake-up is lost
idle_end:
    blr

relax:                          # in a loop that polls
    or      r31, r31, r31
    blr

# ---- calls that may fault ------------------------------------------------------------------------------------------

guarded:                        # r3 routine, r4 and r5 its arguments -> r3 its result; Cpu.fault tells an interrupt
    mflr    r0
    stwu    r1, -16(r1)
    stw     r0, 20(r1)
    mfmsr   r8
    stw     r8, 8(r1)
    mfsprg2 r9
    lis     r8, guarded_end@h
    ori     r8, r8, guarded_end@l
    stw     r1, Cpu.recover_sp(r9)
    stw     r8, Cpu.recover(r9)
    li      r8, 0
    stw     r8, Cpu.fault(r9)
    mtctr   r3
    mr      r3, r4
    mr      r4, r5
    bctrl
guarded_end:
    mfsprg2 r9
    li      r8, 0
    stw     r8, Cpu.recover(r9)
    lwz     r8, 8(r1)
    wrtee   r8                  # the routine may have turned interrupts off
    lwz     r0, 20(r1)
    mtlr    r0
    addi    r1, r1, 16
    blr
