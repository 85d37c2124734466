# The program of both partitions, at effective address 0 of each. Register names are the architecture's: while
# MSR[GS]=1, SRR0 means GSRR0, SPRG0 GSPRG0, PIR GPIR and EPR GEPR.

.macro HYPERCALL number         # r3 and r4 operands -> r3 result
    li      r11, \number
    sc      1
.endm

# ---- interrupts that come here -------------------------------------------------------------------------------------

.org 0x400
external_input:                 # from the controller with EPCR[EXTGS]=1, or from the hypervisor
    mtsprg0 r3
    mtsprg1 r4
    mfcr    r4
    mtsprg2 r4
    mfepr   r3                  # external proxy: the vector came with the interrupt
    cmplwi  r3, VECTOR_DOORBELL
    beq     doorbell
    lis     r4, CONTROLLER@h
    stw     r3, EOI(r4)         # the controller's own register, without the hypervisor; any value will do
    mfpir   r4
    subf    r3, r4, r3
    cmplwi  r3, VECTOR_TIMER    # A's timer has this vector, B's the next
    bne     stranger
    lwz     r3, ticks(0)
    addi    r3, r3, 1
    stw     r3, ticks(0)
    cmplwi  r3, TICKS
    blt     interrupted
    mfsrr1  r3
    rlwinm  r3, r3, 0, 17, 15   # enough: back with EE=0
    mtsrr1  r3
    b       interrupted
stranger:
    lwz     r3, strangers(0)
    addi    r3, r3, 1
    stw     r3, strangers(0)
    b       interrupted
doorbell:
    lis     r4, SHARED@h
    lwz     r3, ANSWERED(r4)
    addi    r3, r3, 1
    stw     r3, ANSWERED(r4)
interrupted:
    mfsprg2 r4
    mtcr    r4
    mfsprg1 r4
    mfsprg0 r3
    rfi                         # in a partition: from GSRR0 and GSRR1

.org 0x600
program:                        # what was refused, as the hypervisor tells it
    b       refused

.org 0x800
system_call:                    # sc 0 never leaves a partition
    mtsprg0 r3
    lwz     r3, calls(0)
    addi    r3, r3, 1
    stw     r3, calls(0)
    mfsprg0 r3
    rfi

.org 0xD00
data_tlb_error:                 # an address that is not ours
    b       refused

.org 0xE00
refused:                        # count it, and go on behind the instruction
    mtsprg0 r3
    lwz     r3, refusals(0)
    addi    r3, r3, 1
    stw     r3, refusals(0)
    mfsrr0  r3
    addi    r3, r3, 4
    mtsrr0  r3
    mfsprg0 r3
    rfi

# ---- one job after another -----------------------------------------------------------------------------------------

.org START
start:                          # r3: 0 in partition A, 1 in B
    mr      r31, r3
    li      r3, DONE
next:                           # r3 what the last job came to, r4 and r5 what it counted
    HYPERCALL NEXT
    slwi    r3, r3, 2
    lwz     r3, jobs(r3)
    mtctr   r3
    wrteei  1
    bctrl
    b       next

jobs:
    .long   greet, read_mmucfg, call, ring_other, listen, alone, share, map, touch, end, live_on

ticks:
    .long   0
calls:
    .long   0
refusals:
    .long   0
strangers:
    .long   0

greet:
    mfpir   r4                  # GPIR, in truth
    li      r3, greeting
    HYPERCALL SAY
    mfmsr   r4
    li      r3, mode
    HYPERCALL SAY
    li      r3, DONE
    blr
greeting:
    .asciz  "good morning; PIR is #"
mode:
    .asciz  "my MSR is 0x#: GS is set"
.align 2

read_mmucfg:                    # a register of the hypervisor's
    mfmmucfg r4
    mr      r20, r4
    li      r3, mmucfg
    HYPERCALL SAY
    andis.  r3, r20, MMUCFG_LPIDSIZE@h    # the hypervisor shows none
    blr
mmucfg:
    .asciz  "MMUCFG is 0x#: no LPIDs, so no E.HV for me"
.align 2

call:
    li      r5, CALLS
    mtctr   r5
1:  HYPERCALL NOTHING
    bdnz    1b
    li      r3, DONE
    blr

# ---- doorbells -----------------------------------------------------------------------------------------------------

ring_other:                     # ring, wait for the answer in the shared page, and again
    li      r20, 0
    lis     r21, SHARED@h
1:  xori    r3, r31, 1
    HYPERCALL RING
    addi    r20, r20, 1
    mftb    r22
