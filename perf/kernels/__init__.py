"""Compute kernels for the comparison with other machines: freestanding C, no interrupts, no paging."""
