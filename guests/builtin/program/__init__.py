"""The built-in guest itself, in the native subset: compiled for PowerPC, never run by Python."""
