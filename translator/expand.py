"""In-TC emulation: guest instructions that become other host instructions.

Each emitter takes the Emitter and the decoded instruction, and returns the kind of piece it made, or None if
in this mode only the VMM can do it.  Every expansion is restartable: nothing of the guest's state changes
before the last host instruction that can fault, or a fix says how to take the change back.
"""

from __future__ import annotations

from collections.abc import Callable

from translator import bulk, layout, selectors
from translator.assembler import asm
from translator.decode import Insn
from translator.layout import CS, DS, ES, FS, GS, SS
from translator.mode import CHECKED, FLAT, WORD, Mode
from translator.operand import (
    BASE_REGISTER,
    GP,
    R8,
    R9,
    R10,
    Emitter,
    Operand,
    address,
    aligned,
    based,
    block_operand,
    check_alignment,
    flat_operand,
    move_stack_pointer,
    offset_in_r8,
    stack,
    stack_place,
)  # fmt: skip
from translator.piece import ATTENTION, ENDS, PLAIN

Emit = Callable[[Emitter, Insn], int | None]

_FXSAVE_SIZE = 512
_PUSH_SEG = {0x06: ES, 0x0E: CS, 0x16: SS, 0x1E: DS, 0xA0: FS, 0xA8: GS}
_POP_SEG = {0x07: ES, 0x17: SS, 0x1F: DS, 0xA1: FS, 0xA9: GS}


def memory(e: Emitter, insn: Insn, size: int, write: bool) -> Operand:
    """The host form of the instruction's ModRM memory operand."""
    operand = address(e, insn.seg, insn.base, insn.index, insn.scale, insn.disp, insn.adsize, size, write)
    if e.mode.align and size == _FXSAVE_SIZE:
        check_alignment(e, operand, 3)
    if e.mode.align and size >= 16 and size in (16, _FXSAVE_SIZE) and not _unaligned(insn):
        check_alignment(e, operand, 15, GP)
    return operand


def _unaligned(insn: Insn) -> bool:
    """MOVUPS, MOVUPD, MOVDQU: 16 bytes at any address, which CPUs do not check either."""
    return bool(insn.map) and (insn.opcode in (0x10, 0x11) or (insn.opcode in (0x6F, 0x7F) and insn.rep == 0xF3))


def _needs_check(e: Emitter, insn: Insn) -> bool:
    """Whether an offset into the instruction's segment is checked against its limit."""
    kind = e.mode.segments[insn.seg]
    return kind == CHECKED or (kind == WORD and insn.adsize == 4)


def _has_66(insn: Insn) -> bool:
    return 0x66 in insn.raw[: insn.prefixes]


def ident(e: Emitter, insn: Insn) -> int:
    """Copy the instruction; a memory operand takes its form in the host frame (IDENT, IDENT + 67h).

    LOCK is left out: there is one CPU, and nothing else comes between (Unicorn's LOCK NEG leaves wrong flags).
    """
    row = insn.row
    prefix = b""
    if row.prefixes:
        if insn.rep:
            prefix = bytes((insn.rep,))
        elif "6" in row.prefixes and _has_66(insn):
            prefix = b"\x66"
    elif row.wide and insn.opsize == 2:
        prefix = b"\x66"
    opcode = bytes((0x0F, insn.opcode)) if insn.map else bytes((insn.opcode,))
    if not insn.mem:
        e.code += prefix + opcode + (bytes((insn.modrm,)) if row.modrm else b"") + insn.tail
        return PLAIN
    operand = memory(e, insn, insn.size, row.stores)
    if operand.xb and row.byte_reg and insn.reg >= 4:
        # AH, CH, DH and BH cannot be named beside REX: reach the operand through RSI without it.
        e.glue("mov r10, rsi")
        e.op(b"\x8d", 6, operand, wide=True)
        start = len(e.code)
        e.code += prefix + opcode + bytes((insn.reg << 3 | 6,)) + insn.tail
        e.fixes.append((start, len(e.code), "rsi=r10"))
        e.glue("mov rsi, r10")
        return PLAIN
    e.op(opcode, insn.reg, operand, insn.tail, prefix)
    return PLAIN


