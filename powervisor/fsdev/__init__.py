"""Directories of the host for guests: a 9P2000.L server that never leaves the directory it was given."""
