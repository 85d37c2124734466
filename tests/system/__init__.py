"""Whole machines: real guests boot, bare-metal ones try to break out."""
