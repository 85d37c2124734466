"""Access to special-purpose registers: who may, and what happens."""
from ..isa.cores import Core

def access_table(core: Core) -> bytes:
    return bytes(1024)
