"""Intel 82441FX (PMC), the host bridge of the i440FX at 00:00.0, as QEMU's `pc` machine shows it.

Source: 82441FX datasheet, 3.2.19 (PAM) and 3.2.21 (SMRAM).  The DRAM rows and timings are plain bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from devices.pci import PciFunction, config_space

PAM0 = 0x59
PAM6 = 0x5F
SMRAM = 0x72

PAM_READ = 1
PAM_WRITE = 2

PAM_REGIONS: tuple[tuple[int, int, int, int], ...] = (
    (PAM0, 4, 0xF_0000, 0x1_0000),
    *(
        (PAM0 + 1 + n // 2, 4 * (n % 2), 0xC_0000 + 0x4000 * n, 0x4000)
        for n in range(12)  # C0000h..EFFFFh, two 16-KiB regions a register
    ),
)
"""(register, shift of its two bits, physical address, bytes) of each region with attributes of its own."""

SMRAM_C_BASE_SEG = 0x02
"""Bits 2..0, read only: the SMM space is A0000h..BFFFFh."""
SMRAM_G_SMRAME = 0x08
SMRAM_D_LCK = 0x10
SMRAM_D_CLS = 0x20
SMRAM_D_OPEN = 0x40


class I440fx(PciFunction):
    """The host bridge: it says where reads and writes of C0000h..FFFFFh and A0000h..BFFFFh go.

    ``on_pam(address, size, read_enable, write_enable)`` hears of every region (a row of ``PAM_REGIONS``) whose
    attributes change: with *read_enable* reads come from DRAM, else from the ROM or bus below; likewise writes.
    ``on_smram(open)`` hears whether A0000h..BFFFFh is DRAM (true) or the display's.  After power-on no region is
    enabled and SMRAM is closed.
    """

    name = "i440fx"
    config_reset: ClassVar[bytes] = config_space(
        0x8086, 0x1237, 0x060000, revision=2, registers={0x57: 0x10, SMRAM: SMRAM_C_BASE_SEG}
    )

    def __init__(
        self,
        on_pam: Callable[[int, int, bool, bool], None] = lambda address, size, read_enable, write_enable: None,
        on_smram: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        super().__init__(0)
        self.on_pam = on_pam
        self.on_smram = on_smram
        self._attributes = [0] * len(PAM_REGIONS)
        self._smram_open = False

    def config_written(self, before: bytes) -> None:
        old, new = before[SMRAM], self.state.config[SMRAM] & ~7 | SMRAM_C_BASE_SEG
        if old & SMRAM_D_LCK:
            frozen = SMRAM_D_LCK | SMRAM_D_OPEN | SMRAM_G_SMRAME
            new = new & ~frozen | old & frozen
        elif new & SMRAM_D_LCK:
            new &= ~SMRAM_D_OPEN
        self.state.config[SMRAM] = new

    def follow(self) -> None:
        super().follow()
        config = self.state.config
        for n, (register, shift, address, size) in enumerate(PAM_REGIONS):
            attributes = config[register] >> shift & (PAM_READ | PAM_WRITE)
            if attributes != self._attributes[n]:
                self._attributes[n] = attributes
                self.on_pam(address, size, bool(attributes & PAM_READ), bool(attributes & PAM_WRITE))
        smram = config[SMRAM]
        is_open = smram & (SMRAM_G_SMRAME | SMRAM_D_OPEN | SMRAM_D_CLS) == SMRAM_G_SMRAME | SMRAM_D_OPEN
        if is_open is not self._smram_open:
            self._smram_open = is_open
            self.on_smram(is_open)
