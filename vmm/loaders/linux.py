"""The Linux/x86 boot protocol 2.x (Documentation/arch/x86/boot.rst and zero-page.rst).

``load`` enters the kernel's 32-bit entry point without a BIOS, with the boot parameters ("zero page") filled in
here.  With a BIOS an option ROM starts the kernel by its real-mode entry point (``FwCfg.add_linux``).
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack, pack_into, unpack_from

from vmm.loaders.entry import EntryState, flat_gdt, flat_mode, registers
from vmm.loaders.image import Image
from vmm.loaders.options import EBDA_BASE, HIGH_RAM_BASE, USABLE, Kind, MemoryRange, Options, encode_text
from vmm.loaders.placement import LOW_AREA, Placement, place_low

SECTOR = 512
PAGE = 0x1000
DEFAULT_SETUP_SECTORS = 4
HDRS = b"HdrS"
AT_HDRS = 0x202
BOOT_CS, BOOT_DS = 0x10, 0x18
"""__BOOT_CS and __BOOT_DS of the 32-bit boot protocol."""
BOOT_PARAMS_SIZE = 0x1000
OLDEST_VERSION = 0x0202
OLD_COMMAND_LINE_SIZE = 255
OLD_INITRD_ADDR_MAX = 0x37FF_FFFF
LOADER_UNDEFINED = 0xFF
"""type_of_loader of a loader without an assigned number."""
LOADED_HIGH = 0x01
MAX_E820 = 128
WHOLE = "the kernel with the memory it needs to start"

# Offsets in the file's setup header and in the boot parameters alike.
AT_SETUP_SECTS, AT_SYSSIZE, AT_VID_MODE, AT_BOOT_FLAG, AT_JUMP, AT_VERSION = 0x1F1, 0x1F4, 0x1FA, 0x1FE, 0x200, 0x206
AT_TYPE_OF_LOADER, AT_LOADFLAGS, AT_CODE32_START, AT_RAMDISK = 0x210, 0x211, 0x214, 0x218
AT_CMD_LINE_PTR, AT_INITRD_ADDR_MAX, AT_KERNEL_ALIGNMENT = 0x228, 0x22C, 0x230
AT_RELOCATABLE, AT_CMDLINE_SIZE, AT_PREF_ADDRESS, AT_INIT_SIZE = 0x234, 0x238, 0x258, 0x260
HEADER_LIMIT = 0x290
"""The boot parameters have no room for a longer header."""

# Offsets in the boot parameters alone.
AT_ACPI_RSDP, AT_ALT_MEM_K, AT_E820_ENTRIES, AT_E820_TABLE = 0x070, 0x1E0, 0x1E8, 0x2D0

SCREEN_INFO = pack("<BBHHBBBxHHBBH", 0, 0, 0, 0, 3, 80, 0, 3, 0, 25, 1, 16)
"""VGA text mode 3: cursor at the top left, page 0, 80 columns, EGA BX of a 256 KiB colour card, 25 lines, VGA, 16 scan
lines a character."""
AT_EXT_MEM_K = 0x002


@dataclass(frozen=True, slots=True)
class SetupHeader:
    """The setup header of a bzImage, with defaults for what its version lacks."""

    version: int
    setup_size: int
    """Bytes of the boot sector and the setup code: the protected-mode kernel follows."""
    header_end: int
    loadflags: int
    code32_start: int
    initrd_addr_max: int
    """The highest address that the initrd's last byte may have."""
    kernel_alignment: int
    relocatable: bool
    command_line_size: int
    """The longest command line, without its NUL."""
    pref_address: int
    init_size: int
    """Bytes of RAM from the load address that the kernel needs before it reads the memory map; 0 is not told."""

    def needs(self, payload: int) -> tuple[int, int]:
        """Where a protected-mode kernel of *payload* bytes wants to be, and how much RAM it needs from there on."""
        return self.pref_address if self.relocatable else self.code32_start, max(self.init_size, payload)


