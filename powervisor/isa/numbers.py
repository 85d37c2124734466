"""Numbers of registers and interrupts, by their manual names."""

from __future__ import annotations


class TMR:
    """Numbers of the thread management registers."""

    TMCFG0 = 16
    IMSR0 = 288
    IMSR1 = 289
    INIA0 = 320
    INIA1 = 321


class SPR:
    """Numbers of the special-purpose registers."""

    XER = 1
    LR = 8
    CTR = 9
    DEC = 22
    SRR0 = 26
    SRR1 = 27
    PID = 48
    DECAR = 54
    LPER = 56
    LPERU = 57
    CSRR0 = 58
    CSRR1 = 59
    DEAR = 61
    ESR = 62
    IVPR = 63
    VRSAVE = 256
    SPRG3U = 259
    SPRG4U = 260
    SPRG5U = 261
    SPRG6U = 262
    SPRG7U = 263
    TBL = 268
    TBU = 269
    SPRG0 = 272
    SPRG1 = 273
    SPRG2 = 274
    SPRG3 = 275
    SPRG4 = 276
    SPRG5 = 277
    SPRG6 = 278
    SPRG7 = 279
    TBL_WRITE = 284
    TBU_WRITE = 285
    PIR = 286
    PVR = 287
    DBSR = 304
    DBSRWR = 306
    EPCR = 307
    DBCR0 = 308
    DBCR1 = 309
    DBCR2 = 310
    MSRP = 311
    IAC1 = 312
    IAC2 = 313
    IAC3 = 314
    IAC4 = 315
    DAC1 = 316
    DAC2 = 317
    DVC1 = 318
    DVC2 = 319
    TSR = 336
    LPIDR = 338
    MAS5 = 339
    TCR = 340
    MAS8 = 341
    LRATCFG = 342
    LRATPS = 343
    TLB0PS = 344
    TLB1PS = 345
    MAS5_MAS6 = 348
    MAS8_MAS1 = 349
    EPTCFG = 350
    HACOP = 351
    GSPRG0 = 368
    GSPRG1 = 369
    GSPRG2 = 370
    GSPRG3 = 371
    MAS7_MAS3 = 372
    MAS0_MAS1 = 373
    GSRR0 = 378
    GSRR1 = 379
    GEPR = 380
    GDEAR = 381
    GPIR = 382
    GESR = 383
    IVOR0 = 400
    IVOR38 = 432
    IVOR42 = 436
    TENSR = 437
    TENS = 438
    TENC = 439
    GIVOR2 = 440
    GIVOR3 = 441
    GIVOR4 = 442
    GIVOR8 = 443
    GIVOR13 = 444
    GIVOR14 = 445
    TIR = 446
    GIVPR = 447
    BBEAR = 513
    BBTAR = 514
    L1CFG0 = 515
    L1CFG1 = 516
    NPIDR = 517
    L2CFG0 = 519
    ATBL = 526
    ATBU = 527
    IVOR32 = 528
    DBCR4 = 563
    MCARU = 569
    MCSRR0 = 570
    MCSRR1 = 571
    MCSR = 572
    MCAR = 573
    DSRR0 = 574
    DSRR1 = 575
    DDAM = 576
    SPRG8 = 604
    SPRG9 = 605
    L1CSR2 = 606
    L1CSR3 = 607
    MAS0 = 624
    MAS1 = 625
    MAS2 = 626
    MAS3 = 627
    MAS4 = 628
    MAS6 = 630
    TLB0CFG = 688
    TLB1CFG = 689
    TLB2CFG = 690
    TLB3CFG = 691
    CDCSR0 = 696
    EPR = 702
    L2ERRINTEN = 720
    L2ERRATTR = 721
    L2ERRADDR = 722
    L2ERREADDR = 723
    L2ERRCTL = 724
    L2ERRDIS = 725
    MAS7 = 944
    EPLC = 947
    EPSC = 948
    DEVENT = 975
    HDBCR0 = 976
    NSPD = 983
    NSPC = 984
    L2ERRINJHI = 985
    L2ERRINJLO = 986
    L2ERRINJCTL = 987
    L2CAPTDATAHI = 988
    L2CAPTDATALO = 989
    L2CAPTECC = 990
    L2ERRDET = 991
    HID0 = 1008
    HID1 = 1009
    L1CSR0 = 1010
    L1CSR1 = 1011
    MMUCSR0 = 1012
    BUCSR = 1013
    MMUCFG = 1015
    L2CSR0 = 1017
    L2CSR1 = 1018
    PWRMGTCR0 = 1019
    SVR = 1023


class IVOR:
    """Interrupt numbers: the n of IVORn (Book III-E, section 7.6)."""

    CRITICAL = 0
    MACHINE_CHECK = 1
    DATA_STORAGE = 2
    INSTRUCTION_STORAGE = 3
    EXTERNAL = 4
    ALIGNMENT = 5
    PROGRAM = 6
    FP_UNAVAILABLE = 7
    SYSTEM_CALL = 8
    AP_UNAVAILABLE = 9
    DECREMENTER = 10
    FIT = 11
    WATCHDOG = 12
    DATA_TLB = 13
    INSTRUCTION_TLB = 14
    DEBUG = 15
    ALTIVEC_UNAVAILABLE = 32
    ALTIVEC_ASSIST = 33
    PERFORMANCE_MONITOR = 35
    DOORBELL = 36
    CRITICAL_DOORBELL = 37
    GUEST_DOORBELL = 38
    GUEST_CRITICAL_DOORBELL = 39
    HYPERVISOR_SYSTEM_CALL = 40
    HYPERVISOR_PRIVILEGE = 41
    LRAT_ERROR = 42


HID0_RESET = 0
"""HID0 after reset."""