def nop(e: Emitter, insn: Insn) -> int:
    """Hints and prefetches: no access, no fault."""
    return PLAIN


def alias_80(e: Emitter, insn: Insn) -> int:
    """82h is an alias of 80h that 64-bit mode has not."""
    insn.opcode = 0x80
    ident(e, insn)
    insn.opcode = 0x82
    return PLAIN


def clflush(e: Emitter, insn: Insn) -> int:
    """CLFLUSH faults as a load of a byte does, and that is all that shows of it."""
    e.load(R10, 1, memory(e, insn, 1, False))
    return PLAIN


def setcc(e: Emitter, insn: Insn) -> int:
    """SETcc m by way of a register: if the store of SETcc itself faults, Unicorn has lost the flags."""
    if not insn.mem:
        return ident(e, insn)
    operand = memory(e, insn, 1, True)
    e.code += bytes((0x41, 0x0F, insn.opcode, 0xC2))  # setcc r10b
    e.op(b"\x88", R10, operand)
    return PLAIN


def test_alias(e: Emitter, insn: Insn) -> int:
    """F6 /1 and F7 /1 are aliases of TEST /0 that Unicorn has not."""
    reg, modrm = insn.reg, insn.modrm
    insn.reg, insn.modrm = 0, modrm & ~0x38
    ident(e, insn)
    insn.reg, insn.modrm = reg, modrm
    return PLAIN


def cmpps(e: Emitter, insn: Insn) -> int:
    """CMPPS and its kin ignore the upper bits of the predicate; Unicorn raises #UD for them."""
    tail = insn.tail
    insn.tail = bytes((tail[0] & 7,))
    ident(e, insn)
    insn.tail = tail
    return PLAIN


def rotate_carry(e: Emitter, insn: Insn) -> int:
    """RCL and RCR: Unicorn changes CF before it stores, so the store is tried first, with the value that is there."""
    if insn.mem:
        operand = memory(e, insn, insn.size, True)
        e.load(R10, insn.size, operand)
        e.op(b"\x88" if insn.size == 1 else b"\x89", R10, operand, prefix=b"\x66" if insn.size == 2 else b"")
        e.op(bytes((insn.opcode,)), insn.reg, operand, insn.tail, b"\x66" if insn.size == 2 else b"")
        return PLAIN
    return ident(e, insn)


def compare_real(e: Emitter, insn: Insn) -> int:
    """FCOMI and its kin clear OF, SF and AF, which Unicorn leaves alone."""
    e.glue("xor r8d, r8d")
    return ident(e, insn)


def cmpxchg8b(e: Emitter, insn: Insn) -> int:
    """CMPXCHG8B in a block of the host's own: else Unicorn takes the flags that stay from a stale condition code."""
    operand = memory(e, insn, 8, True)
    e.code += b"\xeb\x00"  # jmp to the next instruction
    e.op(b"\x0f\xc7", 1, operand)
    return PLAIN


def inc_dec(e: Emitter, insn: Insn) -> int:
    """40h..4Fh are REX prefixes on the host: the FF /0 and /1 forms instead."""
    e.code += (b"\x66" if insn.opsize == 2 else b"") + bytes((0xFF, 0xC0 | insn.opcode & 0x0F))
    return PLAIN


def bswap(e: Emitter, insn: Insn) -> int:
    """With a 16-bit operand the result is undefined; the whole register is swapped."""
    e.code += bytes((0x0F, insn.opcode))
    return PLAIN


def lea(e: Emitter, insn: Insn) -> int:
    """The offset alone: no segment, no access."""
    prefix = b"\x66" if insn.opsize == 2 else b""
    if insn.adsize == 4:
        e.op(b"\x8d", insn.reg, flat_operand(insn.base, insn.index, insn.scale, insn.disp, a32=False), prefix=prefix)
    else:
        offset_in_r8(e, insn.base, insn.index, 0, insn.disp, 2)
        e.code += prefix + bytes((0x44, 0x89, 0xC0 | insn.reg))  # mov reg, r8
    return PLAIN


