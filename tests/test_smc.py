"""Self-modifying code: what is stored is what runs next, wherever the store is and whatever does it.

Registers at the end are worked out by hand; plain Unicorn agrees, and says how many instructions that takes.
"""

from __future__ import annotations

import pytest
from keystone import KS_ARCH_X86, KS_MODE_16, KS_MODE_32, Ks

from tests.e2e.asm import KERNEL, assemble, needs_nasm
from tests.support.engine import CONFIGURATIONS, BareEngine
from tests.support.plain import PlainUnicorn
from tests.support.state import CODE, ENVIRONMENTS, STACK, Case
from translator.assembler import in_hexadecimal
from translator.layout import EAX, EBX, ECX, EDX
from vmm.faults import PATIENCE, PROBATION_NS
from vmm.machine import Machine

AT = CODE + 0x100
BOUNDARY = CODE + 0x1000
"""Between the two pages of code."""
LAST_CALL = CODE + 0x1800

# name: (where it stands, assembly, {register: value at the end}).  Registers start at zero.
FLAT = {
    "the next instruction": (AT, "inc byte ptr [p+1]; p: mov eax, 5", {EAX: 6}),
    "the next instruction, which needs CF": (
        AT,
        "stc; inc byte ptr [p+2]; p: adc eax, 5",
        {EAX: 7},
    ),
    "ahead in the block": (AT, "mov byte ptr [p+1], 7; nop; nop; nop; p: mov eax, 5", {EAX: 7}),
    "ahead, behind a branch": (AT, "mov byte ptr [p+1], 7; jmp p; nop; p: mov eax, 5", {EAX: 7}),
    "behind, then run again": (
        AT,
        "p: mov eax, 5; add ebx, eax; mov byte ptr [p+1], 7; inc edx; cmp edx, 2; jne p",
        {EAX: 7, EBX: 12, EDX: 2},
    ),
    "in the running loop, each time": (
        AT,
        "mov ecx, 100; p: mov eax, 0; add ebx, eax; inc byte ptr [p+1]; dec ecx; jnz p",
        {EBX: 4950, ECX: 0, EAX: 99},
    ),
    "the storing instruction itself": (AT, "p: mov dword ptr [p], 0x90909090; mov eax, 5", {EAX: 5}),
    "the storing loop itself, once": (
        AT,
        "mov ecx, 3; p: inc edx; mov byte ptr [p], 0x43; dec ecx; jnz p",  # becomes inc ebx
        {EDX: 1, EBX: 2, ECX: 0},
    ),
    "by a function that the loop calls": (
        AT,
        "mov ecx, 5; p: add ebx, 1; call f; dec ecx; jnz p; jmp e; f: inc byte ptr [p+2]; ret; e: nop",
        {EBX: 15, ECX: 0},
    ),
    "by REP STOSB": (
        AT,
        "mov edi, p; mov ecx, 4; mov al, 0x42; rep stosb; p: nop; nop; nop; nop",
        {EDX: 4, EAX: 0x42},
    ),
    "by REP STOSB, in the running loop": (
        AT,
        "mov ebx, 3; p: nop; nop; nop; mov edi, p; mov ecx, 3; mov al, 0x42; rep stosb; dec ebx; jnz p",
        {EDX: 6, EBX: 0},
    ),
    "by REP MOVSB of code over code": (
        AT,
        "mov esi, q; mov edi, p; mov ecx, 5; rep movsb; jmp p; q: mov eax, 2; p: mov eax, 1",
        {EAX: 2},
    ),
    "by REP MOVSW over code that ran, backwards": (
        AT,
        (
            f"std; mov ebx, 1; mov eax, {LAST_CALL:#x}; mov byte ptr [eax], 0xc3; call eax;"
            f"lea esi, [q+6]; mov edi, {LAST_CALL + 6:#x}; mov ecx, 4; rep movsw; call eax; cld; jmp p;"
            "q: inc edx; inc edx; inc edx; ret; nop; nop; nop; nop; p: xor ebx, ebx"
        ),
        {EDX: 3, EBX: 0},
    ),
    "data beside code: many stores, no change": (
        AT,
        "mov ecx, 200; p: mov [d], ecx; add ebx, [d]; dec ecx; jnz p; jmp e; d: .long 0; e: nop",
        {EBX: 20100, ECX: 0},
    ),
    "data beside code, and then a change": (
        AT,
        (
            "mov esi, 1; mov ecx, 200; p: mov [d], ecx; add ebx, 1; dec ecx; jnz p;"
            "dec esi; js e; mov byte ptr [p+8], 2; mov ecx, 100; jmp p; d: .long 0; e: nop"
        ),
        {EBX: 400, ECX: 0},
    ),
    "a store across the boundary of pages": (
        BOUNDARY - 16,
        f"mov dword ptr [{BOUNDARY - 2:#x}], 0x42424242; nop; nop; nop; nop; nop; nop; nop; nop",
        {EDX: 4},
    ),
    "the second half of an instruction across the boundary": (
        BOUNDARY - 10,
        f"mov byte ptr [{BOUNDARY:#x}], 7; nop; mov eax, 0x05050505",
        {EAX: 0x0505_0705},
    ),
    "an instruction across the boundary, in a loop": (
        BOUNDARY - 12,
        f"p: inc byte ptr [{BOUNDARY + 1:#x}]; inc edx; nop; nop; mov eax, 0; add ebx, eax; cmp edx, 3; jne p",
        {EDX: 3, EAX: 0x300_0000, EBX: 0x600_0000},
    ),
    "the other page's code": (
        AT,
        (
            f"mov ecx, 3; p: mov eax, {LAST_CALL:#x}; mov byte ptr [eax], 0x42; mov byte ptr [eax+1], 0xc3; call eax;"
            f"mov byte ptr [{LAST_CALL:#x}], 0x43; call eax; dec ecx; jnz p"
        ),
        {EDX: 3, EBX: 3, ECX: 0},
    ),
    "return addresses beside code": (
        AT,
        "lea esp, [s+16]; mov ecx, 50; p: call f; dec ecx; jnz p; jmp e; s: .long 0, 0, 0, 0; f: inc edx; ret; e: nop",
        {EDX: 50, ECX: 0},
    ),
    "a conditional jump becomes its opposite": (
        AT,
        "cmp eax, 0; xor byte ptr [p], 1; cmp eax, 0; p: jz q; mov ebx, 1; jmp e; q: mov ebx, 2; e: nop",
        {EBX: 1},
    ),
    "a jump gets another target": (
        AT,
        "p: jmp q; q: inc ebx; mov byte ptr [p+1], 10; jmp p; nop; inc edx",
        {EBX: 1, EDX: 1},
    ),
}
REAL = {
    "the next instruction": (AT, "inc byte ptr cs:[p+1]; p: mov ax, 5", {EAX: 6}),
    "in the running loop, each time": (
        AT,
        "mov cx, 100; p: mov ax, 0; add bx, ax; inc byte ptr cs:[p+1]; dec cx; jnz p",
        {EBX: 4950, ECX: 0, EAX: 99},
    ),
    "data beside code: many stores, no change": (
        AT,
        "mov cx, 200; p: mov cs:[d], cx; add bx, cs:[d]; dec cx; jnz p; jmp e; d: .short 0; e: nop",
        {EBX: 20100, ECX: 0},
    ),
    "by REP STOSB": (
        AT,
        "push cs; pop es; mov di, p; mov cx, 4; mov al, 0x42; rep stosb; p: nop; nop; nop; nop",
        {EDX: 4, EAX: 0x42},
    ),
    "through another segment": (
        AT,
        "mov ax, 0x1ff0; mov ds, ax; inc byte ptr [p+0x101]; p: mov ax, 5",
        {EAX: 6},
    ),
}
ROWS = [("flat32", name, *row) for name, row in FLAT.items()] + [("real16", name, *row) for name, row in REAL.items()]


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def engine(request: pytest.FixtureRequest) -> BareEngine:
    return BareEngine(**CONFIGURATIONS[request.param])


