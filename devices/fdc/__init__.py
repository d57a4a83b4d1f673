"""82077AA floppy controller, its drives and the formats of their diskettes."""

from devices.fdc.controller import Fdc
from devices.fdc.formats import FORMATS, Drive, Format, format_of

__all__ = ["FORMATS", "Drive", "Fdc", "Format", "format_of"]