def mov_moffs(e: Emitter, insn: Insn) -> int:
    """A0h..A3h in their ModRM form."""
    size = insn.size
    write = insn.opcode >= 0xA2
    operand = address(e, insn.seg, -1, -1, 0, insn.imm, insn.adsize, size, write)
    opcode = (0x88 if write else 0x8A) | (insn.opcode & 1)
    e.op(bytes((opcode,)), 0, operand, prefix=b"\x66" if size == 2 else b"")
    return PLAIN


def xlat(e: Emitter, insn: Insn) -> int | None:
    """MOV AL, seg:[(E)BX + AL]."""
    if _needs_check(e, insn):
        return None
    e.glue("movzx r8d, al; lea r8d, [rbx+r8]" + ("; movzx r8d, r8w" if insn.adsize == 2 else ""))
    e.op(b"\x8a", 0, based(e, R8, insn.seg))
    return PLAIN


def bt_reg(e: Emitter, insn: Insn) -> int | None:
    """BT with a register offset reaches beyond its operand: the host does it in flat segments only."""
    if insn.mem and (e.mode.segments[insn.seg] != FLAT or insn.adsize == 2):
        return None
    return ident(e, insn)


def maskmov(e: Emitter, insn: Insn) -> int | None:
    """MASKMOVQ and MASKMOVDQU store at DS:(E)DI."""
    if _needs_check(e, insn):
        return None
    code = (b"\x66" if _has_66(insn) else b"") + b"\x0f\xf7" + bytes((insn.modrm,))
    if insn.adsize == 4 and e.mode.segments[insn.seg] == FLAT:
        if e.mode.align:
            check_alignment(e, flat_operand(7, -1, 0, 0), 7)
        e.code += b"\x67" + code
        return PLAIN
    e.glue("mov r10, rdi; mov r8d, edi" if insn.adsize == 4 else "mov r10, rdi; movzx r8d, di")
    operand = based(e, R8, insn.seg)
    if e.mode.align:
        check_alignment(e, operand, 7)
    e.op(b"\x8d", 7, operand, wide=True)
    start = len(e.code)
    e.code += code
    e.fixes.append((start, len(e.code), "rdi=r10"))
    e.glue("mov rdi, r10")
    return PLAIN


# The stack -----------------------------------------------------------------------------------------


def push_reg(e: Emitter, insn: Insn) -> int:
    """PUSH r."""
    e.store(insn.opcode & 7, insn.opsize, stack(e, -insn.opsize, insn.opsize, True))
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def push_imm(e: Emitter, insn: Insn) -> int:
    """PUSH imm."""
    imm = (insn.imm & (1 << 8 * insn.opsize) - 1).to_bytes(insn.opsize, "little")
    e.op(b"\xc7", 0, stack(e, -insn.opsize, insn.opsize, True), imm, b"\x66" if insn.opsize == 2 else b"")
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def push_rm(e: Emitter, insn: Insn) -> int:
    """PUSH r/m."""
    size = insn.opsize
    if not insn.mem:
        e.store(insn.rm, size, stack(e, -size, size, True))
    else:
        e.load(R10, size, memory(e, insn, size, False))
        if e.mode.segments[SS] == CHECKED:  # the check needs r10: park the value
            e.op(b"\x89", R10, block_operand(layout.SCRATCH), wide=True)
        slot = stack(e, -size, size, True)
        if e.mode.segments[SS] == CHECKED:
            e.op(b"\x8b", R10, block_operand(layout.SCRATCH), wide=True)
        e.store(R10, size, slot)
    move_stack_pointer(e, -size)
    return PLAIN


def push_seg(e: Emitter, insn: Insn) -> int:
    """PUSH of a segment register reads the virtual selector."""
    target = aligned(e, stack_place(e, -insn.opsize, insn.opsize, True), 2)  # CPUs write the selector alone
    e.op(b"\x8b", R10, block_operand(layout.SELECTOR + 8 * _PUSH_SEG[insn.opcode]))
    e.store(R10, insn.opsize, target)
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def pop_reg(e: Emitter, insn: Insn) -> int:
    """POP r; POP ESP takes the loaded value."""
    reg = insn.opcode & 7
    slot = stack(e, 0, insn.opsize, False)
    if reg == 4:
        e.load(R10, insn.opsize, slot)
        move_stack_pointer(e, insn.opsize)
        e.glue("mov sp, r10w" if insn.opsize == 2 else "mov esp, r10d")
        return PLAIN
    e.op(b"\x8b", reg, slot, prefix=b"\x66" if insn.opsize == 2 else b"")
    move_stack_pointer(e, insn.opsize)
    return PLAIN


