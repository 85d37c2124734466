"""Speed against QEMU: the same guest, the same programs, turn by turn on the same machine. `python -m bench --help`."""
