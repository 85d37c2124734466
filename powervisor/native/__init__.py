"""Python to machine code, knowing nothing of Power: the native subset, its compiler, the object loader."""
