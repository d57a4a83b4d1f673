"""The rule table is complete, agrees with Capstone on lengths, and lets nothing sensitive run on the host."""

from __future__ import annotations

from collections.abc import Iterator

import capstone
import pytest

from tests.support.state import ENVIRONMENTS
from tests.vectors.generate import vectors
from translator.decode import Undefined, decode
from translator.mode import BASED, CHECKED, FLAT, WORD, Mode
from translator.rules import PREFIXES, TABLE, Row, rows
from translator.unit import Translator

TREATMENTS = {"ident", "emulate", "branch", "callout", "undefined"}
SENSITIVE = {
    "SGDT", "SIDT", "SLDT", "SMSW", "PUSHF", "POPF", "LAR", "LSL", "VERR", "VERW", "CALLF", "JMPF", "INT", "INT3",
    "INTO", "RETF", "STR", "IRET",
}  # fmt: skip
"""Robin and Irvine, "Analysis of the Intel Pentium's Ability to Support a Secure VMM" (2000); PUSH, POP and MOV of
segment registers are found by their opcodes."""
SEGMENT_MOVES = {(0, op) for op in (0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x8C, 0x8E, 0xC4, 0xC5)} | {
    (1, op) for op in (0xA0, 0xA1, 0xA8, 0xA9, 0xB2, 0xB4, 0xB5)
}
PRIVILEGED = {
    "LGDT", "LIDT", "LLDT", "LTR", "LMSW", "CLTS", "INVD", "WBINVD", "INVLPG", "HLT", "RDMSR", "WRMSR", "CLI",
    "STI", "IN", "OUT", "INS", "OUTS", "SYSEXIT",
}  # fmt: skip
CONTROL_REGISTERS = {(1, op) for op in range(0x20, 0x24)}

LATER = {
    "SSE3, SSE4A": (
        "addsubpd", "addsubps", "extrq", "fisttp", "haddpd", "haddps", "hsubpd", "hsubps", "insertq", "lddqu",
        "monitor", "movddup", "movntsd", "movntss", "movshdup", "movsldup", "mwait", "popcnt",
    ),
    "3DNow!": (
        "femms",
    ),
    "virtualisation": (
        "clgi", "invlpga", "skinit", "stgi", "vmcall", "vmclear", "vmfunc", "vmlaunch", "vmload", "vmmcall",
        "vmptrld", "vmptrst", "vmread", "vmresume", "vmrun", "vmsave", "vmwrite", "vmxoff", "vmxon",
    ),
    "XSAVE": (
        "xgetbv", "xrstor", "xrstors", "xsave", "xsavec", "xsaveopt", "xsaves", "xsetbv",
    ),
    "TSX": (
        "xabort", "xbegin", "xend", "xtest",
    ),
    "security": (
        "clac", "clrssbsy", "encls", "enclu", "enclv", "getsec", "incsspd", "pconfig", "rdpkru", "rdrand",
        "rdseed", "rstorssp", "saveprevssp", "setssbsy", "stac", "wrpkru",
    ),
    "others": (
        "clflushopt", "clwb", "clzero", "monitorx", "mwaitx", "ptwrite", "rdpid", "rdtscp", "rsm", "swapgs",
        "syscall", "sysret", "tpause", "umonitor", "umwait",
    ),
}  # fmt: skip
"""What Capstone knows and the processor that we replicate (SSE2) does not have, by extension."""
LATER_MAPS = {(0, 0xC4), (0, 0xC5), (1, 0x38), (1, 0x3A), (1, 0xA6), (1, 0xA7)}
"""Whole opcodes of the same: VEX, SSSE3 and SSE4, PadLock."""
PREFIXED = {
    "emms", "fxrstor", "fxsave", "ldmxcsr", "lfence", "movhlps", "movlhps", "movnti", "rcpps", "rsqrtps", "sfence",
    "stmxcsr",
}  # fmt: skip
"""Documented as NP: a 66h, F2h or F3h before them makes another instruction, or none."""
INVALID = {"ud0", "ud1", "ud2"}
ELSEWHERE = PREFIXED | INVALID | {name for names in LATER.values() for name in names}

TAIL = bytes.fromhex("11223344556677889900aabb")


def encodings() -> Iterator[tuple[bytes, int, int]]:
    """Every opcode with every prefix that may be mandatory, every /digit, memory and register operands."""
    for map_ in (0, 1):
        for opcode in range(256):
            if not map_ and (opcode == 0x0F or opcode in PREFIXES):
                continue
            for prefix in (b"", b"\x66", b"\xf3", b"\xf2"):
                for modrm in (
                    *range(0, 0x40, 8),
                    *range(4, 0x44, 8),
                    *range(5, 0x45, 8),
                    *range(0x46, 0xC0, 0x19),
                    *range(0xC0, 0x100),
                ):
                    yield prefix + (b"\x0f" if map_ else b"") + bytes((opcode, modrm)) + TAIL, map_, opcode


def test_every_row_has_a_known_treatment_and_a_unique_key() -> None:
    found = rows()
    assert {r.treatment for r in found} <= TREATMENTS
    keys = [(r.map, r.opcode, r.digit, r.form, p) for r in found for p in r.prefixes or "*"]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("code32", [True, False], ids=["32-bit", "16-bit"])
