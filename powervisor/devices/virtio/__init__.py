"""virtio 1.x and transitional devices: rings, device types, and the PCI transport."""
