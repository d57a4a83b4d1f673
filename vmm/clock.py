"""Guest time: retired instructions, each worth the same, and what passes without any."""

from __future__ import annotations

from typing import Final

ICOUNT: Final = 2
"""An instruction takes 2**ICOUNT nanoseconds if nothing else is said: 4, a little more than it takes the VMM itself.
The longer it takes, the more timer interrupts come for the same work; the shorter, the more work a delay is."""
MAX_ICOUNT: Final = 10
"""QEMU's greatest shift."""
