# uart.c and main.c for those who have no cross compiler.

    .globl main
main:
    mflr  r31
    lis   r10, 0xE000           # the port
    ori   r10, r10, 0x4500
    li    r4, 0x5A              # uart_init
    stb   r4, 7(r10)
    lbz   r5, 7(r10)
    cmpw  r4, r5
    li    r3, -4                # UART_ABSENT
    bne   leave
    li    r4, 0x83              # DLAB, 8 bits
    stb   r4, 3(r10)
    li    r4, 217
    stb   r4, 0(r10)
    li    r4, 0
    stb   r4, 1(r10)
    li    r4, 0x03
    stb   r4, 3(r10)
    li    r4, 0x07              # FIFOs on and empty
    stb   r4, 2(r10)
    lis   r11, text >> 16
    ori   r11, r11, text & 0xFFFF
print:
    lbz   r4, 0(r11)
    addi  r11, r11, 1
    cmpwi r4, 0
    beq   echo
    bl    uart_put
    cmpwi r3, 0
    beq   print
    b     leave
echo:
    lbz   r5, 5(r10)            # uart_get
    andi. r6, r5, 0x01
    beq   echo
    lbz   r4, 0(r10)
    andi. r6, r5, 0x1E
    beq   sound
    li    r4, '?'
sound:
    bl    uart_put
    cmpwi r3, 0
    beq   echo
leave:
    mtlr  r31
    blr

uart_put:
    li    r7, 10000
    mtctr r7
poll:
    lbz   r5, 5(r10)
    andi. r6, r5, 0x20
    bne   send
    bdnz  poll
    li    r3, -2                # UART_TIMEOUT
    blr
send:
    stb   r4, 0(r10)
    li    r3, 0
    blr

text:
    .asciz "ready\n"
