"""powervisor guests: which guests can be booted by name, where they are, and building them."""

from powervisor.cli.options import Parser, table
from powervisor.console.stdio import complain
from powervisor.errors import UserError


def main(words: list[str]) -> int:
    """List the guests, or build some."""
    from powervisor.guests import catalogue

    parser = Parser("guests", "List the guests that `powervisor run -guest NAME` can boot, or build them.")
    parser.add_argument("action", nargs="?", choices=("list", "build"), default="list", help="list (default) or build")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to build; a guest is also built when first run")
    parser.option("-force", action="store_true", help="build again what is there already")
    options = parser.parse(words)
    if options.action == "list":
        if options.names or options.force:
            raise UserError("guests list takes nothing more; to build: powervisor guests build NAME")
        print(table([(guest.name, guest.summary, catalogue.where(guest)) for guest in catalogue.GUESTS.values()]))
        return 0
    if not options.names:
        raise UserError(f"guests build: name at least one of {', '.join(catalogue.GUESTS)}")
    for guest in [catalogue.get(name) for name in options.names]:
        for artifact, path in zip(guest.files.values(), catalogue.build(guest, options.force), strict=True):
            print(path)
            if not artifact.packed and (found := catalogue.locate(artifact)) != path:
                complain(f"powervisor guests: {found} is found before it, unless POWERVISOR_GUESTS={path.parent}")
    return 0
