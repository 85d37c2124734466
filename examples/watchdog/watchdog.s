# main.c for those who have no cross compiler.

    .globl main
main:
    lis   r10, 0xE000           # the port
    ori   r10, r10, 0x4500
    lis   r12, 0x0020           # rounds
    mfspr r4, 336               # TSR
    lis   r11, first >> 16
    ori   r11, r11, first & 0xFFFF
    andis. r4, r4, 0x3000       # WRS
    beq   print
    lis   r11, again >> 16
    ori   r11, r11, again & 0xFFFF
print:
    lbz   r4, 0(r11)
    addi  r11, r11, 1
    cmpwi r4, 0
    beq   begin
    stb   r4, 0(r10)
    b     print
begin:
    lis   r4, 0xE012            # TCR: WP, WRC, WPEXT
    mtspr 340, r4
    lis   r5, 0xC000            # TSR: ENW, WIS
    mflr  r31
turn:
    bl    work
    mtspr 336, r5
    cmpwi r3, 0
    bne   turn
    mtlr  r31
    blr

    .globl work
work:
    lwz   r3, 0(r12)
    addi  r3, r3, 1
    stw   r3, 0(r12)
    blr

first:
    .asciz "power-on\n"
again:
    .asciz "reset by watchdog\n"