2:  lwz     r4, ANSWERED(r21)
    cmplw   r4, r20
    beq     3f
    mftb    r4
    subf    r4, r22, r4
    lis     r5, 0x3000          # two seconds
    cmplw   r4, r5
    blt     2b
    li      r3, REFUSED
    b       4f
3:  cmplwi  r20, RINGS
    blt     1b
    li      r3, DONE
4:  li      r4, 1
    stw     r4, OVER(r21)
    mr      r4, r20
    blr

listen:                         # sleep; the doorbell wakes us through external_input
    lis     r21, SHARED@h
1:  lwz     r4, OVER(r21)
    cmpwi   r4, 0
    bne     2f
    wait                        # the time slice ends it too
    b       1b
2:  li      r3, DONE
    lwz     r4, ANSWERED(r21)
    blr

# ---- by ourselves --------------------------------------------------------------------------------------------------

alone:                          # system calls and timer interrupts of our own
    li      r5, SYSTEM_CALLS
    mtctr   r5
1:  sc
    bdnz    1b
2:  lwz     r4, ticks(0)
    cmplwi  r4, TICKS
    blt     2b
    lwz     r5, calls(0)
    lwz     r3, strangers(0)    # none: that is DONE
    blr

share:                          # compute until time is over, and look whether our registers stay ours
    addi    r14, r31, 0x5A5
.if WIDE
    sldi    r14, r14, 33
.endif
    addi    r15, r14, 0x123
    slwi    r16, r15, 7
    xor     r17, r14, r15
    xor     r17, r17, r16
    lis     r21, SHARED@h
1:  xor     r5, r14, r15
    xor     r5, r5, r16
    xor.    r5, r5, r17
    bne     2f
    lwz     r5, OVER(r21)
    cmpwi   r5, 0
    beq     1b
    li      r3, DONE
    blr
2:  li      r3, REFUSED
    blr

# ---- limits --------------------------------------------------------------------------------------------------------

HALFWAY = MEMORY_SIZE / 2

map:                            # a TLB0 entry of our own: OWN_PAGE is our memory's second half
    li      r4, MAS0.HES        # the hardware chooses the entry: a guest does not name one
    mtmas0  r4
    lis     r4, (MAS1.V | 2 << 7)@h
    ori     r4, r4, (MAS1.V | 2 << 7)@l
    mtmas1  r4
    lis     r4, OWN_PAGE@h
    mtmas2  r4
    li      r4, 0
    mtmas7  r4
    lis     r4, HALFWAY@h
    ori     r4, r4, HALFWAY@l
    ori     r5, r4, MAS3.SR | MAS3.SW
    mtmas3  r5                  # an address as we know it: ours begins at 0
    isync
    tlbwe
    isync
    lis     r6, OWN_PAGE@h
    stw     r5, 0(r4)
    lwz     r6, 0(r6)
    li      r3, REFUSED
    cmplw   r5, r6
    bnelr
    lwz     r7, refusals(0)
    lis     r5, MEMORY_SIZE@h   # and now a page behind our memory
    ori     r5, r5, MAS3.SR | MAS3.SW
    mtmas3  r5
    isync
    tlbwe
    isync
    lwz     r4, refusals(0)
    subf    r4, r7, r4
    cmpwi   r4, 1
    bnelr
    li      r3, DONE
    blr

touch:                          # the other's vault: load, store, and ask the hypervisor to read it out
    lwz     r22, refusals(0)
    lis     r20, VAULT_B@h
    cmpwi   r31, 0
    beq     1f
    lis     r20, VAULT_A@h
1:  li      r5, 0x666
    lwz     r6, 0(r20)
    stw     r5, 0(r20)
    mr      r3, r20
    HYPERCALL SAY
    mr      r5, r3
    lwz     r4, refusals(0)
    subf    r4, r22, r4
    li      r3, REFUSED
    cmpwi   r5, REFUSED         # the hypervisor must not do it for us
    bnelr
    cmpwi   r4, 2
    bnelr
    li      r3, DONE
    blr

end:
    ehpriv  1                   # this hypervisor has no use for it
    li      r3, REFUSED         # not reached
    blr

live_on:
    xori    r3, r31, 1
    HYPERCALL RING
    cmpwi   r3, REFUSED         # there is nobody to ring
    li      r3, REFUSED
    bnelr
    mr      r4, r31
    li      r3, alive
    HYPERCALL SAY
    li      r3, DONE
    blr
alive:
    .asciz  "my neighbour is gone; I am PIR # still"