def test_lengths_agree_with_capstone(code32: bool) -> None:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32 if code32 else capstone.CS_MODE_16)
    wrong, checked = [], 0
    for code, map_, opcode in encodings():
        theirs = next(((length, name) for _, length, name, _ in engine.disasm_lite(code, 0x1000, 1)), None)
        try:
            ours = decode(code, code32)
        except Undefined:
            if theirs and theirs[1] not in ELSEWHERE and (map_, opcode) not in LATER_MAPS:
                wrong.append(f"{code[:8].hex(' ')}: no row, Capstone says {theirs[1]}")
            continue
        if theirs:
            checked += 1
            if theirs[0] != ours.length:
                wrong.append(f"{code[:8].hex(' ')}: {ours.row.name} of {ours.length} bytes, Capstone says {theirs}")
    assert not wrong, "\n".join(wrong[:20])
    assert checked > 100_000


def test_an_opcode_without_a_row_is_undefined() -> None:
    empty = [(m, o) for m in (0, 1) for o in range(256) if TABLE[m][o].by_modrm is None]
    assert (1, 0x38) in empty
    for map_, opcode in empty:
        if (map_, opcode) == (0, 0x0F) or (not map_ and opcode in PREFIXES):
            continue
        with pytest.raises(Undefined):
            decode((b"\x0f" if map_ else b"") + bytes((opcode,)) + bytes(14), True)


def dangerous(row: Row) -> bool:
    """It reads or changes what belongs to the VMM."""
    key = (row.map, row.opcode)
    return row.name in SENSITIVE | PRIVILEGED or key in SEGMENT_MOVES | CONTROL_REGISTERS


def test_the_sensitive_and_the_privileged_are_never_copied() -> None:
    found = [row for row in rows() if dangerous(row)]
    assert {row.name for row in found} >= SENSITIVE | PRIVILEGED
    assert [row.key for row in found if row.treatment == "ident"] == []
    assert [row.key for row in found if not row.privileged] == []


FLAT6 = (FLAT,) * 6
MODES = {
    "kernel": Mode(True, True, True, False, False, True, True, False, FLAT6),
    "user": Mode(True, True, True, False, True, False, False, False, FLAT6),
    "real": Mode(False, False, False, False, False, True, True, False, (WORD,) * 6),
    "big real": Mode(False, False, False, False, False, True, True, False, (BASED,) * 6),
    "virtual 8086": Mode(False, False, False, True, True, True, False, False, (WORD,) * 6),
    "virtual 8086, IOPL 0": Mode(False, False, False, True, True, False, False, False, (WORD,) * 6),
    "286": Mode(False, False, True, False, True, False, False, False, (CHECKED,) * 6),
    "based": Mode(True, True, True, False, False, True, True, False, (BASED, CHECKED, BASED, BASED, BASED, BASED)),
}
FORBIDDEN = {
    "sgdt", "sidt", "sldt", "smsw", "str", "lar", "lsl", "verr", "verw", "lgdt", "lidt", "lldt", "ltr", "lmsw",
    "clts", "hlt", "in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd", "cli", "sti", "rdmsr", "wrmsr",
    "rdpmc", "rdtsc", "lds", "les", "lss", "lfs", "lgs", "retf", "retfq", "iret", "iretd", "iretq", "int", "int1",
    "int3", "into", "ljmp", "lcall", "syscall", "sysenter", "sysexit", "sysret", "invd", "wbinvd", "invlpg",
    "cpuid", "swapgs", "pushf", "pushfq", "popf", "popfq",
}  # fmt: skip
OWN_STACK = "rsp, [r15 + 0x400]"


@pytest.mark.parametrize("name", MODES)
def test_emitted_code_holds_nothing_sensitive(name: str) -> None:
    """Every row, in every mode: the host instructions that come of it, as Capstone reads them."""
    mode = MODES[name]
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    environment = ENVIRONMENTS["flat32" if mode.code32 else "real16"]
    translator = Translator()
    wrong = []
    for row in rows():
        if row.treatment == "undefined" or row.imm == "p" or row.size in ("p", "a", "s"):
            continue
        for vector in vectors(row, environment, 2, "scan"):
            code = vector.case.code[vector.prelude :]
            fragment = translator.translate(code + b"\xf4" * 15, lambda: b"", 0x1000, mode, 0)
            end = min((e.stub for e in fragment.exits), default=len(fragment.code))
            host = list(engine.disasm_lite(bytes(fragment.code[:end]), 0))
            assert sum(length for _, length, _, _ in host) >= end - 8
            before = ("", "")
            for _, _, mnemonic, operands in host:
                segment = mnemonic in ("mov", "push", "pop") and {"ds", "es", "ss", "cs", "fs", "gs"} & set(
                    operands.split(", ")
                )
                control = mnemonic == "mov" and any(o[:2] in ("cr", "dr") for o in operands.split(", "))
                own = before == ("lea", OWN_STACK) or (mnemonic == "popfq" and before[0] == "push")
                if (mnemonic in FORBIDDEN and not (mnemonic in ("pushfq", "popfq") and own)) or segment or control:
                    wrong.append(f"{row.key} {row.name} {code.hex(' ')}: {mnemonic} {operands}")
                before = (mnemonic, operands)
    assert not wrong, "\n".join(wrong[:20])
