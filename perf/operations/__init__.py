"""Guests of the nanobenchmarks: one operation, many times, in a loop."""
