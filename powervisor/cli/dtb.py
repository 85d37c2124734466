"""powervisor dtb: the device tree that `powervisor run` with the same options would give its guest."""

import sys

from powervisor.cli.machine_options import add_guest_options, add_machine_options, list_requested, machine_arguments
from powervisor.cli.options import Parser
from powervisor.errors import UserError


def main(words: list[str]) -> int:
    """Print the tree as source, or write it as a blob."""
    parser = Parser("dtb", "Print the device tree of a machine; the options are those of powervisor run, -guest too.")
    add_guest_options(parser)
    add_machine_options(parser)
    parser.option("-o", dest="output", metavar="FILE", help="write there instead of printing (- for the output)")
    parser.option("-format", choices=("dts", "dtb"), help="source or blob; without it the name of -o decides")
    options = parser.parse(words)
    if (listing := list_requested(options)) is not None:
        print(listing)
        return 0
    from powervisor import Machine
    from powervisor.console.files import Null

    serial = [None if spec == "none" else Null() for spec in options.serial or ["stdio"]]
    blob = (options.format or ("dtb" if (options.output or "").endswith(".dtb") else "dts")) == "dtb"
    with Machine(**machine_arguments(options), serial=serial) as machine:
        data = machine.device_tree_blob
    if not blob:
        from powervisor.boards.devicetree import blob_to_dts

        data = blob_to_dts(data).encode()
    if options.output in (None, "-"):
        if blob and sys.stdout.isatty():
            raise UserError("-format dtb: a blob does not belong on a terminal; add -o FILE")
        sys.stdout.buffer.write(data)
        return 0
    try:
        with open(options.output, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"-o {options.output}: cannot write there ({error.strerror})") from None
    return 0
