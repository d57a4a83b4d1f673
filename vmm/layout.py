"""Guest-physical addresses of the PC."""

from typing import Final

VGA_WINDOW: Final = 0xA_0000
"""The display's window, 128 KiB."""
VGA_WINDOW_SIZE: Final = 0x2_0000
SHADOW: Final = 0xC_0000
"""Option ROMs and the BIOS, or the RAM behind them, as the host bridge's PAM registers say; to 1 MiB."""
SHADOW_SIZE: Final = 0x4_0000
BIOS_WINDOW: Final = 0xE_0000
"""The last 128 KiB of the BIOS below 1 MiB."""
BIOS_END: Final = 0x1_0000_0000
"""The BIOS ends at 4 GiB."""
MEBIBYTE: Final = 0x10_0000
