"""The hypervisor's decisions, in the native subset, compiled for the guest by `guests.builtin.compiler`."""
