"""Traces: what the CPU was at exact instruction counts, to hold one run of a machine against another."""

from vmm.trace.compare import Difference, compare
from vmm.trace.format import Level, Trace, TraceError
from vmm.trace.record import Plan, check, record
from vmm.trace.records import Record

__all__ = ["Difference", "Level", "Plan", "Record", "Trace", "TraceError", "check", "compare", "record"]
