"""Functions of the user's that are called when something happens in the machine.

What nobody asked for costs nothing: a hook is put where the event is made when it is installed, and taken out
when it is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from translator.decode import Insn
from vmm.callouts import HANDLERS, Handler
from vmm.errors import UsageError
from vmm.portspace import PortSpace
from vmm.vcpu import VCpu

if TYPE_CHECKING:
    from vmm.machine import Machine

Hook = Callable[..., None]
Remover = Callable[[], None]

OUTPUTS = ("serial0", "serial1", "serial2", "serial3", "debugcon", "bios", "screen")
EVENTS = (
    "callout.NAME",
    "port.read",
    "port.write",
    "reset",
    *(f"output.{source}" for source in OUTPUTS),
)
"""``callout.cpuid`` and the like: ``f(vm, insn)`` before the VMM emulates that instruction (names: ``vmm rules``);
emitted code does without the VMM what it can, but not accesses to ports that somebody hooks;
``port.read``, ``port.write``: ``f(vm, port, size, value)`` after an access; ``reset``: ``f(vm)`` before the machine
starts again; ``output.SOURCE``: ``f(vm, data)``, bytes, of the screen text."""

_originals: dict[str, Handler] = {}
_callout_hooks: dict[str, list[tuple[VCpu, Callable[[Insn], None]]]] = {}
"""The table of handlers serves all machines: the hooks of one instruction are told apart by the CPU."""


def _hook_callout(name: str, cpu: VCpu, call: Callable[[Insn], None]) -> Remover:
    hooks = _callout_hooks.setdefault(name, [])
    if not hooks:
        original = _originals[name] = HANDLERS[name]

        def hooked(cpu: VCpu, insn: Insn) -> None:
            for owner, hook in tuple(hooks):
                if owner is cpu:
                    hook(insn)
            original(cpu, insn)

        HANDLERS[name] = hooked
    entry = (cpu, call)
    hooks.append(entry)

    def remove() -> None:
        hooks.remove(entry)
        if not hooks:
            HANDLERS[name] = _originals.pop(name)

    return remove


class _WatchedPorts(PortSpace):
    """The ports, with somebody who looks on."""

    def __init__(self, ports: PortSpace, hooks: dict[str, list[Hook]], machine: Machine) -> None:
        self.ports = ports
        self._hooks = hooks
        self._machine = machine

    def read(self, port: int, size: int) -> int:
        value = self.ports.read(port, size)
        for hook in tuple(self._hooks.get("port.read", ())):
            hook(self._machine, port, size, value)
        return value

    def write(self, port: int, size: int, value: int) -> None:
        self.ports.write(port, size, value)
        for hook in tuple(self._hooks.get("port.write", ())):
            hook(self._machine, port, size, value)


class Hooks:
    """The hooks of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._hooks: dict[str, list[Hook]] = {}
        self._removers: list[Remover] = []
        self._seeing = 0
        """How many hooks see all accesses to ports."""

    def on(self, event: str, hook: Hook) -> Remover:
        """Call *hook* whenever *event* (one of ``EVENTS``) happens; returns what removes it again.

        Raises ``UsageError`` for an unknown event.
        """
        kind, _, rest = event.partition(".")
        if kind == "callout" and rest in HANDLERS:
            remove = _hook_callout(rest, self._machine.engine.cpu, lambda insn: hook(self._machine, insn))
            if rest in ("in_imm", "out_imm"):
                remove = _both(remove, self._see_ports())
        elif event == "reset":
            remove = self._add(event, hook)
        elif event in ("port.read", "port.write"):
            remove = _both(self._add(event, hook), self._see_ports())
        elif kind == "output" and rest in OUTPUTS:
            remove = self._listen(rest, hook)
        else:
            raise UsageError(f"there is no event {event!r}; there are {', '.join(EVENTS)}")
        self._removers.append(remove)

        def remove_once() -> None:
            if remove in self._removers:
                self._removers.remove(remove)
                remove()

        return remove_once

    def call(self, event: str, *arguments: Any) -> None:
        """The event has happened."""
        for hook in tuple(self._hooks.get(event, ())):
            hook(self._machine, *arguments)

    def close(self) -> None:
        """Remove all."""
        while self._removers:
            self._removers.pop()()

    def _add(self, event: str, hook: Hook) -> Remover:
        hooks = self._hooks.setdefault(event, [])
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def _see_ports(self) -> Remover:
        """Let no access to a port pass unseen until the remover is called."""
        cpu = self._machine.engine.cpu
        if not self._seeing:
            cpu.ports = _WatchedPorts(cpu.ports, self._hooks, self._machine)
        self._seeing += 1

        def remove() -> None:
            self._seeing -= 1
            if not self._seeing:
                assert isinstance(cpu.ports, _WatchedPorts)
                cpu.ports = cpu.ports.ports

        return remove

    def _listen(self, source: str, hook: Hook) -> Remover:
        listeners = self._machine.frontend.listeners

        def listener(where: str, data: bytes | str) -> None:
            if where == source:
                hook(self._machine, data)

        listeners.append(listener)
        return lambda: listeners.remove(listener)


def _both(first: Remover, second: Remover) -> Remover:
    def remove() -> None:
        first()
        second()

    return remove
