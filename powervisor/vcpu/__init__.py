"""What the architecture does beyond single instructions: state, MMU, interrupts, timers."""
