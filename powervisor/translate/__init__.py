"""Entries to native code: stencils, the block translator, the engine; and the oracle."""
