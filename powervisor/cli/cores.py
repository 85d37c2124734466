"""powervisor cores: what a `-cpu` can be."""

from powervisor.cli.options import Parser, table


def listing(most_bits: int = 64) -> str:
    """The cores with at most so many bits, one a line."""
    from powervisor.isa.cores import CORES

    return table([(name, core.summary) for name, core in CORES.items() if core.bits <= most_bits])


def main(words: list[str]) -> int:
    """List the cores."""
    Parser("cores", "List the processor cores.").parse(words)
    print(listing())
    return 0