def parse(image: Image) -> SetupHeader:
    """Read and check the setup header.  Raises ``ImageError`` for a kernel that is too old or cut short."""
    data = image.read(0, 2 * SECTOR, "the setup header")
    if data[AT_HDRS : AT_HDRS + 4] != HDRS or data[AT_BOOT_FLAG : AT_BOOT_FLAG + 2] != b"\x55\xaa":
        raise image.error("the file is no Linux kernel")
    (version,) = unpack_from("<H", data, AT_VERSION)
    if version < OLDEST_VERSION:
        raise image.error(f"the kernel's boot protocol {version >> 8}.{version & 0xFF:02} is older than 2.02")
    loadflags = data[AT_LOADFLAGS]
    if not loadflags & LOADED_HIGH:
        raise image.error("the kernel is a zImage, which loads below 1 MiB; only bzImages are supported")
    setup_size = ((data[AT_SETUP_SECTS] or DEFAULT_SETUP_SECTORS) + 1) * SECTOR
    if image.size <= setup_size:
        raise image.error(
            f"the kernel is truncated: the setup code alone is {setup_size:#x} bytes, the file {image.size:#x}"
        )
    size_format = "<I" if version >= 0x0204 else "<H"
    needed = unpack_from(size_format, data, AT_SYSSIZE)[0] * 16
    if image.size - setup_size + 15 < needed:
        raise image.error(
            f"the kernel is truncated: it says {setup_size + needed:#x} bytes, the file has {image.size:#x}"
        )

    def field(since: int, form: str, at: int, default: int) -> int:
        return int(unpack_from(form, data, at)[0]) if version >= since else default

    code32_start = field(0x0200, "<I", AT_CODE32_START, HIGH_RAM_BASE)
    alignment = field(0x0205, "<I", AT_KERNEL_ALIGNMENT, 1) or 1  # iPXE, which is no kernel, leaves it 0
    if alignment & alignment - 1:
        raise image.error(f"the kernel's alignment {alignment:#x} is no power of two")
    return SetupHeader(
        version=version,
        setup_size=setup_size,
        header_end=min(AT_HDRS + data[AT_JUMP + 1], HEADER_LIMIT),
        loadflags=loadflags,
        code32_start=code32_start,
        initrd_addr_max=field(0x0203, "<I", AT_INITRD_ADDR_MAX, OLD_INITRD_ADDR_MAX),
        kernel_alignment=alignment,
        relocatable=bool(field(0x0205, "<B", AT_RELOCATABLE, 0)),
        command_line_size=field(0x0206, "<I", AT_CMDLINE_SIZE, OLD_COMMAND_LINE_SIZE),
        pref_address=field(0x020A, "<Q", AT_PREF_ADDRESS, code32_start),
        init_size=field(0x020A, "<I", AT_INIT_SIZE, 0),
    )


def encode_command_line(image: Image, header: SetupHeader, options: Options) -> bytes:
    """The command line with its NUL.  Raises ``ImageError`` if the kernel has no room for it."""
    line = encode_text(options.append, "the command line")
    if len(line) - 1 > header.command_line_size:
        raise image.error(f"the command line is {len(line) - 1} bytes, the kernel takes {header.command_line_size}")
    return line


def place_initrd(placement: Placement, header: SetupHeader, initrd: bytes) -> int:
    """The initrd goes as high as the kernel and RAM allow, on a page boundary; 0 if there is none."""
    if not initrd:
        return 0
    high = min(header.initrd_addr_max + 1, 1 << 32)
    return placement.place(initrd, "the initrd", align=PAGE, low=HIGH_RAM_BASE, high=high, top=True)


def load(image: Image, placement: Placement, options: Options) -> EntryState:
    """The 32-bit entry point with ESI at the boot parameters (boot.rst, "32-bit Boot Protocol").

    Raises ``ImageError`` if there is none (iPXE): such an image needs firmware.
    """
    header = parse(image)
    if not header.code32_start:
        raise image.error("the kernel has only a real-mode entry point, which needs firmware")
    line = encode_command_line(image, header, options)
    payload = image.tail(header.setup_size, "the protected-mode kernel")
    address, size = header.needs(len(payload))
    if address % header.kernel_alignment and header.relocatable:
        raise image.error(f"the kernel's preferred address {address:#x} is not aligned to {header.kernel_alignment:#x}")
    placement.reserve(address, size, WHOLE)
    placement.fill(address, payload)
    initrd = place_initrd(placement, header, options.initrd)
    gdt = place_low(placement, flat_gdt(BOOT_CS, BOOT_DS), "the GDT")
    command_line = place_low(placement, line, "the command line")
    params = boot_params(image, header, placement.memory_map)
    pack_into("<Q", params, AT_ACPI_RSDP, options.rsdp)
    pack_into("<I", params, AT_CODE32_START, address)
    pack_into("<II", params, AT_RAMDISK, initrd, len(options.initrd))
    pack_into("<I", params, AT_CMD_LINE_PTR, command_line)
    at = placement.place(bytes(params), "the boot parameters", align=PAGE, low=LOW_AREA, high=EBDA_BASE, top=True)
    return flat_mode(Kind.LINUX, address, registers(esi=at, esp=at), gdt=gdt, code=BOOT_CS, data=BOOT_DS)


def boot_params(image: Image, header: SetupHeader, memory_map: tuple[MemoryRange, ...]) -> bytearray:
    """The zero page without addresses: the setup header, the screen and the memory map."""
    params = bytearray(BOOT_PARAMS_SIZE)
    params[AT_SETUP_SECTS : header.header_end] = image.read(0, HEADER_LIMIT, "the setup header")[
        AT_SETUP_SECTS : header.header_end
    ]
    params[: len(SCREEN_INFO)] = SCREEN_INFO
    params[AT_TYPE_OF_LOADER] = LOADER_UNDEFINED
    pack_into("<H", params, AT_VID_MODE, 0xFFFF)
    rows = memory_map[:MAX_E820]
    params[AT_E820_ENTRIES] = len(rows)
    for n, row in enumerate(rows):
        pack_into("<QQI", params, AT_E820_TABLE + 20 * n, row.base, row.size, row.type)
    extended = sum(row.size >> 10 for row in rows if row.type == USABLE and row.base == HIGH_RAM_BASE)
    pack_into("<H", params, AT_EXT_MEM_K, min(extended, 0xFFFF))
    pack_into("<I", params, AT_ALT_MEM_K, extended)
    return params
