"""``python -m perf``: all comparisons, one after the other."""

from __future__ import annotations

import sys

from perf import boots, compute

if __name__ == "__main__":
    sys.exit(compute.main([]) or boots.main([]))
