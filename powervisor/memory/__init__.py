"""Guest-physical memory: RAM, the address space around it, and DMA into both."""
