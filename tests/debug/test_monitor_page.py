"""docs/monitor.md has every command, as it is."""

from pathlib import Path

from powervisor.debug.monitor import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()


def test_every_command_is_on_the_page():
    told = PAGE.replace("\\|", "|")
    missing = [c.usage for c in COMMANDS.values() if f"`{c.usage}`" not in told and c.name != "version"]
    assert missing == []