def pop_rm(e: Emitter, insn: Insn) -> int | None:
    """POP r/m: an address by ESP is computed after the pop."""
    if insn.reg != 0:
        return None
    size = insn.opsize
    if not insn.mem:
        e.load(R10, size, stack(e, 0, size, False))
        move_stack_pointer(e, size)
        e.code += (b"\x66" if size == 2 else b"") + bytes((0x44, 0x89, 0xD0 | insn.rm))  # mov r, r10
        return PLAIN
    if CHECKED in (e.mode.segments[SS], e.mode.segments[insn.seg]) or (insn.base == 4 and not e.mode.stack32):
        return None
    e.load(R10, size, stack(e, 0, size, False))
    disp = insn.disp + (size if insn.base == 4 else 0)
    target = address(e, insn.seg, insn.base, insn.index, insn.scale, disp, insn.adsize, size, True)
    if e.branches:  # a WORD segment with a 32-bit address was checked, which took r10
        return None
    e.store(R10, size, target)
    move_stack_pointer(e, size)
    return PLAIN


def pusha(e: Emitter, insn: Insn) -> int | None:
    """PUSHA stores the old ESP."""
    size = insn.opsize
    if e.mode.segments[SS] == CHECKED:
        return None
    for n in range(8):
        e.store(n, size, stack(e, -size * (n + 1), size, True))
    move_stack_pointer(e, -8 * size)
    return PLAIN


def popa(e: Emitter, insn: Insn) -> int | None:
    """POPA skips ESP.  Both ends are touched first, so that no load faults half way."""
    size = insn.opsize
    if e.mode.segments[SS] == CHECKED:
        return None
    e.load(R10, size, stack(e, 7 * size, size, False))
    for slot, n in enumerate((7, 6, 5, 4, 3, 2, 1, 0)):
        if n != 4:
            e.op(b"\x8b", n, stack(e, slot * size, size, False), prefix=b"\x66" if size == 2 else b"")
    move_stack_pointer(e, 8 * size)
    return PLAIN


def enter(e: Emitter, insn: Insn) -> int | None:
    """ENTER n, 0 on a flat 32-bit stack; the others are the VMM's."""
    if insn.far_selector & 31 or insn.opsize != 4 or not e.mode.stack32 or e.mode.segments[SS] != FLAT:
        return None
    e.store(5, 4, stack(e, -4, 4, True))
    e.op(b"\x8d", 5, flat_operand(4, -1, 0, -4, a32=False))
    e.op(b"\x8d", 4, flat_operand(5, -1, 0, -insn.imm, a32=False))
    return PLAIN


def leave(e: Emitter, insn: Insn) -> int | None:
    """LEAVE: (E)SP = (E)BP, pop (E)BP."""
    if e.mode.segments[SS] == CHECKED:
        return None
    if e.mode.stack32 and insn.opsize == 4:
        e.load(R10, 4, address(e, SS, 5, -1, 0, 0, 4, 4, False))
        e.op(b"\x8d", 4, flat_operand(5, -1, 0, 4, a32=False))
        e.glue("mov ebp, r10d")
        return PLAIN
    if not e.mode.stack32 and insn.opsize == 2:
        e.load(R10, 2, address(e, SS, 5, -1, 0, 0, 2, 2, False))
        e.glue("lea r8d, [rbp+2]; mov sp, r8w; mov bp, r10w")
        return PLAIN
    return None


# Flags ----------------------------------------------------------------------------------------------


def cli(e: Emitter, insn: Insn) -> int | None:
    """CLI clears the virtual IF."""
    if not e.mode.io:
        return None
    e.op(b"\xc6", 0, block_operand(layout.IF), b"\0")
    return PLAIN


