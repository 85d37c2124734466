"""Guests that can be booted by name: where they are, and how they are built from Debian's packages.

This folder is the package `powervisor.guests` (a link there leads here), so that an installed powervisor can build too.
"""
