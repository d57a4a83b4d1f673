"""The display: an IBM VGA with the Bochs VBE extensions (DISPI), its text screen and its pictures."""

from devices.vga.core import Vga, Window

__all__ = ["Vga", "Window"]