def sti(e: Emitter, insn: Insn) -> int | None:
    """STI sets the virtual IF; interrupts wait for one more instruction."""
    if not e.mode.io:
        return None
    e.op(b"\xc6", 0, block_operand(layout.IF), b"\1")
    return ATTENTION


def pushf(e: Emitter, insn: Insn) -> int | None:
    """PUSHF: the host's arithmetic flags with the virtual IF and system flags."""
    if (e.mode.v86 and not e.mode.io) or e.mode.segments[SS] == CHECKED:
        return None
    e.glue(f"mov r10, rsp; lea rsp, [r15+{layout.STACK_TOP}]; pushfq; pop r9; mov rsp, r10")
    e.glue(
        f"movzx r8d, word ptr [r15+{layout.IF_WORD}]; lea r9, [r9+r8*2];"
        f"mov r8, [r15+{layout.PUSHF_IMAGE}]; lea r10, [r9+r8]"
    )
    slot = stack(e, -insn.opsize, insn.opsize, True)
    e.store(R10, insn.opsize, slot)
    move_stack_pointer(e, -insn.opsize)
    return PLAIN


def popf(e: Emitter, insn: Insn) -> int | None:
    """POPF that changes only arithmetic flags, DF and IF stays in the TC; other changes are the VMM's."""
    mode = e.mode
    if (mode.v86 and not mode.io) or mode.segments[SS] == CHECKED or mode.step:
        return None
    system = layout.TF | layout.NT
    if mode.supervisor:
        system |= layout.IOPL
    if insn.opsize == 4:
        system |= layout.AC | layout.ID
    e.load(R10, insn.opsize, stack(e, 0, insn.opsize, False))
    e.glue("mov r9d, r10d")
    e.code += b"\x41\x81\xe1" + system.to_bytes(4, "little")  # and r9d, system
    e.op(b"\x8b", R8, block_operand(layout.SYSTEM_FLAGS))
    e.code += b"\x41\x81\xe0" + (system | layout.RF).to_bytes(4, "little")  # and r8d, system + RF
    # The comparison destroys the arithmetic flags, which a callout must not see destroyed: POPF replaces them all.
    e.glue("cmp r9d, r8d")
    e.branch_if(0x5, "callout", 0, restore=False)
    if mode.io:
        e.glue(f"mov r9d, r10d; shr r9d, 9; and r9d, 1; mov byte ptr [r15+{layout.IF}], r9b")
    e.glue(f"and r10d, {layout.ARITHMETIC | layout.DF}; or r10d, 2")
    move_stack_pointer(e, insn.opsize)
    e.glue(f"mov r9, rsp; lea rsp, [r15+{layout.STACK_TOP}]; push r10; popfq; mov rsp, r9")
    return ATTENTION if mode.io else PLAIN


def rdtsc(e: Emitter, insn: Insn) -> int | None:
    """RDTSC from the instruction budget: it ends a block, so that r14 is exact."""
    if not e.mode.tsc:
        return None
    e.glue(
        f"mov rax, r14; not rax; lea rax, [rax*8+8]; mov r8, [r15+{layout.TSC_BASE}]; lea rax, [rax+r8];"
        f"mov [r15+{layout.SCRATCH}], rax; mov eax, eax; mov edx, [r15+{layout.SCRATCH + 4}]"
    )
    return ENDS


# Segment registers -----------------------------------------------------------------------------------


def mov_from_seg(e: Emitter, insn: Insn) -> int | None:
    """MOV r/m, Sreg reads the virtual selector; a memory operand is 16 bits whatever the operand size."""
    if insn.reg > 5:
        return None
    selector = block_operand(layout.SELECTOR + 8 * insn.reg)
    if not insn.mem:
        e.op(b"\x8b", insn.rm, selector, prefix=b"\x66" if insn.opsize == 2 else b"")
        return PLAIN
    target = memory(e, insn, 2, True)
    e.op(b"\x8b", R10, selector)
    e.store(R10, 2, target)
    return PLAIN


