"""Boot: images, where they go in RAM, and the state in which CPUs enter them."""
