"""What the machine starts with: firmware, and what it is told, or a kernel without firmware."""

from __future__ import annotations

from pathlib import Path

from vmm import acpi, guests, loaders
from vmm.board import Board
from vmm.config import MachineConfig
from vmm.errors import ImageError
from vmm.loaders import Kind, linux
from vmm.media import PLACES
from vmm.physical import PhysicalMemory
from vmm.vcpu import VCpu

BIOS_BLOCK = 0x1_0000
BIOS_MAXIMUM = 16 << 20
FIRMWARE_MEMORY = 0x4_0000
"""The end of RAM, where SeaBIOS puts ACPI tables and the like: an initrd stays below."""
ACPI_TABLES, ACPI_RSDP = 0xF_0000, 0xF_FFE0
"""Where they are for a kernel without firmware: in what is the BIOS's otherwise."""
SMILE = bytes.fromhex("00007e81a58181bd9981817e00000000")
"""Character 01h of the VGA's font of 8 by 16 dots; 00h before it is empty."""
FONT_SIZE = 256 * 16
MULTIBOOT = (Kind.MULTIBOOT1, Kind.MULTIBOOT2)


class Boot:
    """Puts into memory what runs first.  *kind* is the image's, if that is known already.

    Raises ``ImageError`` or ``UsageError`` for what cannot be loaded.
    """

    def __init__(self, config: MachineConfig, kind: Kind | None, board: Board, physical: PhysicalMemory) -> None:
        self._config = config
        self._board = board
        self._physical = physical
        self._state: loaders.EntryState | None = None
        self._bios = config.bios
        image = config.kernel
        if image is None and kind not in PLACES:
            image = config.image
        if image is None:
            self._load_firmware()
            return
        with loaders.Image.open(image) as opened:
            self._load(opened, kind if image is config.image and kind else loaders.recognise(opened))

    @property
    def firmware(self) -> bool:
        """The machine has a BIOS, which a reset starts again."""
        return self._state is None

    def enter(self, cpu: VCpu) -> None:
        """Take the CPU and the chips, which were just reset, to the first instruction."""
        if self._state is not None:
            self._board.without_firmware(_font())
            loaders.enter(cpu, self._state)

    def _load(self, image: loaders.Image, kind: Kind) -> None:
        if kind is Kind.ROM:
            self._bios = self._config.bios or self._config.kernel or self._config.image
            self._load_firmware()
        elif kind is Kind.OPTION_ROM:
            self._board.fw_cfg.add_file("genroms/image.rom", image.tail(0, "the option ROM"))
            self._load_firmware()
        elif kind in PLACES:
            raise image.error(f"the file is a {kind.value} image, not a kernel: give it without -kernel")
        elif kind is Kind.LINUX and (self._config.bios is not None or not linux.parse(image).code32_start):
            self._load_by_option_rom(image)
            self._load_firmware()
        else:
            self._state = self._load_flat(image, kind)

    # Without firmware --------------------------------------------------------------------------------------

    def _load_flat(self, image: loaders.Image, kind: Kind) -> loaders.EntryState:
        tables = acpi.build(apic=self._config.apic)
        tables.place(self._physical, ACPI_TABLES, ACPI_RSDP)
        options = loaders.Options(
            append=self._config.append,
            initrd=b"" if kind in MULTIBOOT else self._initrd(),
            modules=self._modules() if kind in MULTIBOOT else (),
            rsdp=ACPI_RSDP,
            rsdp_data=tables.linked(ACPI_TABLES)[1],
        )
        return loaders.load(image, self._physical, self._config.memory, options)

    def _modules(self) -> tuple[loaders.Module, ...]:
        """One file, or as many as the notation of ``read_modules`` names."""
        initrd = self._config.initrd
        if initrd is None:
            return ()
        if initrd.exists():
            return (loaders.Module(self._initrd(), initrd.name),)
        return loaders.read_modules(str(initrd))

    def _initrd(self) -> bytes:
        if self._config.initrd is None:
            return b""
        with loaders.Image.open(self._config.initrd) as image:
            if image.size > self._config.memory:
                raise image.error(f"the initrd of {image.size} bytes does not fit into the guest's RAM")
            return image.tail(0, "the initrd")

    # With firmware -----------------------------------------------------------------------------------------

    def _load_by_option_rom(self, image: loaders.Image) -> None:
        """Let the BIOS start a bzImage by its real-mode entry."""
        header = linux.parse(image)
        data = image.tail(0, "the kernel")
        if header.code32_start:
            start, size = header.needs(len(data) - header.setup_size)
            if start + size > self._config.memory:
                raise image.error(
                    f"{linux.WHOLE} ({start:#x} to {start + size:#x}) does not fit the guest's RAM of "
                    f"{self._config.memory:#x} bytes"
                )
        top = self._config.memory - FIRMWARE_MEMORY
        rom = guests.path("linuxboot").read_bytes()
        try:
            self._board.fw_cfg.add_linux(data, self._initrd(), self._config.append.encode(), top, rom)
        except ValueError as error:
            raise image.error(str(error)) from None

    def _load_firmware(self) -> None:
        config, board = self._config, self._board
        board.load_bios(_read_bios(self._bios or guests.path("seabios")))
        vgabios = config.vgabios or guests.path("vgabios")
        board.fw_cfg.add_file("vgaroms/vgabios.bin", vgabios.read_bytes())
        acpi.build(apic=config.apic).add_to(board.fw_cfg)


def _font() -> bytes:
    """The video BIOS's characters, for pictures of the screen, if Debian's is at hand: it is not worth to fetch it."""
    found = guests.GuestStore().find("vgabios")
    if found is None:
        return b""
    rom = found.path.read_bytes()
    at = rom.find(bytes(16) + SMILE)
    return rom[at : at + FONT_SIZE] if at >= 0 else b""


def _read_bios(path: Path) -> bytes:
    size = path.stat().st_size
    if not 0 < size <= BIOS_MAXIMUM or size % BIOS_BLOCK:
        raise ImageError(f"-bios: {path} is {size} bytes long, not a multiple of 64K up to 16M")
    return path.read_bytes()
