"""The rule table: one row owns an instruction.

Rows are keyed as Intel prints them: opcode map (one-byte or 0F), opcode, ModRM /digit, and for some the
form (memory or register).  The decoder, the translator, ``vmm rules``, the documentation, the test vectors
and the completeness test all read these rows.  **Default deny**: an opcode without a row raises #UD, and
nothing that has no row is ever copied into the translation cache.

Treatments
    ident     harmless: copied, its memory operand re-encoded for the host frame where it has one
    emulate   translated in the TC into other instructions with the same effect (IN-TC emulation)
    branch    ends a block: jumps, calls and returns inside a segment, translated into chained exits
    callout   leaves the TC: the VMM emulates it (``vmm.callouts``)
    undefined raises #UD on the processors we replicate

Reference: Intel SDM vol. 2, the entry of the instruction's name, and vol. 2 appendix A (opcode maps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

ONE_BYTE: Final = 0
TWO_BYTE: Final = 1
PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))


_STORES: Final = frozenset((0x86, 0x87, 0x88, 0x89, 0xC0, 0xC1, 0xC6, 0xC7, 0xD0, 0xD1, 0xD2, 0xD3))
_STORES_GROUPS: Final = frozenset(
    [(op, d) for op in (0x80, 0x81, 0x82, 0x83) for d in range(7)]
    + [(op, d) for op in (0xF6, 0xF7) for d in (2, 3)]
    + [(op, d) for op in (0xFE, 0xFF) for d in (0, 1)]
    + [(0xD9, d) for d in (2, 3, 6, 7)] + [(0xDB, d) for d in (2, 3, 7)]
    + [(op, d) for op in (0xDD, 0xDF) for d in (2, 3, 6, 7)]
)  # fmt: skip
_STORES_0F: Final = frozenset(
    (0x11, 0x13, 0x17, 0x29, 0x2B, 0x7E, 0x7F, *range(0x90, 0xA0), 0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xB0, 0xB1, 0xB3, 0xBB,
     0xC0, 0xC1, 0xC3, 0xD6, 0xE7)
)  # fmt: skip
_STORES_0F_GROUPS: Final = frozenset(((0xBA, 5), (0xBA, 6), (0xBA, 7), (0xC7, 1), (0xAE, 0), (0xAE, 3)))


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one instruction."""

    map: int
    opcode: int
    digit: int | None
    """ModRM /digit, or None where the opcode alone decides."""
    form: str
    """"m": memory operand only, "r": register operand only, "": either or no ModRM."""
    name: str
    treatment: str
    how: str
    """The emitter (emulate, branch) or the VMM's handler (callout)."""
    modrm: bool
    imm: str
    """Immediate: "" none, "b" 8 bits, "w" 16, "z" 16 or 32 by operand size, "p" far pointer, "a" address, "e" ENTER's."""
    size: str
    """Memory operand: b w d q o t = 1 2 4 8 16 10 bytes, v 2|4, p far pointer 4|6, a BOUND's 4|8, s 6, e 14|28, n 94|108, x 512, "" none."""
    flags: str
    """Arithmetic flags: "w" writes all and reads none, "n" touches none, "r" reads some or writes only some."""
    lock: bool
    """LOCK is allowed with a memory destination."""
    byte_reg: bool
    """The ModRM reg field names a byte register (AH CH DH BH matter under REX)."""
    prefixes: str
    """Mandatory prefixes that exist: any of "." (none) "6" (66h) "3" (F3h) "2" (F2h); "" if prefixes only modify."""
    privileged: str
    """Robin & Irvine's class: "" harmless, "S" sensitive, "P" privileged."""

    @property
    def stores(self) -> bool:
        """It writes its ModRM memory operand (emitters of ``emulate`` rows say so themselves)."""
        group = (self.opcode, self.digit)
        if self.map and self.opcode == 0x7E and self.prefixes == "3":
            return False
        if self.map:
            return self.opcode in _STORES_0F or group in _STORES_0F_GROUPS
        if self.opcode < 0x40:
            return self.opcode & 7 < 2 and self.opcode < 0x38
        return self.opcode in _STORES or group in _STORES_GROUPS

    @property
    def wide(self) -> bool:
        """The operand-size attribute matters: the host's default of 32 bits needs 66h for 16."""
        return self.size in ("v", "e", "n") or (self.map == 1 and self.opcode in (0xB6, 0xB7, 0xBE, 0xBF))

    @property
    def key(self) -> str:
        """The opcode as Intel prints it, such as ``0F 01 /2``."""
        text = ("0F " if self.map else "") + f"{self.opcode:02X}"
        return text + (f" /{self.digit}" if self.digit is not None else "") + (f" {self.form}" if self.form else "")

    @property
    def reference(self) -> str:
        """Where the manual describes it."""
        return f"SDM vol. 2, {self.name}"


