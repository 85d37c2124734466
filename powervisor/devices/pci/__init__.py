"""PCI: functions, the bus they sit on, and the host bridge."""
