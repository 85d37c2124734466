"""Extended mnemonics (Book I, appendix D; Book III-E, appendix B): each line is an alias and what it stands for.

Operands may be sums of the alias's operands; an alias without a marker such as {rc} stands for its being 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .insn import Insn
from .registers import SPR
from .syntax import Alias, parse_aliases, spr_names

BOTH_WAYS = """
nop = ori 0,0,0
xnop = xori 0,0,0
isellt rt,ra0,rb = isel rt,ra,rb,0
iselgt rt,ra0,rb = isel rt,ra,rb,1
iseleq rt,ra0,rb = isel rt,ra,rb,2
li rt,si = addi rt,0,si
lis rt,si = addis rt,0,si
mr{rc} ra,rs = or{rc} ra,rs,rs
not{rc} ra,rs = nor{rc} ra,rs,rs
cmpwi ra,si = cmpwi 0,ra,si
cmpdi ra,si = cmpdi 0,ra,si
cmplwi ra,ui = cmplwi 0,ra,ui
cmpldi ra,ui = cmpldi 0,ra,ui
cmpw ra,rb = cmpw 0,ra,rb
cmpd ra,rb = cmpd 0,ra,rb
cmplw ra,rb = cmplw 0,ra,rb
cmpld ra,rb = cmpld 0,ra,rb
rotlwi{rc} ra,rs,n = rlwinm{rc} ra,rs,n,0,31
clrlwi{rc} ra,rs,n = rlwinm{rc} ra,rs,0,n,31
slwi{rc} ra,rs,n = rlwinm{rc} ra,rs,n,0,31-n
srwi{rc} ra,rs,n = rlwinm{rc} ra,rs,32-n,n,31
clrrwi{rc} ra,rs,n = rlwinm{rc} ra,rs,0,0,31-n
rotlw{rc} ra,rs,rb = rlwnm{rc} ra,rs,rb,0,31
rotldi{rc} ra,rs,n = rldicl{rc} ra,rs,n,0
clrldi{rc} ra,rs,n = rldicl{rc} ra,rs,0,n
srdi{rc} ra,rs,n = rldicl{rc} ra,rs,64-n,n
clrrdi{rc} ra,rs,n = rldicr{rc} ra,rs,0,63-n
sldi{rc} ra,rs,n = rldicr{rc} ra,rs,n,63-n
rotld{rc} ra,rs,rb = rldcl{rc} ra,rs,rb,0
trap = tw 31,0,0
crclr bt = crxor bt,bt,bt
crset bt = creqv bt,bt,bt
crmove bt,ba = cror bt,ba,ba
crnot bt,ba = crnor bt,ba,ba
mtcr rs = mtcrf 255,rs
sync = sync 0
mbar = mbar 0
sc = sc 0
wait = wait 0,0
waitrsv = wait 1,0
waitimpl = wait 2,0
wait wc = wait wc,0
mftb rt = mfspr rt,268
mttbl rs = mtspr 284,rs
mttbu rs = mtspr 285,rs
ehpriv = ehpriv 0
tlbilxlpid = tlbilx 0,0,0
tlbilxpid = tlbilx 1,0,0
tlbilxva ra0,rb = tlbilx 3,ra,rb
vmr vrt,vra = vor vrt,vra,vra
vnot vrt,vra = vnor vrt,vra,vra
"""

ASSEMBLER_ONLY = """
la rt,d(ra) = addi rt,ra,d
subi rt,ra0,n = addi rt,ra,-n
subis rt,ra0,n = addis rt,ra,-n
subic rt,ra,n = addic rt,ra,-n
subic. rt,ra,n = addic. rt,ra,-n
sub{oe}{rc} rt,ra,rb = subf{oe}{rc} rt,rb,ra
subc{oe}{rc} rt,ra,rb = subfc{oe}{rc} rt,rb,ra
cmpi bf,0,ra,si = cmpwi bf,ra,si
cmpi bf,1,ra,si = cmpdi bf,ra,si
cmpli bf,0,ra,ui = cmplwi bf,ra,ui
cmpli bf,1,ra,ui = cmpldi bf,ra,ui
cmp bf,0,ra,rb = cmpw bf,ra,rb
cmp bf,1,ra,rb = cmpd bf,ra,rb
cmpl bf,0,ra,rb = cmplw bf,ra,rb
cmpl bf,1,ra,rb = cmpld bf,ra,rb
extlwi{rc} ra,rs,n,b = rlwinm{rc} ra,rs,b,0,n-1
extrwi{rc} ra,rs,n,b = rlwinm{rc} ra,rs,b+n,32-n,31
inslwi{rc} ra,rs,n,b = rlwimi{rc} ra,rs,32-b,b,b+n-1
insrwi{rc} ra,rs,n,b = rlwimi{rc} ra,rs,32-b-n,b,b+n-1
rotrwi{rc} ra,rs,n = rlwinm{rc} ra,rs,32-n,0,31
clrlslwi{rc} ra,rs,b,n = rlwinm{rc} ra,rs,n,b-n,31-n
extldi{rc} ra,rs,n,b = rldicr{rc} ra,rs,b,n-1
extrdi{rc} ra,rs,n,b = rldicl{rc} ra,rs,b+n,64-n
insrdi{rc} ra,rs,n,b = rldimi{rc} ra,rs,64-b-n,b
rotrdi{rc} ra,rs,n = rldicl{rc} ra,rs,64-n,0
clrlsldi{rc} ra,rs,b,n = rldic{rc} ra,rs,n,b-n
dcbtt ra0,rb = dcbt 16,ra,rb
dcbtstt ra0,rb = dcbtst 16,ra,rb
msync = sync 0
hwsync = sync 0
mfsprg rt,n = mfspr rt,272+n
mtsprg n,rs = mtspr 272+n,rs
"""

# Cache instructions whose cache target CT is not written when it is 0.
_CACHE_TARGETS = "dcbt dcbtst icbt dcbtls dcbtstls dcblc icbtls icblc dcblq. icblq.".split()

# Name of a condition, the CR bit, and whether it must be set; the first name of a pair is the one printed.
_CONDITIONS = (
    ("lt", 0, True), ("gt", 1, True), ("eq", 2, True), ("so", 3, True),
    ("ge", 0, False), ("le", 1, False), ("ne", 2, False), ("ns", 3, False),
)  # fmt: skip
_CONDITION_SYNONYMS = (("nl", 0, False), ("ng", 1, False), ("un", 3, True), ("nu", 3, False))
_HINTS = (("", 0), ("-", 2), ("+", 3))  # the at bits of BO
_COUNT_HINTS = (("", 0), ("-", 8), ("+", 9))

_TRAPS = {"lgt": 1, "llt": 2, "eq": 4, "lge": 5, "lle": 6, "gt": 8, "ge": 12, "lt": 16, "le": 20, "ne": 24, "u": 31}
_TRAP_SYNONYMS = {"lnl": 5, "lng": 6, "nl": 12, "ng": 20}

# Where to, the mnemonic's markers, and the operands after BO and BI.
_WAYS = (("", "{lk}{aa}", "bc{lk}{aa}", ",target"), ("lr", "{lk}", "bclr{lk}", ""), ("ctr", "{lk}", "bcctr{lk}", ""))


def _branches(conditions: Iterable[tuple[str, int, bool]]) -> Iterator[str]:
    """Branches on a bit of a CR field, which is not written when it is CR0."""
    for way, markers, real, rest in _WAYS:
        for name, bit, wanted in conditions:
            for hint, at in _HINTS:
                bo = (12 if wanted else 4) + at
                mnemonic = f"b{name}{way}{markers}{hint}"
                yield f"{mnemonic} {rest[1:]}".rstrip() + f" = {real} {bo},{bit}{rest}"
                yield f"{mnemonic} bf{rest} = {real} {bo},4*bf+{bit}{rest}"


def _counted_branches() -> Iterator[str]:
    """Branches that count, and those on nothing."""
    for way, markers, real, rest in _WAYS[:2]:
        for name, bo in (("dnz", 16), ("dz", 18)):
            for hint, bits in _COUNT_HINTS:
                yield f"b{name}{way}{markers}{hint} {rest[1:]}".rstrip() + f" = {real} {bo + bits},0{rest}"
            for test, add in (("t", -8), ("f", -16)):
                yield f"b{name}{test}{way}{markers} bi{rest} = {real} {bo + add},bi{rest}"
    for way, markers, real, _ in _WAYS[1:]:
        yield f"b{way}{markers} = {real} 20,0"


def _traps(names: dict[str, int]) -> Iterator[str]:
    for size in "wd":
        for name, to in names.items():
            yield f"t{size}{name}i ra,si = t{size}i {to},ra,si"
            yield f"t{size}{name} ra,rb = t{size} {to},ra,rb"


def _sprs() -> Iterator[str]:
    for number, name in spr_names().items():
        yield f"mf{name} rt = mfspr rt,{number}"
        if number not in (SPR.TBL, SPR.TBU):  # mttbl and mttbu write through other numbers
            yield f"mt{name} rs = mtspr {number},rs"


def regular_families() -> list[str]:
    """The families of extended mnemonics that follow a rule, in words."""
    conditions = " ".join(name for name, _, _ in (*_CONDITIONS, *_CONDITION_SYNONYMS))
    traps = " ".join((*_TRAPS, *_TRAP_SYNONYMS))
    return [
        f"`b<condition>[lr|ctr][l][a][+|-] [bf,]target`, condition one of {conditions}; CR0 where `bf` is left out",
        "`bdnz`, `bdz` `[lr][l][a][+|-] target`, and `bdnzt`, `bdnzf`, `bdzt`, `bdzf` `[lr][l][a] bi,target`",
        "`blr`, `bctr`, `blrl`, `bctrl`",
        f"`tw<condition>[i]`, `td<condition>[i]` `ra,rb` or `ra,si`, condition one of {traps}",
        "`mf<name> rt`, `mt<name> rs` for every special-purpose register by its name",
    ]


def lines(regular: bool = True) -> tuple[list[str], list[str]]:
    """Alias lines the disassembler prints, and those only the assembler takes; `regular`: with the regular families."""
    shown = [line for line in BOTH_WAYS.splitlines() if line]
    other = [line for line in ASSEMBLER_ONLY.splitlines() if line]
    shown += [f"{name} ra0,rb = {name} 0,ra,rb" for name in _CACHE_TARGETS]
    if regular:
        shown += [*_counted_branches(), *_branches(_CONDITIONS), *_traps(_TRAPS), *_sprs()]
        other += [*_branches(_CONDITION_SYNONYMS), *_traps(_TRAP_SYNONYMS)]
    return shown, other


def aliases(entries: Iterable[Insn], regular: bool = True) -> list[Alias]:
    """Every extended mnemonic of a set of entries."""
    entries = list(entries)
    shown, other = lines(regular)
    return parse_aliases(shown, entries, True) + parse_aliases(other, entries, False)
