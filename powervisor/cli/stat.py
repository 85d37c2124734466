"""powervisor stat: what running machines do with their time."""

import json
import sys
import time
from typing import TYPE_CHECKING

from powervisor.cli.options import Parser, parse_seconds, table
from powervisor.errors import UserError

if TYPE_CHECKING:
    from powervisor.analysis.control import Running

DESCRIPTION = """\
Show what a running machine does with its time: exits by reason with their times, interrupts and how late they come,
device registers. Without PID or NAME: the only machine, or a list of them. It is measured while somebody looks.
"""


def main(words: list[str]) -> int:
    """Show one machine, or list those there are."""
    parser = Parser("stat", DESCRIPTION)
    parser.add_argument("machine", nargs="?", metavar="PID|NAME", help="its process, or the name given by run -name")
    parser.option("-once", action="store_true", help="measure for one interval and print; so it is without a terminal")
    parser.option("-json", action="store_true", help="the same as JSON, for powervisor report and programs")
    parser.option("-interval", metavar="SECONDS", default="1", help="seconds between two looks; 1")
    options = parser.parse(words)
    interval = parse_seconds(options.interval, "-interval")
    from powervisor.analysis import control

    if interval > control.LONGEST_INTERVAL:
        raise UserError(f"-interval {options.interval}: too long; write at most {control.LONGEST_INTERVAL:g} seconds")
    if options.machine is None:
        machines = control.running()
        if len(machines) != 1:
            if options.json or options.once:
                names = ", ".join(machine.path.name for machine in machines)
                raise UserError(f"name one of the machines: {names}" if machines else "no machine runs")
            print(_listing(machines))
            return 0
        chosen = machines[0]
    else:
        chosen = control.find(options.machine)
    with control.Remote(chosen.path) as remote:
        if options.once or options.json or not sys.stdout.isatty():
            remote.ask("statistics")
            time.sleep(interval)
            told = remote.ask("statistics")
            if options.json:
                print(json.dumps(told))
            else:
                from powervisor.analysis.tables import text

                print(f"{_title(chosen)}\n\n{text(told)}")
            return 0
        from powervisor.analysis.live import show

        show(remote, _title(chosen), interval)
    return 0


def _title(machine: "Running") -> str:
    told = machine.description
    name = f"{machine.name} " if machine.name else ""
    cpus = told["cores"] * told["threads"]
    return f"{name}({machine.path.name}): {told['board']}, {cpus} x {told['cpu']}, {told['memory'] >> 20} MiB"


def _listing(machines: "list[Running]") -> str:
    if not machines:
        return "no machine runs; start one with powervisor run"
    rows = [("PID", "NAME", "BOARD", "CPUS", "CORE", "RAM")]
    for machine in machines:
        told = machine.description
        cpus = str(told["cores"] * told["threads"])
        rows.append((machine.path.name, machine.name, told["board"], cpus, told["cpu"], f"{told['memory'] >> 20} MiB"))
    return table(rows)