def _load_real(e: Emitter, seg: int) -> None:
    """Segment register *seg* from r10w as real mode does: base = selector * 16, limit and rights stay."""
    base = BASE_REGISTER.get(seg, R9)
    e.op(b"\x89", R10, block_operand(layout.SELECTOR + 8 * seg), wide=True)
    e.glue("lea r9d, [r10*8]; lea r9d, [r9*2]")
    e.op(b"\x89", R9, block_operand(layout.SEG_BASE + 8 * seg), wide=True)
    if base != R9:
        e.glue(f"mov r{base}, r9")
    e.glue("not r9; lea r9, [r9+1]")
    e.op(b"\x89", R9, block_operand(layout.NEG_BASE + 8 * seg), wide=True)


def _remembers(mode: Mode) -> bool:
    """Whether loads of segment registers may go by what the VMM remembers of them: descriptors are a supervisor's."""
    return mode.protected and mode.supervisor and not mode.step and mode.bulk


def _selector(e: Emitter, insn: Insn) -> None:
    """The 16-bit operand into r10."""
    if insn.mem:
        e.load(R10, 2, memory(e, insn, 2, False))
    else:
        e.code += bytes((0x44, 0x0F, 0xB7, 0xD0 | insn.rm))  # movzx r10d, rm16


def mov_to_seg(e: Emitter, insn: Insn) -> int | None:
    """MOV Sreg, r/m: in protected mode only loads that the VMM remembers."""
    if insn.reg > 5 or insn.reg == CS:
        return None
    if _remembers(e.mode) and insn.reg != SS:
        _selector(e, insn)
        selectors.guarded(e, insn.reg, lambda: selectors.load(e, insn.reg))
        return PLAIN
    if e.mode.protected or FLAT in e.mode.segments:
        return None
    _selector(e, insn)
    _load_real(e, insn.reg)
    return PLAIN


def pop_seg(e: Emitter, insn: Insn) -> int | None:
    """POP Sreg: in protected mode only loads that the VMM remembers."""
    register = _POP_SEG[insn.opcode]
    if _remembers(e.mode) and register != SS and e.mode.stack32 and e.mode.segments[SS] == FLAT:

        def found() -> None:
            move_stack_pointer(e, insn.opsize)
            selectors.load(e, register)

        e.load(R10, 2, stack(e, 0, insn.opsize, False))
        selectors.guarded(e, register, found)
        return PLAIN
    if e.mode.protected or FLAT in e.mode.segments or e.mode.segments[SS] == CHECKED:
        return None
    e.load(R10, 2, aligned(e, stack_place(e, 0, insn.opsize, False), 2))
    move_stack_pointer(e, insn.opsize)
    _load_real(e, _POP_SEG[insn.opcode])
    return PLAIN


def verw(e: Emitter, insn: Insn) -> int | None:
    """VERW of a segment that the VMM found writable: ZF is set, the other flags stay."""
    if not _remembers(e.mode):
        return None

    def found() -> None:
        e.glue("mov rcx, r8; mov r10, rax; lahf; seto al; or ah, 0x40; add al, 0x7f; sahf; mov rax, r10")

    _selector(e, insn)
    selectors.guarded(e, selectors.QUERY, found)
    return PLAIN


# Control registers -----------------------------------------------------------------------------------


def mov_from_cr(e: Emitter, insn: Insn) -> int | None:
    """MOV r, CRn at CPL 0; the operand is 32 bits and a register whatever the prefixes and ModRM's mod say."""
    if not e.mode.supervisor or insn.reg not in (0, 2, 3, 4):
        return None
    e.op(b"\x8b", insn.modrm & 7, block_operand(layout.CR + 8 * insn.reg))
    return PLAIN


# Strings ---------------------------------------------------------------------------------------------

_SOURCE, _DESTINATION = 1, 2
_COMPARISONS = (0xA6, 0xAE)
_STRING_USES = {0xA4: 3, 0xA6: 3, 0xAA: 2, 0xAC: 1, 0xAE: 2}


