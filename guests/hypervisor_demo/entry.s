# Where CPUs enter, and what is set once.
#
# Names with a dot come from the build: the.X is the struct X, X.field an offset, X.size a size, MSR.X a mask; names in
# capitals are in program/layout.py. SPRG0 to SPRG3 are the hypervisor's: a guest that names them gets GSPRG0 to GSPRG3.

start:                          # CPU 0: r3 device tree, r7 size of the initial mapping (ePAPR 5.4.1)
    mr      r30, r3
    mr      r31, r7
    li      r3, 0
    bl      set_up
    mr      r3, r30
    mr      r4, r31
    bl      first_cpu
1:  b       1b

secondary:                      # CPU 1
    lis     r3, (the.Hypervisor + Hypervisor.entering)@ha
    lwz     r3, (the.Hypervisor + Hypervisor.entering)@l(r3)
    bl      set_up
    bl      other_cpu
1:  b       1b

set_up:                         # r3 number of the CPU: its stack, its struct, who gets which interrupt
    mulli   r4, r3, Cpu.size
    addis   r4, r4, the.Cpus@ha
    addi    r4, r4, the.Cpus@l
    stw     r3, Cpu.number(r4)
    mtsprg2 r4                  # SPRG2: this CPU
    addi    r5, r4, Cpu.own
    mtsprg0 r5                  # SPRG0: where the next interrupt puts the registers
    addi    r3, r3, 1
    mulli   r3, r3, STACK_SIZE
    addis   r3, r3, the.Stacks@ha
    addi    r3, r3, the.Stacks@l
    addi    r1, r3, -16
    li      r0, 0
    stw     r0, 0(r1)
    mtmas8  r0                  # TGS=0, TLPID=0: TLB entries that are written now are the hypervisor's
    mtmas5  r0
    mtlpidr r0                  # and it is partition 0
    lis     r4, start@h
    mtivpr  r4
    lis     r5, MSR.ME@h
    ori     r5, r5, MSR.ME@l    # EE=0: nothing interrupts the hypervisor itself
    mtmsr   r5
    lis     r5, (MSRP.UCLEP | MSRP.DEP | MSRP.PMMP)@h
    ori     r5, r5, (MSRP.UCLEP | MSRP.DEP | MSRP.PMMP)@l
    mtmsrp  r5                  # bits of MSR that a partition does not change
    isync

set_guest_vectors:              # GIVPR is 0: the same places in every partition's own memory
    li      r4, 0
    mtgivpr r4
    li      r4, 0x200
    mtgivor2 r4                 # data storage
    li      r4, 0x300
    mtgivor3 r4                 # instruction storage
    li      r4, 0x400
    mtgivor4 r4                 # external input
    li      r4, 0x800
    mtgivor8 r4                 # system call
    li      r4, 0xD00
    mtgivor13 r4                # data TLB error
    li      r4, 0xE00
    mtgivor14 r4                # instruction TLB error
    b       set_vectors         # world.s
