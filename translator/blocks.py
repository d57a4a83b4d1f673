"""The blocks of a unit as host code: its pieces, the budget's checks, branches and exits.

A unit is cut into blocks; each takes its instructions off the budget in r14, and wherever a path through the unit can
start or start over, one load checks that the budget covers it.  Branches inside the unit are host jumps; the others
are exits, which the cache chains.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from translator import layout
from translator.assembler import asm
from translator.decode import UNDEFINED, Insn
from translator.exits import STUB, ExitList, Exits
from translator.expand.copied import memory
from translator.fragment import Fragment, floats
from translator.layout import SS
from translator.mode import CHECKED, FLAT, Mode
from translator.operand import R9, R10, Emitter, block_operand, move_stack_pointer, stack
from translator.piece import ATTENTION, BRANCH, CALLOUT, ENDS_UNIT, GONE, LEAVES, ONWARD, PLAIN, Piece
from translator.points import PointList, Points
from translator.recording import Site, Sites, recorder

MAX_INSNS: Final = 48
"""The longest unit, in guest instructions."""
MAX_COPIES: Final = 4
"""How often a loop of one block stands in the code: its budget is checked once for all copies."""

Leaving = tuple[int, str, int, Insn | None, int, int, bool]
"""A jump to an exit: where its displacement stands, kind, EIP, instruction, vector, refund, whether AX holds flags."""

_RESTORE: Final = asm("add al, 0x7f; sahf; mov rax, r10")
_SAVE: Final = asm("mov r10, rax; lahf; seto al")
_INDIRECT: Final = asm(f"movzx r9d, r8w; mov r10, [r15+{layout.TABLE}]; jmp [r10+r9*8]")
_ATTENTION: Final = asm(
    f"movzx r9d, byte ptr [r15+{layout.IF}]; mov r9, [r15+r9*8+{layout.QUIET}]; movzx r9d, byte ptr [r9]"
)
_PUSH: Final = b"\x67\xc7\x44\x24\xfc"  # mov dword ptr [esp-4], imm32
_PUSHED: Final = asm("lea esp, [rsp-4]")
_POP: Final = b"\x67\x44\x8b\x14\x24" + asm("lea esp, [rsp+4]")  # mov r10d, [esp]
_AT_HOME: Final = asm(f"mov dword ptr [r15+{layout.DELTA}], 0")
_WHERE: Final = asm(f"mov r9d, [r10+r9*8+{layout.DELTAS}]") + b"\x45\x8d\x91"  # lea r10d, [r9 + linear]
_VERIFY: Final = asm(f"not r10; lea r10, [r8+r10+1]; movzx r10d, byte ptr [r15+r10]; mov [r15+{layout.DELTA}], r9d")
_MOVED: Final = asm(f"mov r9d, [r15+{layout.DELTA}]") + b"\x45\x8d\x89"  # lea r9d, [r9 + EIP]
_MOVED_TARGET: Final = asm(f"mov r8d, [r15+{layout.DELTA}]") + b"\x45\x8d\x80"  # lea r8d, [r8 + EIP]
_RCX_BACK: Final = asm("mov rcx, r9")
_NARROW_COUNT: Final = asm("mov r9, rcx; movzx ecx, cx") + b"\xe3\x08" + _RCX_BACK
_TO_VMM: Final = asm(f"jmp [r15+{layout.EXIT_STUB}]")


def target_of(insn: Insn, next_eip: int) -> int:
    """Where a relative branch goes: EIP is cut to 16 bits by a 16-bit operand size."""
    target = next_eip + insn.imm
    return target & 0xFFFF if insn.opsize == 2 else target & 0xFFFF_FFFF


def _check(insns: int) -> bytes:
    """Does the budget cover so many instructions?  MOVZX R9D, byte [R14 - insns]."""
    return b"\x45\x0f\xb6\x4e" + (-insns).to_bytes(1, "little", signed=True)


class Blocks:
    """Lays the pieces of one unit out as host code."""

    def __init__(
        self,
        pieces: list[tuple[int, Piece]],
        eip: int,
        mode: Mode,
        cs_base: int,
        verify: bool,
        unroll: bool,
        exact: bool,
        sites: Sites | None,
        anywhere: bool,
    ) -> None:
        self.pieces = pieces
        self.eip = eip
        self.mode = mode
        self.cs_base = cs_base
        self.verify = verify
        self.code = bytearray()
        self.points = PointList()
        self.exits = ExitList()
        self.index = {at: n for n, (at, _) in enumerate(pieces)}
        self.internal: dict[int, int] = {}
        """The leaders that branches inside the unit go to, by the branch's index."""
        self.jumps: list[tuple[int, int]] = []  # (position of rel32, leader)
        self.leaving: list[Leaving] = []
        self.labels: dict[int, int] = {}  # leader -> host offset
        self.relocations: list[int] = []
        self.sites = sites
        self.movable = not verify and sites is None
        self.anywhere = anywhere
        self.plain_stack = mode.stack32 and mode.segments[SS] == FLAT and not mode.align
        self.unroll = unroll
        self.exact = exact
        self.copies: dict[int, int] = {}  # leader of a loop of one block -> how often it stands in the code
        self.early: list[tuple[int, int, int]] = []  # (position of rel32, to give back, EIP behind the loop)
        self.onward: list[tuple[int, int, int]] = []  # the same, to go on by the lookup table
        last_at, last = pieces[-1]
        self.length = last_at + last.insn.length

    def build(self) -> Fragment:
        """The fragment."""
        leaders, checked = self._leaders()
        need = self._needs(leaders, checked)
        code = self.code
        linear = self.cs_base + self.eip & 0xFFFF_FFFF
        self.points.add(0, 0, 0)
        if self.anywhere:
            self.relocations.append(len(_WHERE))
            code += _WHERE + linear.to_bytes(4, "little") + _VERIFY
        else:
            self.relocations.append(~(len(code) + 5))
            code += b"\x47\x0f\xb6\x8c\x07"  # movzx r9d, byte [r15 + r8 + VERIFY - linear]
            code += (layout.VERIFY - linear & 0xFFFF_FFFF).to_bytes(4, "little")
            if floats(self.mode, self.cs_base):
                code += _AT_HOME
        entry = len(code)
        if self.verify:
            self._compare(b"".join(piece.insn.raw for _, piece in self.pieces), linear)  # the next page's bytes too
        bounds = [*leaders, len(self.pieces)]
        for leader, end in pairwise(bounds):
            self._block(leader, end, need[leader] if leader in checked else 0)
        self._tail()
        treatments: dict[str, int] = {}
        for _, piece in self.pieces:
            treatments[piece.treatment] = treatments.get(piece.treatment, 0) + 1
        return Fragment(
            self.eip,
            self.mode,
            self.cs_base,
            code,
            entry,
            Exits.listed(self.exits),
            Points.listed(self.points),
            len(self.pieces),
            linear,
            self.length,
            treatments,
            tuple(self.relocations),
            self.movable,
            tuple(self.exits.direct),
            self.anywhere,
            self.pieces[-1][1].insn.row.how in ("call", "call_rm"),
        )

    # Blocks ------------------------------------------------------------------------------------------

    def _internal(self, at: int, insn: Insn) -> int:
        """The leader that a relative branch goes to, or -1 if it leaves the unit."""
        if self.verify or not insn.row.imm or insn.row.how == "ret":
            return -1
        return self.index.get(target_of(insn, self.eip + at + insn.length) - self.eip, -1)

    def _leaders(self) -> tuple[list[int], set[int]]:
        """Indices of pieces that start a block, and those of them that check the budget."""
        leaders, checked = {0}, {0}
        count = len(self.pieces)
        if self.exact:
            leaders = checked = set(range(count))
        for n, (at, piece) in enumerate(self.pieces):
            if piece.kind == PLAIN:
                continue
            if n + 1 < count:
                leaders.add(n + 1)
            if piece.kind == BRANCH and (to := self._internal(at, piece.insn)) >= 0:
                self.internal[n] = to
                leaders.add(to)
                if to <= n:
                    checked.add(to)
        return sorted(leaders), checked

    def _needs(self, leaders: list[int], checked: set[int]) -> dict[int, int]:
        """The longest path in instructions from each leader to an exit or the next check."""
        need: dict[int, int] = {}
        bounds = [*leaders, len(self.pieces)]
        for i in range(len(leaders) - 1, -1, -1):
            leader, end = bounds[i], bounds[i + 1]
            last = self.pieces[end - 1][1]
            count, beyond, to = end - leader, 0, -1
            falls = last.kind not in ENDS_UNIT
            if last.kind == BRANCH:
                to = self.internal.get(end - 1, -1)
                if to >= end and to not in checked:
                    beyond = need[to]
                falls = last.insn.row.how in ("jcc", "loop")
            if falls and end < len(self.pieces) and end not in checked:
                beyond = max(beyond, need[end])
            if self.unroll and to == leader and last.insn.row.how == "jcc":
                copies = min(MAX_COPIES, (MAX_INSNS - beyond) // count)
                if copies > 1:
                    self.copies[leader] = copies
                    count *= copies
            need[leader] = count + beyond
        return need

    def _block(self, leader: int, end: int, check: int) -> None:
        code, copies, length = self.code, self.copies.get(leader, 1), end - leader
        count = copies * length
        self.labels[leader] = len(code)
        self.points.add(len(code), self.pieces[leader][0], 0)
        if check:
            code += _check(check)
        code += b"\x4d\x8d\x76" + (-count).to_bytes(1, "little", signed=True)  # lea r14, [r14 - count]
        for copy in range(copies):
            if copy:
                self._leave_early(*self.pieces[end - 1], count - copy * length)
            self._body(leader, end, count - copy * length)
        at, piece = self.pieces[end - 1]
        eip, after = self.eip + at & 0xFFFF_FFFF, self.eip + at + piece.insn.length
        if piece.kind == BRANCH:
            self.movable &= piece.insn.opsize == 4
            BRANCHES[piece.insn.row.how](self, piece.insn, after, self.internal.get(end - 1, -1))
        elif piece.kind == CALLOUT:
            kind = "undefined" if piece.insn.row is UNDEFINED else "callout"
            self._leave(kind, eip, piece.insn)
        elif piece.kind == LEAVES:
            self._indirect()
        elif piece.kind == ONWARD:
            self._leave("direct", after & 0xFFFF_FFFF)
        elif piece.kind == GONE:
            pass
        else:
            if piece.kind == ATTENTION:
                self.points.add(len(code), after - self.eip, 0, (), piece.shadow)
                code += _ATTENTION
            if self.exact and piece.shadow and end < len(self.pieces):
                self.points.add(len(code), after - self.eip, 0, (), True)
                code += _check(1)
            if end == len(self.pieces) and piece.shadow:
                self._leave("shadow", after & 0xFFFF_FFFF)
            elif end == len(self.pieces):
                self._go(after)

    def _body(self, leader: int, end: int, refund: int) -> None:
        """The code of a block's pieces; *refund* instructions have been taken off for the first and what follows it."""
        code, point = self.code, self.points.add
        for at, piece in self.pieces[leader:end]:
            if self.sites is not None:
                point(len(code), at, refund)
                site = Site(self.eip + at & 0xFFFF_FFFF, piece.insn.raw, self.mode.code32)
                code += recorder(refund, self.sites.number(site))
            if piece.code or piece.kind >= CALLOUT:
                point(len(code), at, refund, piece.fixes)
                if piece.branches:
                    self._branches(at, piece, refund)
                code += piece.code
            refund -= 1

    def _branches(self, at: int, piece: Piece, refund: int) -> None:
        """What the jumps out of a piece, whose code comes next, lead to."""
        start, eip = len(self.code), self.eip + at & 0xFFFF_FFFF
        for branch in piece.branches:
            # A callout completes the instruction, so only those after it are given back.
            back = refund if branch.kind == "fault" else refund - 1
            insn = piece.insn if branch.kind == "callout" else None
            if branch.kind == "onward":
                self.onward.append((start + branch.at, back, eip + piece.insn.length))
                continue
            self.leaving.append((start + branch.at, branch.kind, eip, insn, branch.value, back, branch.restore))

    # Ways out ------------------------------------------------------------------------------------------

    def _leave_early(self, at: int, piece: Piece, back: int) -> None:
        """Out of an unrolled loop between two copies of it: the branch that does not go round."""
        self.code += bytes((0x0F, 0x80 | (piece.insn.opcode & 0x0F ^ 1))) + b"\0\0\0\0"
        self.early.append((len(self.code) - 4, back, self.eip + at + piece.insn.length))

    def _leave(self, kind: str, eip: int, insn: Insn | None = None, vector: int = 0) -> None:
        """An exit, here and now."""
        self._stub(len(self.code), kind, eip, insn, vector)

    def _go(self, eip: int, internal: int = -1) -> None:
        """To a block of this unit, or a direct exit here and now."""
        if internal >= 0:
            self._jump(eip, internal)
        else:
            self._leave("direct", eip & 0xFFFF_FFFF)

    def _jump(self, eip: int, internal: int) -> None:
        """JMP rel32, five bytes, to a block of this unit or a direct exit."""
        self.code += b"\xe9\0\0\0\0"
        self._bind(len(self.code) - 4, eip, internal)

    def _bind(self, at: int, eip: int, internal: int) -> None:
        if internal >= 0:
            self.jumps.append((at, internal))
        else:
            self.leaving.append((at, "direct", eip & 0xFFFF_FFFF, None, 0, 0, False))

    def _indirect(self) -> None:
        """To the EIP in r10d by the lookup table."""
        if self.cs_base:
            self.code += b"\x45\x8d\x82" + self.cs_base.to_bytes(4, "little")  # lea r8d, [r10 + cs_base]
        else:
            self.code += b"\x45\x89\xd0"  # mov r8d, r10d
        self.code += _INDIRECT

    def _by_lookup(self, eip: int) -> None:
        """To a known EIP by the lookup table."""
        if self.anywhere:
            self.relocations.append(len(self.code) + len(_MOVED_TARGET))
            self.code += _MOVED_TARGET + (eip & 0xFFFF_FFFF).to_bytes(4, "little") + _INDIRECT
            return
        self.relocations.append(len(self.code) + 2)
        self.code += (
            b"\x41\xb8" + (self.cs_base + eip & 0xFFFF_FFFF).to_bytes(4, "little") + _INDIRECT
        )  # mov r8d, linear

    def _fallthrough(self, eip: int) -> None:
        """Go on after a conditional branch: nothing to do if that block follows."""
        if eip - self.eip not in self.index:
            self._go(eip)

    def _jmp(self, insn: Insn, after: int, internal: int) -> None:
        self._go(target_of(insn, after), internal)

    def _jcc(self, insn: Insn, after: int, internal: int) -> None:
        self.code += bytes((0x0F, 0x80 | insn.opcode & 0x0F)) + b"\0\0\0\0"
        self._bind(len(self.code) - 4, target_of(insn, after), internal)
        self._fallthrough(after)

    def _loop(self, insn: Insn, after: int, internal: int) -> None:
        code, target = self.code, target_of(insn, after)
        following = self.index.get(after - self.eip, -1)
        if insn.adsize == 4:
            if insn.opcode < 0xE2:
                code += b"\xeb\x00"  # where LOOPE finds ECX zero, Unicorn takes the flags from the last jump
            code += bytes((0x67, insn.opcode, 5))
            self._jump(after, following)
            self._go(target, internal)
            return
        if insn.opcode != 0xE3:
            code += asm("lea r8d, [rcx-1]; mov cx, r8w")
            if insn.opcode != 0xE2:
                code += b"\x0f\x85\0\0\0\0" if insn.opcode == 0xE1 else b"\x0f\x84\0\0\0\0"
                self._bind(len(code) - 4, after, following)
        zero, nonzero = ((target, internal), (after, following))
        if insn.opcode != 0xE3:
            zero, nonzero = nonzero, zero
        code += _NARROW_COUNT
        self._jump(*nonzero)
        code += _RCX_BACK
        self._go(*zero)

    def _push_return(self, insn: Insn, after: int, keep_r10: bool) -> None:
        size = insn.opsize
        if size == 4 and self.plain_stack and not self.anywhere:
            self.code += _PUSH + (after & 0xFFFF_FFFF).to_bytes(4, "little") + _PUSHED
            self.relocations.append(len(self.code) - len(_PUSHED) - 4)
            return
        e = Emitter(self.mode)
        park = keep_r10 and self.mode.segments[SS] == CHECKED
        if park:
            e.op(b"\x89", R10, block_operand(layout.SCRATCH), wide=True)
        slot = stack(e, -size, size, True)
        if self.anywhere:
            e.code += _MOVED + (after & 0xFFFF_FFFF).to_bytes(4, "little")
            self.relocations.append(len(self.code) + len(e.code) - 4)
            e.store(R9, size, slot)
            move_stack_pointer(e, -size)
            self._append(e, after - insn.length)
            return
        imm = (after & (1 << 8 * size) - 1).to_bytes(size, "little")
        e.op(b"\xc7", 0, slot, imm, b"\x66" if size == 2 else b"")
        self.relocations.append(len(self.code) + len(e.code) - 4)
        if park:
            e.op(b"\x8b", R10, block_operand(layout.SCRATCH), wide=True)
        move_stack_pointer(e, -size)
        self._append(e, after - insn.length)

    def _append(self, e: Emitter, eip: int) -> None:
        """Add code of a branch that may fault; its instruction is the last of its block."""
        start = len(self.code)
        self.code += e.code
        for branch in e.branches:
            self.leaving.append(
                (start + branch.at, branch.kind, eip & 0xFFFF_FFFF, None, branch.value, 1, branch.restore)
            )

    def _call(self, insn: Insn, after: int, internal: int) -> None:
        self._push_return(insn, after, False)
        self._go(target_of(insn, after), internal)

    def _target_in_r10(self, insn: Insn, after: int) -> None:
        e = Emitter(self.mode)
        if insn.mem:
            e.load(R10, insn.opsize, memory(e, insn, insn.opsize, False))
        elif insn.opsize == 4:
            e.code += bytes((0x41, 0x89, 0xC2 | insn.rm << 3))  # mov r10d, reg
        else:
            e.code += bytes((0x44, 0x0F, 0xB7, 0xD0 | insn.rm))  # movzx r10d, reg16
        self._append(e, after - insn.length)

    def _jmp_rm(self, insn: Insn, after: int, internal: int) -> None:
        self._target_in_r10(insn, after)
        self._indirect()

    def _call_rm(self, insn: Insn, after: int, internal: int) -> None:
        self._target_in_r10(insn, after)
        self._push_return(insn, after, True)
        self._indirect()

    def _ret(self, insn: Insn, after: int, internal: int) -> None:
        if insn.opcode == 0xC3 and insn.opsize == 4 and self.plain_stack:
            self.code += _POP
            self._indirect()
            return
        e = Emitter(self.mode)
        e.load(R10, insn.opsize, stack(e, 0, insn.opsize, False))
        move_stack_pointer(e, insn.opsize + (insn.imm if insn.opcode == 0xC2 else 0))
        self._append(e, after - insn.length)
        self._indirect()

    def _compare(self, source: bytes, linear: int) -> None:
        """Compare the guest's code with what was translated; leave if it changed."""
        code = self.code
        start = len(code)
        code += _SAVE
        for at in range(0, len(source), 8):
            chunk = source[at : at + 8]
            address = (linear + at & 0xFFFF_FFFF).to_bytes(4, "little")
            if len(chunk) == 8:
                code += b"\x49\xb9" + chunk + b"\x67\x4c\x39\x0c\x25" + address  # mov r9, imm64; cmp [address], r9
                self._unless_equal()
                continue
            for n, byte in enumerate(chunk):
                address = (linear + at + n & 0xFFFF_FFFF).to_bytes(4, "little")
                code += b"\x67\x80\x3c\x25" + address + bytes((byte,))  # cmp byte [address], imm8
                self._unless_equal()
        code += _RESTORE
        self.points.add(start, 0, 0, ((len(_SAVE), len(code) - start, "saved"),))

    def _unless_equal(self) -> None:
        self.code += b"\x0f\x85\0\0\0\0"
        self.leaving.append((len(self.code) - 4, "changed", self.eip, None, 0, 0, True))

    def _tail(self) -> None:
        """Stubs behind the blocks, and the jumps to them."""
        code = self.code
        for at, back, eip in self.early:
            code[at : at + 4] = (len(code) - at - 4).to_bytes(4, "little", signed=True)
            code += b"\x4d\x8d\x76" + back.to_bytes(1, "little")  # lea r14, [r14 + back]
            self._go(eip, self.index.get(eip - self.eip, -1))
        for at, back, eip in self.onward:
            code[at : at + 4] = (len(code) - at - 4).to_bytes(4, "little", signed=True)
            if back:
                code += b"\x4d\x8d\x76" + back.to_bytes(1, "little")  # lea r14, [r14 + back]
            self._by_lookup(eip)
        for at, leader in self.jumps:
            code[at : at + 4] = (self.labels[leader] - at - 4).to_bytes(4, "little", signed=True)
        sites: dict[tuple[str, int, Insn | None, int, int, bool], list[int]] = {}
        for at, kind, eip, insn, vector, refund, restore in self.leaving:
            sites.setdefault((kind, eip, insn, vector, refund, restore), []).append(at)
        for (kind, eip, insn, vector, refund, restore), jumps in sites.items():
            stub = len(code)
            if restore:
                code += _RESTORE
            self._stub(stub, kind, eip, insn, vector, refund, tuple(jumps))
            for at in jumps:
                code[at : at + 4] = (stub - at - 4).to_bytes(4, "little", signed=True)

    def _stub(
        self,
        start: int,
        kind: str,
        eip: int,
        insn: Insn | None,
        vector: int,
        refund: int = 0,
        sites: tuple[int, ...] = (),
    ) -> None:
        """The rest of the stub that begins at *start*: it leaves for the VMM."""
        code = self.code
        code += STUB
        number = len(code)
        code += b"\0\0\0\0" + _TO_VMM
        lookup = -1
        if kind == "direct":
            lookup = len(code)
            self._by_lookup(eip)
        offset = eip - self.eip & 0xFFFF_FFFF
        self.exits.add(kind, offset, start, number, sites, lookup, insn, vector, refund)


BRANCHES: Final[dict[str, Callable[[Blocks, Insn, int, int], None]]] = {
    "jcc": Blocks._jcc,
    "jmp": Blocks._jmp,
    "call": Blocks._call,
    "ret": Blocks._ret,
    "jmp_rm": Blocks._jmp_rm,
    "call_rm": Blocks._call_rm,
    "loop": Blocks._loop,
}
"""How a branch is laid out, by the name that the rule table gives it."""
