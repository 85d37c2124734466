"""Looking into a running machine and stopping it: what gdb, the monitor and tests share."""
