"""Testing tools: differential runs of the instruction set, its Python semantics against native code."""