_ALU: Final = ("ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP")
_SHIFT: Final = ("ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAL", "SAR")
CONDITIONS: Final = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

# opcode[/digit][m|r]  name  treatment[:how]  M (has ModRM)  i=imm  s=size  f=flags  L (lock)  g (byte reg)
# p=prefixes  S/P (sensitive, privileged)
_ONE: Final = """
06 PUSH emulate:push_seg S | 07 POP emulate:pop_seg S | 0E PUSH emulate:push_seg S | 16 PUSH emulate:push_seg S
17 POP emulate:pop_seg S | 1E PUSH emulate:push_seg S | 1F POP emulate:pop_seg S
27 DAA callout:daa f=r | 2F DAS callout:das f=r | 37 AAA callout:aaa f=r | 3F AAS callout:aas f=r
60 PUSHA emulate:pusha | 61 POPA emulate:popa | 62m BOUND callout:bound M s=a | 63 ARPL callout:arpl M s=w f=r S
68 PUSH emulate:push_imm i=z | 69 IMUL ident M i=z s=v f=w | 6A PUSH emulate:push_imm i=b | 6B IMUL ident M i=b s=v f=w
6C INS callout:ins P | 6D INS callout:ins P | 6E OUTS callout:outs P | 6F OUTS callout:outs P
84 TEST ident M s=b f=w g | 85 TEST ident M s=v f=w | 86 XCHG ident M s=b L g | 87 XCHG ident M s=v L
88 MOV ident M s=b g | 89 MOV ident M s=v | 8A MOV ident M s=b g | 8B MOV ident M s=v
8C MOV emulate:mov_from_seg M s=w S | 8Dm LEA emulate:lea M | 8E MOV emulate:mov_to_seg M s=w S | 8F/0 POP emulate:pop_rm M s=v
90 NOP ident | 98 CBW ident s=v | 99 CWD ident s=v | 9A CALLF callout:call_far i=p S | 9B FWAIT ident
9C PUSHF emulate:pushf S | 9D POPF emulate:popf f=w S | 9E SAHF ident f=r | 9F LAHF ident f=r
A0 MOV emulate:mov_moffs i=a s=b | A1 MOV emulate:mov_moffs i=a s=v | A2 MOV emulate:mov_moffs i=a s=b | A3 MOV emulate:mov_moffs i=a s=v
A4 MOVS emulate:string s=b | A5 MOVS emulate:string s=v | A6 CMPS emulate:string s=b f=r | A7 CMPS emulate:string s=v f=r
A8 TEST ident i=b f=w | A9 TEST ident i=z s=v f=w | AA STOS emulate:string s=b | AB STOS emulate:string s=v
AC LODS emulate:string s=b | AD LODS emulate:string s=v | AE SCAS emulate:string s=b f=r | AF SCAS emulate:string s=v f=r
C2 RET branch:ret i=w | C3 RET branch:ret | C4m LES callout:load_far M s=p S | C5m LDS callout:load_far M s=p S
C6/0 MOV ident M i=b s=b | C7/0 MOV ident M i=z s=v | C8 ENTER emulate:enter i=e | C9 LEAVE emulate:leave
CA RETF callout:ret_far i=w S | CB RETF callout:ret_far S | CC INT3 callout:int3 S | CD INT callout:int_n i=b S
CE INTO callout:into f=r S | CF IRET emulate:iret f=w S
D4 AAM callout:aam i=b f=r | D5 AAD callout:aad i=b f=r | D6 SALC callout:salc f=r | D7 XLAT emulate:xlat s=b
E0 LOOPNE branch:loop i=b f=r | E1 LOOPE branch:loop i=b f=r | E2 LOOP branch:loop i=b | E3 JCXZ branch:loop i=b
E4 IN emulate:in_imm i=b P | E5 IN callout:in_imm i=b P | E6 OUT emulate:out_imm i=b P | E7 OUT callout:out_imm i=b P
E8 CALL branch:call i=z | E9 JMP branch:jmp i=z | EA JMPF callout:jmp_far i=p S | EB JMP branch:jmp i=b
EC IN callout:in_dx P | ED IN callout:in_dx P | EE OUT callout:out_dx P | EF OUT callout:out_dx P
F1 INT1 callout:int1 S | F4 HLT callout:hlt P | F5 CMC ident f=r
F6/0 TEST ident M i=b s=b f=w | F6/1 TEST emulate:test_alias M i=b s=b f=w | F6/2 NOT ident M s=b L | F6/3 NEG ident M s=b f=w L
F6/4 MUL ident M s=b f=w | F6/5 IMUL ident M s=b f=w | F6/6 DIV ident M s=b f=r | F6/7 IDIV ident M s=b f=r
F7/0 TEST ident M i=z s=v f=w | F7/1 TEST emulate:test_alias M i=z s=v f=w | F7/2 NOT ident M s=v L | F7/3 NEG ident M s=v f=w L
F7/4 MUL ident M s=v f=w | F7/5 IMUL ident M s=v f=w | F7/6 DIV ident M s=v f=r | F7/7 IDIV ident M s=v f=r
F8 CLC ident f=r | F9 STC ident f=r | FA CLI emulate:cli P | FB STI emulate:sti P | FC CLD emulate:cld | FD STD emulate:std
FE/0 INC ident M s=b f=r L | FE/1 DEC ident M s=b f=r L
FF/0 INC ident M s=v f=r L | FF/1 DEC ident M s=v f=r L | FF/2 CALL branch:call_rm M s=v | FF/3m CALLF callout:call_far_m M s=p S
FF/4 JMP branch:jmp_rm M s=v | FF/5m JMPF callout:jmp_far_m M s=p S | FF/6 PUSH emulate:push_rm M s=v
"""

