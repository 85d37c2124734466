# Where a CPU begins: a stack, the board's registers (CCSR) at 0xE0000000, then main. GNU as and Powervisor's own take it.

    .globl _start
_start:
    lis   1, 0x0020             # the stack ends at 2 MiB
    lis   3, 0x1001             # MAS0: TLB1, entry 1
    mtspr 624, 3
    lis   3, 0xC000             # MAS1: valid, protected, 1 MiB
    ori   3, 3, 0x0500
    mtspr 625, 3
    lis   3, 0xE000             # MAS2: effective address; caching inhibited, guarded
    ori   3, 3, 0x000A
    mtspr 626, 3
    lis   3, 0xE000             # MAS3: physical address, low word; the supervisor reads and writes
    ori   3, 3, 0x0005
    mtspr 627, 3
    li    3, 0xF                # MAS7: high word
    mtspr 944, 3
    isync
    tlbwe
    isync
    bl    main
    .globl finished
finished:
    b     finished
