"""The virtual machine monitor: ``from vmm import Machine``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmm.api import NotSeen
    from vmm.config import Channel, DebugExit, Drive, MachineConfig, Step
    from vmm.errors import ExitStatus, ImageError, Unsupported, UsageError, VmmError
    from vmm.machine import Machine
    from vmm.result import RunResult

_HOMES = {
    "Machine": "vmm.machine",
    "NotSeen": "vmm.api",
    "RunResult": "vmm.result",
    **dict.fromkeys(("Channel", "DebugExit", "Drive", "MachineConfig", "Step"), "vmm.config"),
    **dict.fromkeys(("ExitStatus", "ImageError", "Unsupported", "UsageError", "VmmError"), "vmm.errors"),
}
"""The module of each public name: it is imported when the name is used, because the engine is heavy."""

__all__ = [
    "Channel",
    "DebugExit",
    "Drive",
    "ExitStatus",
    "ImageError",
    "Machine",
    "MachineConfig",
    "NotSeen",
    "RunResult",
    "Step",
    "Unsupported",
    "UsageError",
    "VmmError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
