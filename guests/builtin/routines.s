# What compiled code cannot say: special registers, TLB and cache instructions, instructions that fault on purpose.

# ---- registers -----------------------------------------------------------------------------------------------------

.macro GET name
get_\name:
    mf\name r3
    blr
.endm
.macro PUT name
set_\name:
    mt\name r3
    blr
.endm

    GET pvr
    GET svr
    GET pir
    GET sprg2
    GET l1cfg0
    GET l1cfg1
    GET tlb0cfg
    GET tlb1cfg
    GET mmucfg
    PUT dec
    PUT decar
    PUT tcr
    PUT tsr
    GET mcsr
    PUT mcsr
    GET mas1
    GET mas3

pause:                          # long enough for an interrupt that is there to be taken
    li      r3, 1000
    mtctr   r3
1:  bdnz    1b
    blr

enable_interrupts:
    wrteei  1
    blr

timebase:                       # -> r3:r4
    mftbu   r3
    mftbl   r4
    mftbu   r5
    cmpw    r3, r5
    bne     timebase
    blr

read_spr:                       # r3 address of `mfspr r4,N; blr`, r4 where its 64 bits go
    mflr    r6
    mfmsr   r7
    wrteei  0                   # an interrupt would lose the upper half of r4
    mtctr   r3
    mr      r8, r4
    li      r4, 0               # QEMU ignores reads of unknown registers
    bctrl
    mtlr    r6
    lis     r9, (the.Board + Board.wide)@ha
    lwz     r9, (the.Board + Board.wide)@l(r9)
    cmpwi   r9, 0
    beq     1f
    std     r4, 0(r8)
    b       2f
1:  li      r9, 0
    stw     r9, 0(r8)
    stw     r4, 4(r8)
2:  wrtee   r7
    blr

# ---- TLB -----------------------------------------------------------------------------------------------------------

tlb_write:                      # r3..r7: MAS0, MAS1, MAS2, MAS3, MAS7
    mtmas0  r3
    mtmas1  r4
    mtmas2  r5
    mtmas3  r6
    mtmas7  r7
    isync
    tlbwe
    isync
    sync
    blr

tlb_read:                       # r3 MAS0, r4 MAS2: get_mas1 .. tell what is there
    mtmas0  r3
    mtmas2  r4
    isync
    tlbre
    isync
    blr

tlb_search:                     # r3 effective address; get_mas1 .. tell what was found
    li      r4, 0
    mtmas6  r4
    isync
    tlbsx   0, r3
    isync
    blr

tlb_invalidate:                 # r3 effective address, on all CPUs
    li      r4, 0xFFF
    andc    r3, r3, r4
    tlbivax 0, r3               # bits 3 and 4 clear: TLB0
    tlbsync
    sync
    isync
    blr

# ---- memory --------------------------------------------------------------------------------------------------------

load1:
    lbz     r3, 0(r3)
    sync
    blr
load2:
    lhz     r3, 0(r3)
    sync
    blr
load4:
    lwz     r3, 0(r3)
    sync
    blr
store1:
    stb     r4, 0(r3)
    sync
    blr
store2:
    sth     r4, 0(r3)
    sync
    blr
store4:
    stw     r4, 0(r3)
    sync
    blr

make_code_visible:              # r3 address of changed instructions, within one line
    dcbst   0, r3
    sync
    icbi    0, r3
    sync
    isync
    blr

load_reserve:
    lwarx   r3, 0, r3
    blr

copy_words:                     # r3 to, r4 from, r5 words
    mtctr   r5
    addi    r3, r3, -4
    addi    r4, r4, -4
1:  lwzu    r0, 4(r4)
    stwu    r0, 4(r3)
    bdnz    1b
    blr

# LLVM may call these two for any code; they follow C.
memcpy:                         # r3 to, r4 from, r5 bytes; they do not overlap
    cmplwi  r5, 0
    beqlr
    mtctr   r5
    addi    r6, r3, -1
    addi    r4, r4, -1
1:  lbzu    r0, 1(r4)
    stbu    r0, 1(r6)
    bdnz    1b
    blr

memset:                         # r3 to, r4 byte, r5 bytes
    cmplwi  r5, 0
    beqlr
    mtctr   r5
    addi    r6, r3, -1
1:  stbu    r4, 1(r6)
    bdnz    1b
    blr

# ---- interrupts on purpose -----------------------------------------------------------------------------------------

halt:                           # for ever: interrupts are off in an interrupt
    wait
    b       halt

do_illegal:
    .long   0
    blr
do_trap:
    trap
    blr
do_sc:
    sc
    blr
send_doorbell:                  # r3 message
    msgsnd  r3
    blr

# ---- threads -------------------------------------------------------------------------------------------------------

thread_start:                   # r3 thread 1's first instruction, r4 its MSR
    mttmr   321, r3             # INIA1
    mttmr   289, r4             # IMSR1
    li      r3, 2
    mttens  r3
    blr