def string(e: Emitter, insn: Insn) -> int | None:
    """MOVS CMPS STOS LODS SCAS.

    In flat segments with 32-bit addresses the host runs them, REP included.  Otherwise a single step is run
    on linear addresses in RSI and RDI, and the offsets are put back; REP is the VMM's.  It is under EFLAGS.TF too:
    the trap comes after each step.
    """
    if (insn.rep and e.mode.step) or (e.mode.align and insn.opcode & 1):
        return None
    uses = _STRING_USES[insn.opcode & 0xFE]
    segments = e.mode.segments
    prefix = (b"\x66" if insn.opsize == 2 and insn.opcode & 1 else b"") + (bytes((insn.rep,)) if insn.rep else b"")
    flat = (not uses & _SOURCE or segments[insn.seg] == FLAT) and (not uses & _DESTINATION or segments[ES] == FLAT)
    if flat and insn.adsize == 4:
        plain = b"\x67" + prefix + bytes((insn.opcode,))
        if insn.rep and e.mode.bulk and bulk.applies(insn):
            bulk.emit(e, insn, plain)
        elif insn.rep and insn.opcode & 0xFE in _COMPARISONS:
            bulk.comparison(e, plain)
        else:
            e.code += plain
        return PLAIN
    if (
        insn.rep
        or (uses & _SOURCE and segments[insn.seg] == CHECKED)
        or (uses & _DESTINATION and segments[ES] == CHECKED)
    ):
        return None
    narrow = insn.adsize == 2
    if not narrow and WORD in (segments[insn.seg], segments[ES]):
        return None
    fixes = []
    moves = []
    for used, low, pointer, saved, seg in (
        (_SOURCE, "si", 6, "r9", insn.seg),
        (_DESTINATION, "di", 7, "r10", ES),
    ):
        if uses & used:
            moves.append((low, pointer, saved, seg))
            fixes.append(f"r{low}={saved}")
    for low, _, saved, _ in moves:
        e.glue(f"mov {saved}, r{low}")
    for low, _, _, seg in moves:
        e.glue(f"movzx r8d, {low}" if narrow else f"mov r8d, e{low}")
        if segments[seg] == FLAT:
            e.glue(f"mov r{low}, r8")
        elif seg in BASE_REGISTER:
            e.glue(f"lea r{low}, [r8+r{BASE_REGISTER[seg]}]")
        else:
            e.glue(f"mov r{low}, [r15+{layout.SEG_BASE + 8 * seg}]; lea r{low}, [r{low}+r8]")
    start = len(e.code)
    e.code += (b"\x66" if insn.opsize == 2 and insn.opcode & 1 else b"") + bytes((insn.opcode,))
    e.fixes.append((start, len(e.code), ",".join(fixes)))
    for low, _, saved, seg in moves:
        e.glue(f"mov r8, [r15+{layout.NEG_BASE + 8 * seg}]; lea r8, [r{low}+r8]")
        e.glue(f"mov r{low}, {saved}; mov {low}, r8w" if narrow else f"mov e{low}, r8d")
    return PLAIN


def fxsave(e: Emitter, insn: Insn) -> int | None:
    """FXSAVE into the vCPU block, then copied: the host's 64-bit form would write XMM8..15 too."""
    operand = memory(e, insn, 512, True)
    e.op(b"\x8d", R8, operand, wide=True)
    e.glue(f"fxsave [r15+{layout.FX_AREA}]")
    for at in range(0, 288, 8):
        e.op(b"\x8b", R9, block_operand(layout.FX_AREA + at), wide=True)
        e.code += asm("mov [r8+0x100], r9")[:3] + at.to_bytes(4, "little")
    return PLAIN


EMITTERS: dict[str, Emit] = {
    f.__name__: f
    for f in (
        nop, clflush, cmpxchg8b, alias_80, test_alias, setcc, cmpps, rotate_carry, compare_real, inc_dec, bswap, lea,
        mov_moffs, xlat, bt_reg, maskmov, push_reg, push_imm, push_rm, push_seg, pop_reg, pop_rm, pusha, popa, enter,
        leave, cli, sti, pushf, popf, rdtsc, mov_from_seg, mov_to_seg, pop_seg, verw, mov_from_cr, string, fxsave,
    )
}  # fmt: skip
"""Emitters by the name that the rule table gives them."""