_TWO: Final = """
00/0 SLDT callout:sldt M s=w S | 00/1 STR callout:str M s=w S | 00/2 LLDT callout:lldt M s=w P | 00/3 LTR callout:ltr M s=w P
00/4 VERR callout:verr M s=w f=r S | 00/5 VERW emulate:verw M s=w f=r S
01/0m SGDT callout:sgdt M s=s S | 01/1m SIDT callout:sidt M s=s S | 01/2m LGDT callout:lgdt M s=s P | 01/3m LIDT callout:lidt M s=s P
01/4 SMSW callout:smsw M s=w S | 01/6 LMSW callout:lmsw M s=w P | 01/7m INVLPG emulate:invlpg M s=b P
02 LAR callout:lar M s=w f=r S | 03 LSL callout:lsl M s=w f=r S | 06 CLTS callout:clts P
08 INVD callout:invd P | 09 WBINVD callout:invd P | 0B UD2 undefined | 0D NOP ident:nop M s=b
10 MOVUPS ident M s=o p=.632 | 11 MOVUPS ident M s=o p=.632 | 12 MOVLPS ident M s=q p=. | 12m MOVLPD ident M s=q p=6
13m MOVLPS ident M s=q p=.6 | 14 UNPCKLPS ident M s=o p=.6 | 15 UNPCKHPS ident M s=o p=.6 | 16 MOVHPS ident M s=q p=.
16m MOVHPD ident M s=q p=6 | 17m MOVHPS ident M s=q p=.6
18 PREFETCHh ident:nop M s=b | 19 NOP ident:nop M s=b | 1A NOP ident:nop M s=b | 1B NOP ident:nop M s=b
1C NOP ident:nop M s=b | 1D NOP ident:nop M s=b | 1E NOP ident:nop M s=b | 1F NOP ident:nop M s=b
20 MOV emulate:mov_from_cr M P | 21 MOV emulate:mov_from_dr M P | 22 MOV callout:mov_to_cr M P | 23 MOV emulate:mov_to_dr M P
28 MOVAPS ident M s=o p=.6 | 29 MOVAPS ident M s=o p=.6 | 2A CVTPI2PS ident M s=q p=.632 | 2Bm MOVNTPS ident M s=o p=.6
2C CVTTPS2PI ident M s=o p=.632 | 2D CVTPS2PI ident M s=o p=.632 | 2E UCOMISS ident M s=q p=.6 f=w | 2F COMISS ident M s=q p=.6 f=w
30 WRMSR callout:wrmsr P | 31 RDTSC emulate:rdtsc S | 32 RDMSR callout:rdmsr P | 33 RDPMC callout:rdpmc S
34 SYSENTER emulate:sysenter S | 35 SYSEXIT emulate:sysexit P
50r MOVMSKPS ident M p=.6 | 51 SQRTPS ident M s=o p=.632 | 52 RSQRTPS ident M s=o p=.3 | 53 RCPPS ident M s=o p=.3
54 ANDPS ident M s=o p=.6 | 55 ANDNPS ident M s=o p=.6 | 56 ORPS ident M s=o p=.6 | 57 XORPS ident M s=o p=.6
58 ADDPS ident M s=o p=.632 | 59 MULPS ident M s=o p=.632 | 5A CVTPS2PD ident M s=o p=.632 | 5B CVTDQ2PS ident M s=o p=.63
5C SUBPS ident M s=o p=.632 | 5D MINPS ident M s=o p=.632 | 5E DIVPS ident M s=o p=.632 | 5F MAXPS ident M s=o p=.632
60 PUNPCKLBW ident M s=o p=.6 | 61 PUNPCKLWD ident M s=o p=.6 | 62 PUNPCKLDQ ident M s=o p=.6 | 63 PACKSSWB ident M s=o p=.6
64 PCMPGTB ident M s=o p=.6 | 65 PCMPGTW ident M s=o p=.6 | 66 PCMPGTD ident M s=o p=.6 | 67 PACKUSWB ident M s=o p=.6
68 PUNPCKHBW ident M s=o p=.6 | 69 PUNPCKHWD ident M s=o p=.6 | 6A PUNPCKHDQ ident M s=o p=.6 | 6B PACKSSDW ident M s=o p=.6
6C PUNPCKLQDQ ident M s=o p=6 | 6D PUNPCKHQDQ ident M s=o p=6 | 6E MOVD ident M s=d p=.6 | 6F MOVQ ident M s=o p=.63
70 PSHUFW ident M i=b s=o p=.632
71/2r PSRLW ident M i=b p=.6 | 71/4r PSRAW ident M i=b p=.6 | 71/6r PSLLW ident M i=b p=.6
72/2r PSRLD ident M i=b p=.6 | 72/4r PSRAD ident M i=b p=.6 | 72/6r PSLLD ident M i=b p=.6
73/2r PSRLQ ident M i=b p=.6 | 73/3r PSRLDQ ident M i=b p=6 | 73/6r PSLLQ ident M i=b p=.6 | 73/7r PSLLDQ ident M i=b p=6
74 PCMPEQB ident M s=o p=.6 | 75 PCMPEQW ident M s=o p=.6 | 76 PCMPEQD ident M s=o p=.6 | 77 EMMS ident p=.
7E MOVD ident M s=d p=.6 | 7E MOVQ ident M s=q p=3 | 7F MOVQ ident M s=o p=.63
A0 PUSH emulate:push_seg S | A1 POP emulate:pop_seg S | A2 CPUID callout:cpuid S | A3 BT emulate:bt_reg M s=v f=r
A4 SHLD ident M i=b s=v f=r | A5 SHLD ident M s=v f=r
A8 PUSH emulate:push_seg S | A9 POP emulate:pop_seg S | AB BTS emulate:bt_reg M s=v f=r L
AC SHRD ident M i=b s=v f=r | AD SHRD ident M s=v f=r
AE/0m FXSAVE emulate:fxsave M s=x p=. | AE/1m FXRSTOR ident M s=x p=. | AE/2m LDMXCSR ident M s=d p=. | AE/3m STMXCSR ident M s=d p=.
AE/5r LFENCE ident M p=. | AE/6r MFENCE ident M p=. | AE/7r SFENCE ident M p=. | AE/7m CLFLUSH emulate:clflush M s=b p=.
AF IMUL ident M s=v f=w | B0 CMPXCHG ident M s=b f=w L g | B1 CMPXCHG ident M s=v f=w L
B2m LSS callout:load_far M s=p S | B3 BTR emulate:bt_reg M s=v f=r L | B4m LFS callout:load_far M s=p S | B5m LGS callout:load_far M s=p S
B6 MOVZX ident M s=b | B7 MOVZX ident M s=w | B9 UD1 undefined M
BA/4 BT ident M i=b s=v f=r | BA/5 BTS ident M i=b s=v f=r L | BA/6 BTR ident M i=b s=v f=r L | BA/7 BTC ident M i=b s=v f=r L
BB BTC emulate:bt_reg M s=v f=r L | BC BSF ident M s=v f=r | BD BSR ident M s=v f=r | BE MOVSX ident M s=b | BF MOVSX ident M s=w
C0 XADD ident M s=b f=w L g | C1 XADD ident M s=v f=w L | C2 CMPPS emulate:cmpps M i=b s=o p=.632 | C3m MOVNTI ident M s=d p=.
C4 PINSRW ident M i=b s=w p=.6 | C5r PEXTRW ident M i=b p=.6 | C6 SHUFPS ident M i=b s=o p=.6 | C7/1m CMPXCHG8B emulate:cmpxchg8b M s=q f=r L
C8 BSWAP emulate:bswap | C9 BSWAP emulate:bswap | CA BSWAP emulate:bswap | CB BSWAP emulate:bswap
CC BSWAP emulate:bswap | CD BSWAP emulate:bswap | CE BSWAP emulate:bswap | CF BSWAP emulate:bswap
D1 PSRLW ident M s=o p=.6 | D2 PSRLD ident M s=o p=.6 | D3 PSRLQ ident M s=o p=.6 | D4 PADDQ ident M s=o p=.6
D5 PMULLW ident M s=o p=.6 | D6 MOVQ ident M s=q p=6 | D6r MOVQ2DQ ident M p=32 | D7r PMOVMSKB ident M p=.6
D8 PSUBUSB ident M s=o p=.6 | D9 PSUBUSW ident M s=o p=.6 | DA PMINUB ident M s=o p=.6 | DB PAND ident M s=o p=.6
DC PADDUSB ident M s=o p=.6 | DD PADDUSW ident M s=o p=.6 | DE PMAXUB ident M s=o p=.6 | DF PANDN ident M s=o p=.6
E0 PAVGB ident M s=o p=.6 | E1 PSRAW ident M s=o p=.6 | E2 PSRAD ident M s=o p=.6 | E3 PAVGW ident M s=o p=.6
E4 PMULHUW ident M s=o p=.6 | E5 PMULHW ident M s=o p=.6 | E6 CVTTPD2DQ ident M s=o p=632 | E7m MOVNTQ ident M s=o p=.6
E8 PSUBSB ident M s=o p=.6 | E9 PSUBSW ident M s=o p=.6 | EA PMINSW ident M s=o p=.6 | EB POR ident M s=o p=.6
EC PADDSB ident M s=o p=.6 | ED PADDSW ident M s=o p=.6 | EE PMAXSW ident M s=o p=.6 | EF PXOR ident M s=o p=.6
F1 PSLLW ident M s=o p=.6 | F2 PSLLD ident M s=o p=.6 | F3 PSLLQ ident M s=o p=.6 | F4 PMULUDQ ident M s=o p=.6
F5 PMADDWD ident M s=o p=.6 | F6 PSADBW ident M s=o p=.6 | F7r MASKMOVQ emulate:maskmov M s=o p=.6 | F8 PSUBB ident M s=o p=.6
F9 PSUBW ident M s=o p=.6 | FA PSUBD ident M s=o p=.6 | FB PSUBQ ident M s=o p=.6 | FC PADDB ident M s=o p=.6
FD PADDW ident M s=o p=.6 | FE PADDD ident M s=o p=.6 | FF UD0 undefined M
"""

