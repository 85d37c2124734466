"""Tier 1: hot code compiled by LLVM as regions of many blocks, with the guest's registers in SSA form."""
