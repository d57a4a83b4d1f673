"""Paging: the guest's tables, their shadow, and memory by linear address."""

from vmm.mmu.mmu import MAPPED, STEP, TRACED, Mmu
from vmm.mmu.shadow import Space

__all__ = ["MAPPED", "STEP", "TRACED", "Mmu", "Space"]
