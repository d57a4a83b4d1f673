"""ACPI tables for the PC that the devices make up."""

from vmm.acpi.dsdt import LEGACY_DEVICES, LegacyDevice
from vmm.acpi.tables import Image, build

__all__ = ["LEGACY_DEVICES", "Image", "LegacyDevice", "build"]
