"""Words to assembly text, in GNU objdump's spelling, derived from the syntax strings of the entries.

A syntax string is the mnemonic, a space, and the operands separated by commas: `lwz rt,d(ra0)`. In the mnemonic
`{oe} {rc} {lk} {aa}` stand for the letter the field adds when it is 1 (`o . l a`). Operands are fields of the encoding,
printed as their names say:

    rt ra rb rs          r3            general register
    ra0 (or rb0 ...)     0, r3         the same field `ra` where 0 means the value zero, not r0
    frt fra frb frc frs  f1            floating-point register
    vrt vra vrb vrc vrs  v2            vector register
    bf bfa               cr1           CR field
    bt ba bb bi bc       4*cr1+eq, lt  CR bit
    d(ra0), ds(ra0)      -8(r1)        displacement and base
    target               0x1008        the field `li` or `bd`: relative to the instruction, or absolute when `aa` is 1
    spr                  srr0, 1021    special-purpose register by name where it has one
    anything else        -5            a number, signed or not as the field is

A digit in an operand's place is printed as it is (`tlbilx 1,ra0,rb`). FPSCR fields of mtfsfi, mtfsb0 ... are numbers:
name such fields otherwise (`bff`, `fbt`). An `Rc` field is named `rc` and is never an operand.
"""
