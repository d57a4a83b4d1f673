"""ATA channels with hard disks and CD-ROM drives."""

from devices.ide.cdrom import Cdrom
from devices.ide.channel import PRIMARY, SECONDARY, IdeChannel
from devices.ide.disk import AtaDisk, Geometry, default_geometry
from devices.ide.drive import Drive

__all__ = ["PRIMARY", "SECONDARY", "AtaDisk", "Cdrom", "Drive", "Geometry", "IdeChannel", "default_geometry"]
