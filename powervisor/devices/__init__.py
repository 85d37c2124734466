"""Devices: one file or folder each. They know memory, interrupt lines and the clock, never a vCPU."""