_MMX: Final = (
    *range(0x63, 0x6C), 0x6F, 0x70, 0x74, 0x75, 0x76, 0x7F, *range(0xD1, 0xD6), *range(0xD8, 0xE6), *range(0xE7, 0xF0),
    *range(0xF1, 0xFF),
)  # fmt: skip
MEDIA_SIZES: Final[dict[tuple[int, str], int]] = {
    **{(opcode, "."): 8 for opcode in (*_MMX, 0x2C, 0x2D, 0x5A)},
    **{(opcode, "."): 4 for opcode in (0x2E, 0x2F, 0x60, 0x61, 0x62)},
    **{
        (opcode, "3"): 4
        for opcode in (0x10, 0x11, 0x2A, 0x2C, 0x2D, 0x51, 0x52, 0x53, *range(0x58, 0x5B), *range(0x5C, 0x60), 0xC2)
    },
    **{(opcode, "2"): 8 for opcode in (0x10, 0x11, 0x2C, 0x2D, 0x51, *range(0x58, 0x5B), *range(0x5C, 0x60), 0xC2)},
    (0x2A, "2"): 4,
    (0x2C, "6"): 16,
    (0x2D, "6"): 16,
    (0xE6, "3"): 8,
}
"""Bytes of the memory operand by 0F opcode and mandatory prefix, where it is not what the row says: rows of MMX and SSE
share an opcode among packed (16), scalar (4, 8) and MMX (8) forms."""

