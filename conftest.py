"""The plugins of the tests: pytest's own for testing plugins, and this tree's where no environment has it installed."""

from importlib.metadata import entry_points

pytest_plugins = ["pytester"]
if not entry_points(group="pytest11", name="powervisor"):
    pytest_plugins.append("powervisor.testing.plugin")
