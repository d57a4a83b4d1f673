"""ELF32 for the 386 (System V ABI): the segments and the entry point, by pyelftools' structures.

Only the file header and the program headers are read: section headers say nothing about loading, so
damaged ones do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from vmm.loaders.entry import EntryState, flat_gdt, flat_mode, registers
from vmm.loaders.image import Image
from vmm.loaders.options import Kind, Options
from vmm.loaders.placement import Placement, place_low

MAGIC = b"\x7fELF"
HEADER_SIZE = 52
PROGRAM_HEADER_SIZE = 32
MAX_PROGRAM_HEADERS = 256
"""No kernel has more than a dozen; a table of 65,535 would only cost time."""

CLASSES = {1: "32-bit", 2: "64-bit"}
ENCODINGS = {1: "little-endian", 2: "big-endian"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD program header: file range, virtual and physical address, size in memory."""

    offset: int
    file_size: int
    virtual: int
    physical: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class Program:
    """What an ELF file asks for; ``entry`` is physical."""

    entry: int
    segments: tuple[Segment, ...]


def parse(image: Image) -> Program:
    """Read the headers.  Raises ``ImageError`` for another class, byte order, machine or type and for bad sizes."""
    # Most runs start without an ELF file, and do not wait for these.
    from elftools.common.exceptions import ELFError
    from elftools.common.utils import struct_parse
    from elftools.elf.structs import ELFStructs

    if image.head(len(MAGIC)) != MAGIC:
        raise image.error("the file is not an ELF file")
    identification = image.read(0, HEADER_SIZE, "the ELF header")
    if (elf_class := identification[4]) != 1:
        raise image.error(f"the ELF file is {CLASSES.get(elf_class, f'of unknown class {elf_class}')}, not 32-bit")
    if (encoding := identification[5]) != 1:
        raise image.error(
            f"the ELF file is {ENCODINGS.get(encoding, f'of unknown byte order {encoding}')}, not little-endian"
        )
    structs = ELFStructs(little_endian=True, elfclass=32)
    structs.create_basic_structs()
    try:
        header = struct_parse(structs.Elf_Ehdr, BytesIO(identification))
    except ELFError:
        raise image.error("the ELF header cannot be read") from None
    if header["e_machine"] != "EM_386":
        raise image.error(f"the ELF file is for another machine ({header['e_machine']}), not for the 386")
    if header["e_type"] != "ET_EXEC":
        raise image.error(f"the ELF file is no executable with fixed addresses ({header['e_type']})")
    count, entry_size = header["e_phnum"], header["e_phentsize"]
    if not count:
        raise image.error("the ELF file has no program headers")
    if count > MAX_PROGRAM_HEADERS:
        raise image.error(f"the ELF file has {count} program headers, more than {MAX_PROGRAM_HEADERS}")
    if entry_size < PROGRAM_HEADER_SIZE:
        raise image.error(f"the ELF program headers are of {entry_size} bytes, less than {PROGRAM_HEADER_SIZE}")
    table = image.read(header["e_phoff"], count * entry_size, "the table of program headers")
    structs.create_advanced_structs(header["e_type"], header["e_machine"])
    segments = []
    for n in range(count):
        row = struct_parse(structs.Elf_Phdr, BytesIO(table[n * entry_size :][:PROGRAM_HEADER_SIZE]))
        if row["p_type"] != "PT_LOAD" or not row["p_memsz"]:
            continue
        if row["p_filesz"] > row["p_memsz"]:
            raise image.error(f"ELF segment {n} has more bytes in the file than in memory")
        segments.append(Segment(row["p_offset"], row["p_filesz"], row["p_vaddr"], row["p_paddr"], row["p_memsz"]))
    if not segments:
        raise image.error("the ELF file has no segment to load")
    return Program(physical_entry(image, header["e_entry"], segments), tuple(segments))


def physical_entry(image: Image, entry: int, segments: list[Segment]) -> int:
    """The entry point is virtual: find its segment and take that one's physical address."""
    for address in ("virtual", "physical"):
        for segment in segments:
            start: int = getattr(segment, address)
            if start <= entry < start + segment.memory_size:
                return entry - start + segment.physical
    raise image.error(f"the entry point {entry:#x} is outside all ELF segments")


def claim_segments(image: Image, program: Program, placement: Placement) -> None:
    """Plan all segments.  Raises ``ImageError`` if one is truncated, outside RAM or overlaps another."""
    for n, segment in enumerate(program.segments):
        what = f"ELF segment {n}"
        placement.reserve(segment.physical, segment.memory_size, what)
        placement.fill(segment.physical, image.read(segment.offset, segment.file_size, what), segment.memory_size)


def load(image: Image, placement: Placement, options: Options) -> EntryState:
    """An ELF32 executable without a multiboot header: flat protected mode, registers 0, a stack below 7C00h."""
    program = parse(image)
    claim_segments(image, program, placement)
    gdt = place_low(placement, flat_gdt(8, 16), "the GDT")
    return flat_mode(Kind.ELF32, program.entry, registers(esp=0x7C00), gdt=gdt)
