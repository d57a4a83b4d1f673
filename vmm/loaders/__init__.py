"""Image loaders: from a file to a guest's first instruction.

``load`` recognises an image by its content, writes it into guest memory and returns an ``EntryState``;
``enter`` puts a ``VCpu`` into that state.  Everything malformed is an ``ImageError``.
"""

from vmm.loaders.entry import EntryState, Medium, SegmentState, enter
from vmm.loaders.image import Image
from vmm.loaders.load import load
from vmm.loaders.options import Kind, MemoryRange, Mode, Module, Options, pc_memory_map, read_modules
from vmm.loaders.placement import MemoryWriter
from vmm.loaders.recognise import recognise

__all__ = [
    "EntryState",
    "Image",
    "Kind",
    "Medium",
    "MemoryRange",
    "MemoryWriter",
    "Mode",
    "Module",
    "Options",
    "SegmentState",
    "enter",
    "load",
    "pc_memory_map",
    "read_modules",
    "recognise",
]