@pytest.fixture(scope="module")
def plain() -> dict[str, PlainUnicorn]:
    return {"flat32": PlainUnicorn(False), "real16": PlainUnicorn(True)}


@pytest.mark.parametrize(
    ("mode", "at", "source", "values"), [(m, *row) for m, _, *row in ROWS], ids=[f"{m}: {n}" for m, n, *_ in ROWS]
)
def test_what_is_stored_runs(
    engine: BareEngine, plain: dict[str, PlainUnicorn], mode: str, at: int, source: str, values: dict[int, int]
) -> None:
    environment = ENVIRONMENTS[mode]
    base = environment.segments[1].base
    code, _ = Ks(KS_ARCH_X86, KS_MODE_32 if environment.code32 else KS_MODE_16).asm(in_hexadecimal(source), at - base)
    gpr = [0] * 8
    gpr[4] = STACK + 0x800 - environment.segments[2].base
    subject = Case(bytes(code), environment, tuple(gpr), at=at, max_insns=3000)
    outcome = engine.run_case(subject)
    assert outcome.end == "halt"
    assert {register: outcome.gpr[register] for register in values} == values
    if CF_MATTERS not in source:
        assert outcome.insns == plain[mode].run_case(subject).insns


CF_MATTERS = "adc"
"""Plain Unicorn loses CF when it begins a store into the running block anew."""


