"""Guests without an operating system for what grows, and for the disk: linked to the runtime of the compute kernels."""
