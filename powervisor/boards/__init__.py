"""Boards: declarative files from which machines and their device trees are built."""