# x87 memory forms: name and operand size by opcode and /digit; register forms by opcode and /digit.
_X87_MEMORY: Final = {
    0xD8: "FADD:d FMUL:d FCOM:d FCOMP:d FSUB:d FSUBR:d FDIV:d FDIVR:d",
    0xD9: "FLD:d - FST:d FSTP:d FLDENV:e FLDCW:w FNSTENV:e FNSTCW:w",
    0xDA: "FIADD:d FIMUL:d FICOM:d FICOMP:d FISUB:d FISUBR:d FIDIV:d FIDIVR:d",
    0xDB: "FILD:d - FIST:d FISTP:d - FLD:t - FSTP:t",
    0xDC: "FADD:q FMUL:q FCOM:q FCOMP:q FSUB:q FSUBR:q FDIV:q FDIVR:q",
    0xDD: "FLD:q - FST:q FSTP:q FRSTOR:n - FNSAVE:n FNSTSW:w",
    0xDE: "FIADD:w FIMUL:w FICOM:w FICOMP:w FISUB:w FISUBR:w FIDIV:w FIDIVR:w",
    0xDF: "FILD:w - FIST:w FISTP:w FBLD:t FILD:q FBSTP:t FISTP:q",
}
_X87_REGISTER: Final = {
    0xD8: "FADD FMUL FCOM FCOMP FSUB FSUBR FDIV FDIVR",
    0xD9: "FLD FXCH FNOP FSTP FCHS/FABS/FTST/FXAM FLD1..FLDZ F2XM1.. FPREM..",
    0xDA: "FCMOVB FCMOVE FCMOVBE FCMOVU - FUCOMPP - -",
    0xDB: "FCMOVNB FCMOVNE FCMOVNBE FCMOVNU FNCLEX/FNINIT FUCOMI FCOMI -",
    0xDC: "FADD FMUL FCOM FCOMP FSUBR FSUB FDIVR FDIV",
    0xDD: "FFREE FXCH FST FSTP FUCOM FUCOMP - -",
    0xDE: "FADDP FMULP FCOMP FCOMPP FSUBRP FSUBP FDIVRP FDIVP",
    0xDF: "FFREEP FXCH FSTP FSTP FNSTSW FUCOMIP FCOMIP -",
}
UNDEFINED_X87: Final = frozenset(
    [(0xD9, m) for m in (*range(0xD1, 0xD8), 0xE2, 0xE3, 0xE6, 0xE7, 0xEF)]
    + [(0xDA, m) for m in range(0xE8, 0xF0) if m != 0xE9]
    + [(0xDB, m) for m in (0xE5, 0xE6, 0xE7)]
    + [(0xDE, m) for m in range(0xD8, 0xE0) if m != 0xD9]
    + [(0xDF, m) for m in range(0xE1, 0xE8)]
)
"""(opcode, ModRM) of register forms inside otherwise defined x87 rows that raise #UD."""


