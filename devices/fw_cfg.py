"""QEMU's firmware configuration device: what the VMM tells the firmware and the option ROMs.

Source: QEMU's docs/specs/fw_cfg.rst.  Keys below 20h are fixed; files have keys from 20h on and a directory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from devices.backends import Memory
from devices.core import Device, Ports

SELECTOR = 0x510
DATA = 0x511
DMA_ADDRESS = 0x514
"""A big-endian 64-bit address: the upper half at 514h, the lower, which starts the transfer, at 518h."""
DMA_SIGNATURE = b"QEMU CFG"

SIGNATURE = 0x00
ID = 0x01
UUID = 0x02
RAM_SIZE = 0x03
NOGRAPHIC = 0x04
NB_CPUS = 0x05
KERNEL_ADDR = 0x07
KERNEL_SIZE = 0x08
INITRD_ADDR = 0x0A
INITRD_SIZE = 0x0B
BOOT_DEVICE = 0x0C
NUMA = 0x0D
BOOT_MENU = 0x0E
MAX_CPUS = 0x0F
KERNEL_ENTRY = 0x10
KERNEL_DATA = 0x11
INITRD_DATA = 0x12
CMDLINE_ADDR = 0x13
CMDLINE_SIZE = 0x14
CMDLINE_DATA = 0x15
SETUP_ADDR = 0x16
SETUP_SIZE = 0x17
SETUP_DATA = 0x18
FILE_DIR = 0x19
FILE_FIRST = 0x20
ACPI_TABLES = 0x8000
SMBIOS_ENTRIES = 0x8001
IRQ0_OVERRIDE = 0x8002
"""Keys; 8000h and up are the PC's own."""

WRITE_CHANNEL = 0x4000
"""A bit of the selector that once chose writing and means nothing now."""
FILE_SLOTS = 0x1000
NAME_SIZE = 56

ID_TRADITIONAL = 1
ID_DMA = 2

DMA_ERROR = 0x01
DMA_READ = 0x02
DMA_SKIP = 0x04
DMA_SELECT = 0x08
DMA_WRITE = 0x10

ZEROS = bytes(1 << 20)
"""What lies behind the end of an item, a piece at a time."""
REACH = 1 << 32
"""Transfers end below this physical address."""

E820_RAM = 1
E820_RESERVED = 2

LOW_RAM = 0xA_0000
REAL_ADDR = 0x1_0000
CMDLINE_AT = 0x2_0000
PROTECTED_ADDR = 0x10_0000
"""Where the Linux boot ROM puts the setup code, the command line and the kernel proper."""


@dataclass
class FwCfgState:
    """The selected item, how far it was read, and the DMA address as written so far."""

    key: int = SIGNATURE
    offset: int = 0
    dma_high: int = 0


