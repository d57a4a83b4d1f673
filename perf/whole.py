"""Peers of which only a whole process can be timed: their kernels are over when they have printed a line on COM1."""

from __future__ import annotations

import re
import statistics
import tempfile
from pathlib import Path

from perf.kernels.build import EMPTY, build
from perf.peer import RAM, SECONDS, Job, PeerError, Run, System, converse

RESULT = r"([a-z0-9]+ )?(?<![0-9a-f])[0-9a-f]{8}$"
"""The line of a kernel of ours; before it, on the same line, may be what a boot loader left."""
STARTS = 3
"""Runs of the empty kernel, whose median is what a start takes."""


class Whole:
    """Gives a ``System`` the method ``run`` of a ``Peer``."""

    def __init__(self) -> None:
        self._starts: list[float] = []

    def run(self, kernel: Path, memory: int = RAM) -> Run:
        """Run the multiboot image *kernel*: seconds less those of the empty one.  Raises ``PeerError``."""
        if len(self._starts) < STARTS:
            self._starts.append(self._wall(build(EMPTY), RAM).seconds)
        run = self._wall(kernel, memory)
        return Run(max(run.seconds - statistics.median(self._starts), 0.001), run.output)

    def _wall(self, kernel: Path, memory: int) -> Run:
        assert isinstance(self, System)
        with tempfile.TemporaryDirectory() as folder:
            line = converse(
                self, Job(kernel, memory=memory >> 20, multiboot=True), RESULT, Path(folder), SECONDS
            ).lines[-1]
        found = re.search(RESULT, line.text)
        if found is None:
            raise PeerError(f"{self.name} printed {line.text!r}")
        return Run(line.at, found[0])
