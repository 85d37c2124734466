"""Native functions that Python or other native code calls by address."""

from __future__ import annotations

from ..native.lang import NativeFunction
from ..vcpu import codemap, fpscr, inspect, locks, mmu, modes, spr_access, timers
from . import dispatch

EXPORTS: dict[str, NativeFunction] = {
    "step": dispatch.step,
    "update_mode": modes.update_mode,
    "reset_contexts": modes.reset_contexts,
    "drop_range": codemap.drop_range,
    "reserve_code": codemap.reserve_code,
    "publish_code": codemap.publish_code,
    "watch_code": codemap.watch_code,
    "wake": locks.wake,
    "forget_all": mmu.forget_all,
    "check_timers": timers.check_timers,
    "debug_address": inspect.debug_address,
    "settle": fpscr.settle_outside,
    "read_spr": spr_access.read_spr,
    "write_spr": spr_access.write_spr,
}