def _parse(map_: int, cell: str) -> Row:
    head, name, what, *attributes = cell.split()
    form = head[-1] if head[-1] in "mr" else ""
    opcode, _, digit = head.rstrip("mr").partition("/")
    treatment, _, how = what.partition(":")
    values = dict(a.split("=") for a in attributes if "=" in a)
    marks = {a for a in attributes if "=" not in a}
    return Row(
        map_, int(opcode, 16), int(digit) if digit else None, form, name, treatment, how, "M" in marks,
        values.get("i", ""), values.get("s", ""), values.get("f", "n"), "L" in marks, "g" in marks,
        values.get("p", ""), "P" if "P" in marks else "S" if "S" in marks else "",
    )  # fmt: skip


def _families() -> Iterator[tuple[int, str]]:
    for n, name in enumerate(_ALU):
        flags = "r" if name in ("ADC", "SBB") else "w"
        lock = "" if name == "CMP" else " L"
        base = 8 * n
        yield 0, f"{base:02X} {name} ident M s=b f={flags}{lock} g"
        yield 0, f"{base + 1:02X} {name} ident M s=v f={flags}{lock}"
        yield 0, f"{base + 2:02X} {name} ident M s=b f={flags} g"
        yield 0, f"{base + 3:02X} {name} ident M s=v f={flags}"
        yield 0, f"{base + 4:02X} {name} ident i=b f={flags}"
        yield 0, f"{base + 5:02X} {name} ident i=z s=v f={flags}"
        yield 0, f"80/{n} {name} ident M i=b s=b f={flags}{lock}"
        yield 0, f"81/{n} {name} ident M i=z s=v f={flags}{lock}"
        yield 0, f"82/{n} {name} emulate:alias_80 M i=b s=b f={flags}{lock}"
        yield 0, f"83/{n} {name} ident M i=b s=v f={flags}{lock}"
    for n, name in enumerate(_SHIFT):
        for opcode, size, imm in (
            (0xC0, "b", " i=b"),
            (0xC1, "v", " i=b"),
            (0xD0, "b", ""),
            (0xD1, "v", ""),
            (0xD2, "b", ""),
            (0xD3, "v", ""),
        ):
            how = "emulate:rotate_carry" if name in ("RCL", "RCR") else "ident"
            yield 0, f"{opcode:02X}/{n} {name} {how} M{imm} s={size} f=r"
    for n in range(8):
        yield 0, f"{0x40 + n:02X} INC emulate:inc_dec f=r"
        yield 0, f"{0x48 + n:02X} DEC emulate:inc_dec f=r"
        yield 0, f"{0x50 + n:02X} PUSH emulate:push_reg"
        yield 0, f"{0x58 + n:02X} POP emulate:pop_reg"
        yield 0, f"{0xB0 + n:02X} MOV ident i=b"
        yield 0, f"{0xB8 + n:02X} MOV ident i=z s=v"
    for n in range(1, 8):
        yield 0, f"{0x90 + n:02X} XCHG ident s=v"
    for n, condition in enumerate(CONDITIONS):
        yield 0, f"{0x70 + n:02X} J{condition} branch:jcc i=b f=r"
        yield 1, f"{0x40 + n:02X} CMOV{condition} ident M s=v f=r"
        yield 1, f"{0x80 + n:02X} J{condition} branch:jcc i=z f=r"
        yield 1, f"{0x90 + n:02X} SET{condition} emulate:setcc M s=b f=r"
    for opcode, cells in _X87_MEMORY.items():
        for n, cell in enumerate(cells.split()):
            if cell != "-":
                name, size = cell.split(":")
                yield 0, f"{opcode:02X}/{n}m {name} ident M s={size}"
    for opcode, cells in _X87_REGISTER.items():
        for n, cell in enumerate(cells.split()):
            if cell != "-":
                flags = "r" if cell.startswith(("FCMOV", "FUCOMI", "FCOMI")) else "n"
                how = "emulate:compare_real" if cell.startswith(("FUCOMI", "FCOMI")) else "ident"
                yield 0, f"{opcode:02X}/{n}r {cell} {how} M f={flags}"


