"""What a program sees of a machine: serial ports, keyboard, screen, memory, registers.

All of it is valid between runs and inside hooks.  Characters go in and out in guest time, that is, while
the machine runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devices.vga.text import read_screen
from translator import layout
from vmm.errors import ExitStatus, UsageError, VmmError
from vmm.expect import WINDOW, TextFilter
from vmm.physical import PhysicalMemory
from vmm.vcpu import VCpu

if TYPE_CHECKING:
    from PIL.Image import Image

    from vmm.machine import Machine
    from vmm.result import RunResult

KEPT = 1 << 20
"""Bytes of a serial port's output that are kept."""
SHOWN = 300


class NotSeen(VmmError):
    """What was expected did not come: ``result`` says how the run ended, ``text`` is what came instead."""

    status = ExitStatus.FAIL_ON

    def __init__(self, pattern: str, result: RunResult, text: str) -> None:
        super().__init__(f"{pattern!r} did not come: {result.reason}; the last that came was {text[-SHOWN:]!r}")
        self.result = result
        self.text = text


class SerialPort:
    """One serial port, from the other end of the line."""

    def __init__(self, machine: Machine, number: int) -> None:
        self._machine = machine
        self._number = number
        self.output = bytearray()
        """What the guest has sent, the last MiB of it."""
        self._filter = TextFilter()
        self._text = ""
        self._wanted: re.Pattern[str] | None = None
        self._match: re.Match[str] | None = None
        machine.frontend.on_serial[number] = self._receive

    def _receive(self, data: bytes) -> None:
        self.output += data
        if len(self.output) > 2 * KEPT:
            del self.output[:-KEPT]
        self._text += self._filter.feed(data)
        if self._wanted is None:
            if len(self._text) > 2 * KEPT:
                self._text = self._text[-KEPT:]
        elif self._search(max(len(self._text) - WINDOW, 0)):
            self._machine.pause(ExitStatus.OK, "what was expected has come")

    def _search(self, start: int) -> bool:
        assert self._wanted is not None
        match = self._wanted.search(self._text, start)
        if match is None:
            return False
        self._match, self._wanted = match, None
        self._text = self._text[match.end() :]
        return True

    def expect(self, pattern: str, timeout: float | None = None, max_insns: int | None = None) -> re.Match[str]:
        """Run until the guest has sent text that *pattern* matches, and return the match.

        The search begins where the last match ended.  *pattern* is a regular expression, ``re.MULTILINE``; it sees
        text without carriage returns and escape sequences, and of what comes while it waits at most the last 2,048
        characters at a time.  *timeout* is in seconds of wall time.

        Raises ``NotSeen`` if a limit or the end of the run comes first, ``KeyboardInterrupt`` on Ctrl-C.
        """
        self._wanted = re.compile(pattern, re.MULTILINE)
        self._match = None
        if not self._search(0):
            result = self._machine.run(max_insns=max_insns, timeout=timeout)
            self._wanted = None
            if self._match is None:
                if result.status == ExitStatus.INTERRUPTED:
                    raise KeyboardInterrupt
                raise NotSeen(pattern, result, self._text)
        match: re.Match[str] | None = self._match
        assert match is not None
        return match

    def send(self, data: str | bytes) -> None:
        """Type *data*: it arrives in guest time as the machine runs, no faster than the line."""
        self._machine.frontend.type(self._number, data.encode() if isinstance(data, str) else data)


class Keyboard:
    """The PS/2 keyboard."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def type(self, text: str) -> None:
        """Type *text*, with ``<enter>``, ``<f2>``, ``<ctrl-c>`` and the like for keys; in guest time, as it runs.

        Raises ``UsageError`` for what a US keyboard cannot type; nothing is typed then.
        """
        try:
            self._machine.frontend.press(text)
        except ValueError as error:
            raise UsageError(str(error)) from None


class Screen:
    """The VGA's screen."""

    def __init__(self, machine: Machine) -> None:
        self._vga = machine.board.vga

    def text(self) -> str:
        """The rows of the text screen, without trailing spaces; empty in a graphics mode."""
        screen = read_screen(self._vga)
        return "" if screen is None else screen.text()

    def image(self) -> Image:
        """A picture of the screen (Pillow, RGB), in any mode."""
        from devices.vga.image import picture

        return picture(self._vga)

    def save(self, path: str | Path) -> None:
        """Write ``image()`` to a file, in the format of its suffix."""
        self.image().save(path)


class GuestMemory:
    """Guest-physical memory: ``memory[a]`` is a byte, ``memory[a:b]`` bytes; both can be assigned.

    What is not there reads as ones and cannot be written, as for a bus master.
    """

    def __init__(self, physical: PhysicalMemory) -> None:
        self._physical = physical

    def __len__(self) -> int:
        """Bytes of RAM."""
        return self._physical.ram_size

    def _range(self, where: slice) -> tuple[int, int]:
        if where.step not in (None, 1):
            raise UsageError("memory is read and written without steps")
        start, stop = where.start or 0, len(self) if where.stop is None else where.stop
        if not 0 <= start <= stop <= 1 << 32:
            raise UsageError(f"memory[{start:#x}:{stop:#x}] is not a range of addresses below 4 GiB")
        return start, stop - start

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, slice):
            return self._physical.read(*self._range(where))
        return self._physical.read(self._address(where), 1)[0]

    def __setitem__(self, where: int | slice, value: int | bytes) -> None:
        if isinstance(where, slice):
            start, size = self._range(where)
            data = bytes(value) if not isinstance(value, int) else b""
            if len(data) != size:
                raise UsageError(f"{size} bytes of memory cannot become {len(data)}")
            self._physical.write(start, data)
        else:
            assert isinstance(value, int)
            self._physical.write(self._address(where), bytes((value,)))

    def _address(self, address: int) -> int:
        if not 0 <= address < 1 << 32:
            raise UsageError(f"memory[{address:#x}] is not an address below 4 GiB")
        return address


_GENERAL = {name: n for n, name in enumerate(("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"))}
_SEGMENTS = {"es": 0, "cs": 1, "ss": 2, "ds": 3, "fs": 4, "gs": 5, "ldtr": layout.LDTR, "tr": layout.TR}
_CONTROL = ("cr0", "cr2", "cr3", "cr4")


class Registers:
    """The CPU's registers by name.

    ``eax`` .. ``edi``, ``eip`` and ``eflags`` can be read and assigned; the selectors ``cs`` .. ``tr``, ``cr0`` ..
    ``cr4`` and ``cpl`` can be read.
    """

    _cpu: VCpu
    __slots__ = ("_cpu",)

    def __init__(self, cpu: VCpu) -> None:
        object.__setattr__(self, "_cpu", cpu)

    def __getattr__(self, name: str) -> int:
        cpu = self._cpu
        if name in _GENERAL:
            return cpu.gpr[_GENERAL[name]]
        if name in _SEGMENTS:
            return cpu.segments[_SEGMENTS[name]].selector
        if name in _CONTROL or name in ("eip", "eflags", "cpl"):
            return int(getattr(cpu, name))
        raise AttributeError(f"the CPU has no register {name!r}")

    def __setattr__(self, name: str, value: int) -> None:
        if name in _GENERAL:
            self._cpu.gpr[_GENERAL[name]] = value & 0xFFFF_FFFF
        elif name in ("eip", "eflags"):
            setattr(self._cpu, name, value)
        else:
            raise AttributeError(f"the register {name!r} cannot be assigned")

    def __dir__(self) -> list[str]:
        return [*_GENERAL, "eip", "eflags", *_SEGMENTS, *_CONTROL, "cpl"]
