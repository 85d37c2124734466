# Arithmetic of which compiled code has no part: floating point, AltiVec, 64-bit; and loops of known length to be timed.

spin_integer:                   # r3 turns of INTEGER_STEPS instructions -> r3 a checksum
    mtctr   r3
    li      r3, 1
    li      r4, 0x1234
    li      r5, 0x77
    lis     r6, (the.Scratch + Scratch.results)@ha
    addi    r6, r6, (the.Scratch + Scratch.results)@l
1:  add     r3, r3, r4
    rotlwi  r4, r4, 5
    xor     r5, r5, r3
    stw     r5, 0(r6)
    subf    r4, r5, r4
    addi    r3, r3, 13
    and     r7, r3, r5
    lwz     r8, 0(r6)
    or      r4, r4, r7
    srwi    r7, r8, 3
    add     r5, r5, r7
    mullw   r8, r8, r3
    cmpwi   r8, 0
    xor     r3, r3, r8
    addi    r4, r4, 1
    bdnz    1b
    add     r3, r3, r5
    blr

spin_float:                     # r3 turns of FLOAT_OPERATIONS
    mtctr   r3
    lis     r4, ones@ha
    addi    r4, r4, ones@l
    lfd     f1, 0(r4)
    lfd     f2, 8(r4)
    fmr     f3, f1
    fmr     f4, f2
    fmr     f5, f1
1:  fmadd   f3, f3, f2, f1
    fmul    f4, f4, f2
    fadd    f5, f5, f4
    fsub    f3, f3, f5
    fmul    f5, f5, f2
    fadd    f4, f4, f1
    fmsub   f3, f3, f2, f1
    bdnz    1b
    blr

.align 3
ones:
    .quad   0x3FF0000000000000  # 1.0
    .quad   0x3FE0000000000000  # 0.5

float_suite:                    # r3 operands a, b, c; r4 results as FLOAT_RESULTS lists them
    lfd     f1, 0(r3)
    lfd     f2, 8(r3)
    lfd     f3, 16(r3)
    mtfsfi  7, 0
    fadd    f4, f1, f2
    stfd    f4, 0(r4)
    fsub    f4, f1, f2
    stfd    f4, 8(r4)
    fmul    f4, f1, f2
    stfd    f4, 16(r4)
    fdiv    f4, f1, f2
    stfd    f4, 24(r4)
    fmadd   f4, f1, f2, f3
    stfd    f4, 32(r4)
    fnmsub  f4, f1, f2, f3
    stfd    f4, 40(r4)
    frsp    f4, f1
    stfd    f4, 48(r4)
    fctiwz  f4, f3
    li      r5, 0
    stw     r5, 56(r4)
    stw     r5, 64(r4)
    li      r5, 60
    stfiwx  f4, r5, r4
    fcmpu   cr0, f1, f2
    mfcr    r5
    srwi    r5, r5, 28
    stw     r5, 68(r4)
    blr

vector_suite:                   # r3 two vectors a, b; r4 results as VECTOR_RESULTS lists them
    li      r5, 16
    li      r6, 32
    li      r7, 48
    lvx     v1, 0, r3
    lvx     v2, r5, r3
    vadduwm v3, v1, v2
    stvx    v3, 0, r4
    vaddubs v3, v1, v2
    stvx    v3, r5, r4
    vmrghb  v3, v1, v2
    stvx    v3, r6, r4
    vxor    v3, v1, v2
    stvx    v3, r7, r4
    blr

wide_suite:                     # r3 doublewords a, b; r4 results as WIDE_RESULTS lists them: 64-bit cores, CM=1
    mfmsr   r10
    wrteei  0
    mfmsr   r11
    oris    r11, r11, MSR.CM >> 16
    mtmsr   r11
    isync
    clrldi  r3, r3, 32
    clrldi  r4, r4, 32
    ld      r5, 0(r3)
    ld      r6, 8(r3)
    add     r7, r5, r6
    std     r7, 0(r4)
    mulld   r7, r5, r6
    std     r7, 8(r4)
    mulhdu  r7, r5, r6
    std     r7, 16(r4)
    divdu   r7, r5, r6
    std     r7, 24(r4)
    rldicl  r7, r5, 13, 7
    std     r7, 32(r4)
    cmpd    r5, r6
    mfcr    r7
    srwi    r7, r7, 28
    std     r7, 40(r4)
    rlwinm  r11, r11, 0, 1, 31
    mtmsr   r11
    isync
    wrtee   r10
    blr
