"""``vmm inspect``: what is said of each kind of image, and what its code becomes."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from struct import pack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.loader_images import bios, bzimage, elf, iso, multiboot1_elf, multiboot2_elf, option_rom, sector
from translator.rules import rows
from vmm import cli
from vmm.errors import ImageError, UsageError
from vmm.inspection import Inspection, inspect

MEMORY = 16 << 20
JUMP_BACK = b"\xeb\xfe"
CODE = bytes.fromhex("8b4304 fa 0f0110 7404 cc 90 9090 ebf1 f1".replace(" ", ""))
"""mov eax, [ebx+4]; cli; lgdt [eax]; jz +4; int3; nop; nop; nop; jmp to the start; int1."""

IMAGES = {
    "elf32": (elf(), 0x10_0000, ("PT_LOAD 0", "physical=0x100000"), "ELF segment 0"),
    "multiboot": (multiboot1_elf(), None, ("header", "checksum right"), "the multiboot information"),
    "multiboot2": (multiboot2_elf(), None, ("architecture", "0"), "the multiboot2 information"),
    "bzimage": (bzimage(), None, ("protocol", "2."), "the boot parameters"),
    "floppy": (sector(), 0x7C00, ("signature", "55 aa"), "the boot sector"),
    "disk": (sector(4 << 20), 0x7C00, ("sectors", "8192"), "the boot sector"),
    "iso": (iso(), None, ("default entry", "bootable, media type 0"), "the boot code"),
    "rom": (bios(), 0xFFFF_FFF0, ("mapped", "0xfffe0000 to 0xffffffff"), "ROM"),
    "option-rom": (option_rom(), 0xD_0003, ("initialization size", "checksum right"), "ROM"),
    "flat": (CODE, 0x7C00, ("begins", "8b 43 04"), "the flat binary"),
}


def look(folder: Path, data: bytes, **options: int) -> Inspection:
    path = folder / "image"
    path.write_bytes(data)
    return inspect(path, MEMORY, **options)


@pytest.mark.parametrize("kind", IMAGES)
def test_each_kind(kind: str, tmp_path: Path) -> None:
    data, entry, (name, value), part = IMAGES[kind]
    found = look(tmp_path, data)
    headers = dict(found.headers)
    assert headers["kind"] == kind
    assert headers["size"] == f"{len(data)} bytes"
    assert value in headers[name]
    assert part in {p.what for p in found.parts}
    assert entry in (None, found.entry)
    (unit,) = found.units
    assert unit.address == found.entry
    assert unit.instructions[0].address == found.entry


def test_partitions(tmp_path: Path) -> None:
    entry = pack("<B3xB3xII", 0x80, 0x83, 63, 5000)
    disk = bytearray(sector(4 << 20))
    disk[0x1BE : 0x1BE + 64] = entry + bytes(48)
    assert dict(look(tmp_path, bytes(disk)).headers)["partition 1"] == "type 0x83, 5000 sectors from 63 on, active"


def test_instructions_bear_the_rows_that_own_them(tmp_path: Path) -> None:
    found = look(tmp_path, CODE, bits=32, units=3)
    code = {i.address - 0x7C00: i for unit in found.units for i in unit.instructions}
    known = {(row.key, row.treatment, row.how) for row in rows()}
    assert all((i.opcode, i.treatment, i.how) in known for i in code.values())
    assert [(at, i.text, i.treatment, i.privileged) for at, i in sorted(code.items())][:5] == [
        (0, "mov eax, dword ptr [ebx + 4]", "ident", ""),
        (3, "cli", "emulate", "P"),
        (4, "lgdt [eax]", "callout", "P"),
        (7, "je 0x7c0d", "branch", ""),
        (9, "int3", "callout", "S"),
    ]


def test_the_host_code_is_shown_whole_and_in_order(tmp_path: Path) -> None:
    found = look(tmp_path, CODE, bits=32, units=8)
    assert len(found.units) > 2
    for unit in found.units:
        offsets = [at for part in unit.emitted for at, _ in part.host]
        assert offsets == sorted(set(offsets))
        assert (offsets[0], offsets[-1] < unit.host_bytes) == (0, True)
        assert {part.address for part in unit.emitted} - {None} <= {i.address for i in unit.instructions}
        assert {way.stub for way in unit.ways} <= {part.host[0][0] for part in unit.emitted}
    first = found.units[0]
    assert [(way.kind, way.address) for way in first.ways] == [("callout", 0x7C04)]
    assert "mov eax, dword ptr [ebx + 4]" in [text for part in first.emitted for _, text in part.host]


def test_following_direct_exits(tmp_path: Path) -> None:
    jump = b"\xe9\xfb\x0f\x00"  # to 8BFEh, in another page
    assert [unit.address for unit in look(tmp_path, jump + JUMP_BACK * 4000, units=9).units] == [0x7C00, 0x8BFE]


def test_undefined_opcodes(tmp_path: Path) -> None:
    (unit,) = look(tmp_path, b"\x0f\x0b").units
    assert [(i.treatment, i.opcode) for i in unit.instructions] == [("undefined", "")]
    assert [way.kind for way in unit.ways] == ["undefined"]


def test_another_address_in_another_mode(tmp_path: Path) -> None:
    data = b"\x90" * 16 + b"\xb8\x78\x56\x34\x12\xf4"
    assert look(tmp_path, data, at=0x7C10).units[0].instructions[0].text == "mov ax, 0x5678"
    found = look(tmp_path, data, at=0x7C10, bits=32)
    assert found.units[0].instructions[0].text == "mov eax, 0x12345678"
    assert found.mode.startswith("protected mode, 32-bit code")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"at": 0x200_0000, "bits": 32}, "there is no memory at 0x2000000"),
        ({"at": 0x200_0000}, "0x2000000 is out of reach in real mode"),
    ],
)
def test_addresses_without_code(options: dict[str, int], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        look(tmp_path, CODE, **options)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(multiboot1_elf())
    assert cli.main(["inspect", str(path)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for text in ("kind       multiboot\n", "  00100000..00101fff  ELF segment 0\n", "unit 0010000c: ", "    exit: "):
        assert text in said.out
    assert cli.main(["inspect", str(path), "--json", "--units", "2"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["entry"] == 0x10_000C
    assert values["units"][0]["instructions"][0]["code"] == "b0 31"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "vmm inspect: the IMAGE is missing"),
        (["{path}", "--at", "home"], 2, "--at: 'home' is not an address (example: 0x100000)"),
        (["{path}", "--at", "0x100000000"], 2, "--at: 0x100000000 is not below 4 GiB"),
        (["{path}", "--bits", "64"], 2, "--bits: '64' is neither 16 nor 32"),
        (["{path}", "--units", "-1"], 2, "--units: '-1' is not a number from 0 to 10000"),
        (["{path}", "-m", "999G"], 2, "-m: guest memory must be between 1M and 3G"),
        (["{path}", "--warp"], 2, "unknown option --warp"),
        (["{path}.none"], 4, "image.none: the file cannot be read: no such file or directory"),
        (["{path}", "-m", "1M"], 4, "image: ELF segment 0 (0x100000 to 0x102000) does not fit the guest's RAM"),
    ],
)
def test_mistakes(
    arguments: list[str], status: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "image"
    path.write_bytes(elf())
    assert cli.main(["inspect", *(a.format(path=path) for a in arguments)]) == status
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(f"vmm: {sentence}")


@pytest.mark.parametrize("kind", IMAGES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 0x900), st.integers(0, 255)), max_size=6), cut=st.integers(0, 3))
def test_damaged_images_are_described_or_refused(
    kind: str, edits: list[tuple[int, int]], cut: int, tmp_path: Path
) -> None:
    data = bytearray(IMAGES[kind][0])
    for at, value in edits:
        data[at % len(data)] = value
    with suppress(ImageError, UsageError):
        look(tmp_path, bytes(data[: len(data) * (4 - cut) // 4 or 1]), units=3)