class FwCfg(Device):
    """The selector, data and DMA ports over a table of items.

    The items are backend, not state: ``add`` and ``add_file`` before the machine starts.
    """

    name = "fw_cfg"
    state: FwCfgState

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.items: dict[int, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.state = FwCfgState()
        self.add(SIGNATURE, b"QEMU")
        self.add(ID, struct.pack("<I", ID_TRADITIONAL | ID_DMA))
        self._list_files()

    # Items ---------------------------------------------------------------------------------------
    def add(self, key: int, data: bytes) -> None:
        """Give a fixed *key* its bytes.  Raises ``ValueError`` for a key that is the files'."""
        if FILE_DIR <= key < 0x8000 or not 0 <= key <= 0xFFFF or key & WRITE_CHANNEL:
            raise ValueError(f"fw_cfg key {key:#x} is not a fixed one")
        self.items[key] = data

    def add_int(self, key: int, size: int, value: int) -> None:
        """Give a fixed *key* a little-endian integer of *size* bytes."""
        self.add(key, value.to_bytes(size, "little"))

    def add_file(self, name: str, data: bytes) -> None:
        """Offer a file, or replace it.

        Raises ``ValueError`` if the name is not 1 to 55 ASCII characters or the directory is full.
        """
        if not (name and name.isascii() and "\0" not in name and len(name) < NAME_SIZE):
            raise ValueError(f"{name!r} is no fw_cfg file name of 1 to {NAME_SIZE - 1} ASCII characters")
        if name not in self.files and len(self.files) >= FILE_SLOTS:
            raise ValueError(f"fw_cfg holds no more than {FILE_SLOTS} files")
        self.files[name] = data
        self._list_files()

    def _list_files(self) -> None:
        directory = bytearray(struct.pack(">I", len(self.files)))
        for key, name in enumerate(sorted(self.files), FILE_FIRST):
            self.items[key] = self.files[name]
            directory += struct.pack(f">IHH{NAME_SIZE}s", len(self.files[name]), key, 0, name.encode("ascii"))
        self.items[FILE_DIR] = bytes(directory)

    def add_machine(self, ram_size: int, cpus: int = 1, *, boot_menu: bool = False) -> None:
        """The items that describe the machine: RAM (bytes), processors, e820 map, sleep states."""
        self.add_int(RAM_SIZE, 8, ram_size)
        self.add_int(NOGRAPHIC, 2, 0)
        self.add_int(NB_CPUS, 2, cpus)
        self.add_int(MAX_CPUS, 2, cpus)
        self.add_int(BOOT_MENU, 2, boot_menu)
        self.add_int(UUID, 16, 0)
        self.add(NUMA, bytes(8 + 8 * cpus))  # no nodes: a count of zero
        self.add_int(IRQ0_OVERRIDE, 1, 1)
        self.add_file("etc/e820", struct.pack("<QQI", 0, ram_size, E820_RAM))
        # S0 to S5: bit 7 "supported", below it SLP_TYP.
        self.add_file("etc/system-states", bytes((0x80, 0, 0, 0, 0, 0x80)))

    def add_linux(self, image: bytes, initrd: bytes, cmdline: bytes, ram_size: int, boot_rom: bytes) -> None:
        """Let *boot_rom* (linuxboot_dma.bin) start the bzImage *image*.

        The setup header is filled in by the Linux boot protocol (Documentation/x86/boot.rst).  Raises
        ``ValueError`` if *image* is no bzImage, or the initrd or command line does not fit.
        """
        if len(image) < 0x264 or image[0x202:0x206] != b"HdrS":
            raise ValueError("the kernel is not a bzImage")
        setup_size = ((image[0x1F1] or 4) + 1) * 512
        protocol = struct.unpack_from("<H", image, 0x206)[0]
        if protocol < 0x202 or len(image) <= setup_size:
            raise ValueError("the bzImage is cut short or its boot protocol is older than 2.02")
        limit = struct.unpack_from("<I", image, 0x238)[0] if protocol >= 0x206 else 255
        if len(cmdline) > min(limit, LOW_RAM - CMDLINE_AT - 0x1000):
            raise ValueError(f"the command line is {len(cmdline)} bytes, more than the kernel's {limit}")
        highest = struct.unpack_from("<I", image, 0x22C)[0] if protocol >= 0x203 else 0x37FF_FFFF
        initrd_at = (min(highest + 1, ram_size) - len(initrd)) & ~0xFFF
        if initrd_at < PROTECTED_ADDR + len(image) - setup_size:
            raise ValueError("kernel and initrd do not fit into the RAM")
        setup = bytearray(image[:setup_size])
        setup[0x210] = 0xB0  # type_of_loader: QEMU
        setup[0x211] |= 0x80  # loadflags: CAN_USE_HEAP
        struct.pack_into("<H", setup, 0x224, CMDLINE_AT - REAL_ADDR - 0x200)
        struct.pack_into("<I", setup, 0x228, CMDLINE_AT)
        if initrd:
            struct.pack_into("<II", setup, 0x218, initrd_at, len(initrd))
        kernel = image[setup_size:]
        text = cmdline + b"\0"
        for address, size, data, where, content in (
            (SETUP_ADDR, SETUP_SIZE, SETUP_DATA, REAL_ADDR, bytes(setup)),
            (KERNEL_ADDR, KERNEL_SIZE, KERNEL_DATA, PROTECTED_ADDR, kernel),
            (CMDLINE_ADDR, CMDLINE_SIZE, CMDLINE_DATA, CMDLINE_AT, text),
            (INITRD_ADDR, INITRD_SIZE, INITRD_DATA, initrd_at if initrd else 0, initrd),
        ):
            self.add_int(address, 4, where)
            self.add_int(size, 4, len(content))
            self.add(data, content)
        self.add_file("genroms/linuxboot_dma.bin", boot_rom)
        self.add_file("bootorder", b"/rom@genroms/linuxboot_dma.bin\0")

    # Ports ---------------------------------------------------------------------------------------
    def ports(self) -> Sequence[Ports]:
        return (
            Ports(SELECTOR, 2, self._read_data, self._write_selector, (1, 2), ("FW_CFG_SELECTOR", "FW_CFG_DATA")),
            Ports(DMA_ADDRESS, 8, self._read_signature, self._write_dma, (1, 2, 4), ("FW_CFG_DMA",)),
        )

    def _select(self, key: int) -> None:
        self.state.key = key & ~WRITE_CHANNEL
        self.state.offset = 0

    def _write_selector(self, port: int, size: int, value: int) -> None:
        if size == 2:
            self._select(value)

    def _take(self, size: int) -> bytes:
        """The next bytes of the selected item, at most *size*: behind its end there are none."""
        state = self.state
        data = self.items.get(state.key, b"")[state.offset : state.offset + size]
        state.offset = min(state.offset + size, REACH)
        return data

    def _read_data(self, port: int, size: int) -> int:
        return int.from_bytes(self._take(1), "little") if size == 1 else 0

    def _read_signature(self, port: int, size: int) -> int:
        at = port - DMA_ADDRESS
        return int.from_bytes(DMA_SIGNATURE[at : at + size], "little")

    def _write_dma(self, port: int, size: int, value: int) -> None:
        if size != 4:
            return
        half = int.from_bytes(value.to_bytes(4, "little"), "big")
        if port == DMA_ADDRESS:
            self.state.dma_high = half
        elif port == DMA_ADDRESS + 4:
            address = self.state.dma_high << 32 | half
            self.state.dma_high = 0
            self._transfer(address)

    def _transfer(self, block: int) -> None:
        """Do what the FWCfgDmaAccess at physical address *block* asks."""
        if block + 16 > REACH:
            return
        control, length, address = struct.unpack(">IIQ", self.memory.read(block, 16))
        if control & DMA_SELECT:
            self._select(control >> 16)
        result = 0
        if control & DMA_READ:
            if address + length > REACH:
                result = DMA_ERROR
            else:
                data = self._take(length)
                self.memory.write(address, data)
                for at in range(len(data), length, len(ZEROS)):
                    self.memory.write(address + at, ZEROS[: length - at])
        elif control & DMA_WRITE:
            result = DMA_ERROR  # every item is read-only
        elif control & DMA_SKIP:
            self._take(length)
        self.memory.write(block, struct.pack(">I", result))
