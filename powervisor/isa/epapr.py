"""Hypercalls of ePAPR 1.1 and of KVM: tokens (r11), statuses (r3), and what one call carries."""

from __future__ import annotations

_EPAPR, _KVM = 1 << 16, 42 << 16


class Hcall:
    """Tokens: vendor << 16 | the vendor's number for the call. Comments: arguments (r3, ...) -> results (r4, ...)."""

    BYTE_CHANNEL_SEND = _EPAPR | 1  # handle, count, 16 bytes in four words -> count
    BYTE_CHANNEL_RECEIVE = _EPAPR | 2  # handle, count -> count, 16 bytes in four words
    BYTE_CHANNEL_POLL = _EPAPR | 3  # handle -> bytes to receive, room to send
    DOORBELL_SEND = _EPAPR | 14  # handle
    MSGSND = _EPAPR | 15  # message, as of the msgsnd instruction
    IDLE = _EPAPR | 16
    KVM_FEATURES = _KVM | 3  # -> a bit for each feature


class Status:
    """What a call returns in r3."""

    SUCCESS = 0
    EAGAIN = 4  # nothing could be done now
    EINVAL = 8  # an argument: no such handle, or a count out of range
    UNIMPLEMENTED = 12


INSTRUCTIONS = (0x4400_0022, 0x6000_0000, 0x6000_0000, 0x6000_0000)
"""sc 1 and three nops: the call itself, which a guest puts into its code (hcall-instructions)."""
MOST_BYTES = 16
"""Bytes that one call sends or receives."""
