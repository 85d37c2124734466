"""Native functions that Python or other native code calls by address."""

from __future__ import annotations

from ..native.lang import NativeFunction
from ..vcpu import codemap, locks, mmu, modes
from . import dispatch

EXPORTS: dict[str, NativeFunction] = {
    "step": dispatch.step,
    "update_mode": modes.update_mode,
    "drop_range": codemap.drop_range,
    "reserve_code": codemap.reserve_code,
    "publish_code": codemap.publish_code,
    "wake": locks.wake,
    "forget_all": mmu.forget_all,
}