def test_a_repeated_store_into_its_own_code_across_two_pages_goes_on_behind_itself() -> None:
    # Eight NOPs across a page's end become INC EAX; the store itself stands in the second page.
    code = bytes.fromhex("90" * 8 + "fc b0 40 bf fc0f0200 b9 08000000 f3 aa")
    subject = Case(code, ENVIRONMENTS["flat32u"], (0,) * 4 + (0x4_0800, 0, 0, 0), 2, (), 0x2_0FFC)
    outcome = BareEngine().run_case(subject)
    assert (outcome.end, outcome.eip, outcome.insns) == ("halt", subject.eip + len(code), 13)
    assert outcome.memory == dict.fromkeys(range(0x2_0FFC, 0x2_1004), 0x40)


def test_an_immediate_in_the_next_page_is_seen_to_change_however_often() -> None:
    # INC byte [21000h]; MOV ESI, imm32, whose lowest byte stands there; JL back to the INC: until it is 0.
    code = bytes.fromhex("fe0500100200 be31cf594a 7cf3")
    subject = Case(code, ENVIRONMENTS["flat32u"], (0,) * 4 + (0x4_0800, 0, 0, 0), 2, (), 0x2_0FF8)
    outcome = BareEngine().run_case(subject)
    assert (outcome.end, outcome.insns, outcome.gpr[6]) == ("halt", 147, 0x4A59_0031)


ICOUNT = 10
FORGOTTEN = f"""{KERNEL}
        xor ebx, ebx
        mov esi, 2
again:  mov ebp, {PATIENCE + 4}
patch:  inc byte [f + 1]                ; its page has too many stores
        call f
        dec ebp
        jnz patch
        out 0xe9, al
        mov ecx, {3 * PROBATION_NS >> ICOUNT}
idle:   dec ecx
        jnz idle
        out 0xe9, al                    ; time has passed without one
        call f
        inc byte [f + 1]                ; its stores are seen again
        call f
        out 0xe9, al
        dec esi
        jnz again
        cli
        hlt
        times 0x2000 - ($ - $$) nop
f:      mov eax, 0
        add ebx, eax
        ret
"""


@needs_nasm
def test_a_page_that_is_left_alone_is_traced_again() -> None:
    seen: list[tuple[int, int]] = []
    with Machine(kernel=assemble(FORGOTTEN), memory="8M", icount=ICOUNT) as vm:
        vm.on("output.debugcon", lambda vm, data: seen.append((len(vm.engine.fragments.verified), vm.stats.smc_faults)))
        vm.run(max_insns=2_000_000)
        rounds = PATIENCE + 4
        assert vm.registers.ebx == sum(range(1, 2 * rounds + 3)) + rounds + (2 * rounds + 1)
    first = PATIENCE + 1
    assert seen == [(1, first), (0, first), (0, first + 1), (1, 2 * first), (0, 2 * first), (0, 2 * first + 1)]
