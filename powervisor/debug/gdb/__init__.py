"""gdb's remote serial protocol."""
