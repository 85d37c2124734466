"""powervisor boards: what a `-M` can be."""

from powervisor.cli.options import Parser, table


def listing() -> str:
    """The boards, one a line."""
    from powervisor.boards import registry

    return table([(name, registry.get(name).description) for name in registry.names()])


def main(words: list[str]) -> int:
    """List the boards, and the cores and chips each stands for."""
    from powervisor.boards import registry

    Parser("boards", "List the boards, and the cores each takes.").parse(words)
    for name in registry.names():
        board = registry.get(name)
        print(f"{name}  {board.description}; up to {board.max_cpus} CPUs, RAM up to {board.ram_max >> 30} GiB")
        print(table([("   ", core, f"as on {entry.chip}") for core, entry in board.cores.items()]))
    return 0