def rows() -> list[Row]:
    """All rows, in the order of the opcode maps."""
    cells = [(0, cell) for cell in _ONE.replace("\n", "|").split("|")]
    cells += [(1, cell) for cell in _TWO.replace("\n", "|").split("|")]
    cells += _families()
    parsed = [_parse(map_, cell) for map_, cell in cells if cell.strip()]
    return sorted(parsed, key=lambda r: (r.map, r.opcode, r.digit or 0, r.form, r.prefixes))


class Entry:
    """An opcode's rows, found by ModRM.  ``modrm`` says whether the opcode has that byte at all."""

    __slots__ = ("by_modrm", "modrm", "plain")

    def __init__(self) -> None:
        self.plain: Row | None = None
        """The only row, whatever the ModRM byte says."""
        self.by_modrm: list[list[Row]] | None = None
        """Sixteen lists: /digit with a memory operand, then /digit with a register operand."""
        self.modrm = False


def _index() -> list[list[Entry]]:
    table = [[Entry() for _ in range(256)] for _ in range(2)]
    for row in rows():
        entry = table[row.map][row.opcode]
        entry.modrm = row.modrm
        if entry.by_modrm is None:
            entry.by_modrm = [[] for _ in range(16)]
        for digit in range(8) if row.digit is None else (row.digit,):
            if row.form != "r":
                entry.by_modrm[digit].append(row)
            if row.form != "m":
                entry.by_modrm[8 + digit].append(row)
    for entries in table:
        for entry in entries:
            if entry.by_modrm and all(c == entry.by_modrm[0] and len(c) == 1 for c in entry.by_modrm):
                entry.plain = entry.by_modrm[0][0]
    return table


TABLE: Final = _index()


def lookup(map_: int, opcode: int, modrm: int, mandatory: str) -> Row | None:
    """The row of an instruction, or None: undefined.  *mandatory* is "." "6" "3" or "2"."""
    entry = TABLE[map_][opcode]
    row = entry.plain
    if row is None:
        if entry.by_modrm is None:
            return None
        for row in entry.by_modrm[(modrm >> 3 & 7) + (8 if modrm >= 0xC0 else 0)]:
            if not row.prefixes or mandatory in row.prefixes:
                break
        else:
            return None
        if 0xD8 <= opcode <= 0xDF and not map_ and (opcode, modrm) in UNDEFINED_X87:
            return None
        return row
    return row if not row.prefixes or mandatory in row.prefixes else None
