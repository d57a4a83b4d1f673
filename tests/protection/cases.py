"""Random cases for the oracle, a family for each group of instructions; a seed makes a family."""

from __future__ import annotations

from random import Random

from tests.protection.oracle import Case
from tests.protection.tables import (
    CONFORMING,
    GDT,
    HANDLERS,
    HANDLERS16,
    IDT,
    KCODE,
    KCODE16,
    KCODE_F,
    KDATA,
    KSTACK16,
    LDT,
    LDT_SEL,
    R1CODE,
    R1DATA,
    R2CODE,
    R2DATA,
    TARGET,
    TEST,
    TSS_A,
    TSS_A_SEL,
    TSS_B,
    TSS_B_SEL,
    TSS_MAIN,
    TSS_SEL,
    UCODE,
    UCODE16,
    UDATA,
    descriptor,
    gate,
)

RINGS = (0, 1, 2, 3)
CODES = (KCODE, R1CODE | 1, R2CODE | 2, UCODE | 3)
STACKS = (KDATA, R1DATA | 1, R2DATA | 2, UDATA | 3)
TEMPLATE = (*range(0, TEST, 8), 4, 12, 20)
OFFSETS = (TARGET, TARGET & 0xFFFF)
EFLAGS = (0x2, 0x3002, 0x1002, 0x2002, 0xC97, 0x203)


def slot(selector: int) -> int:
    """Linear address of a selector's descriptor in the cases' tables."""
    return (LDT if selector & 4 else GDT) + (selector & 0xFFF8)


def any_descriptor(r: Random) -> int:
    """Mostly present, of any type, flat or small."""
    access = r.randrange(256) | (0x80 if r.random() < 0.85 else 0)
    if r.random() < 0.5:
        access |= 0x10
    base, limit = r.choice(((0, 0xFFFFF), (0, 0xFFFFF), (0xF0000, 0xFFFF), (0, 0xFFFF), (0, 0x1FFF), (TSS_A, 0x67)))
    return descriptor(base, limit, access, r.choice((0, 4, 8, 12) if base == 0 else (0, 4)))


def any_selector(r: Random) -> int:
    """The test slots, the template's, the LDT's, null, beyond the limits; any RPL."""
    kind = r.random()
    if kind < 0.5:
        index = r.choice((TEST, TEST + 8, 0x1C))
    elif kind < 0.9:
        index = r.choice(TEMPLATE)
    else:
        index = r.choice((0, 0x138, 0x140, 0x148, 0x7C, 0x84, 0xFFF8))
    return index | r.randrange(4)


def some_patches(r: Random) -> dict[int, int]:
    return {slot(selector): any_descriptor(r) for selector in (TEST, TEST + 8, 0x1C)}


def loads(r: Random) -> Case:
    register = r.choice(("ds", "es", "fs", "gs", "ss", "ss"))
    selector = any_selector(r)
    name = f"{register} <- {selector:x}"
    return Case(name, f"mov ax, {selector}\n mov {register}, ax", r.choice(RINGS), patches=some_patches(r))


def queries(r: Random) -> Case:
    selector = any_selector(r)
    lines = [f"mov ecx, {selector}", "mov edx, ecx"]
    for query in ("lar eax, ecx", "lsl ebx, ecx", "verr cx", "verw cx", "lar si, cx", "lsl di, cx"):
        lines += [query, "pushfd"]
    lines += [f"mov eax, {r.randrange(4)}", "arpl dx, ax", "pushfd"]
    return Case(f"query {selector:x}", "\n".join(lines), r.choice(RINGS), patches=some_patches(r))


def system_registers(r: Random) -> Case:
    selector = any_selector(r)
    patches = some_patches(r)
    what = r.choice(("lldt", "ltr"))
    if r.random() < 0.7:
        types = (2,) if what == "lldt" else (1, 9, 3, 11)
        patches[slot(TEST)] = descriptor(TSS_A, 0x67, r.choice((0x80, 0xA0, 0xE0, 0)) | r.choice(types))
    code = f"mov ax, {selector}\n {what} ax\n sldt ebx\n str ecx"
    return Case(f"{what} {selector:x}", code, r.choice((0, 0, 0, 3)), patches=patches)


def gate_patches(r: Random) -> dict[int, int]:
    """Gates of all kinds in the test slots."""
    patches = some_patches(r)
    for selector in (TEST, 0x1C):
        if r.random() < 0.8:
            target = r.choice((*CODES, KCODE16, KCODE_F, CONFORMING, CONFORMING, UCODE16, TEST + 8, any_selector(r)))
            if r.random() < 0.25:
                target = r.choice((TSS_A_SEL, TSS_B_SEL, TSS_SEL))
            access = r.choice((0x84, 0x8C, 0x8C, 0x85)) | r.choice((0, 0x60, 0x60, 0x60, 0x20))
            if r.random() < 0.1:
                access &= 0x7F
            patches[slot(selector)] = gate(target, r.choice(OFFSETS), access, r.choice((0, 0, 1, 3, 8)))
    if r.random() < 0.2:  # a broken inner stack
        ring = r.randrange(3)
        esp = r.choice((0x6000, 0x10, 0x1000_0008, 0x8000))
        patches[TSS_MAIN + 4 + 8 * ring] = esp | any_selector(r) << 32
    if r.random() < 0.05:
        patches[GDT + TSS_SEL] = descriptor(TSS_MAIN, r.choice((8, 9, 10, 17, 25)), 0x89)
    return patches


def transfers(r: Random) -> Case:
    selector = any_selector(r)
    name = r.choice(("jmp", "call"))
    width = r.choice(("dword", "dword", "word"))
    offset = r.choice(OFFSETS)
    pushes = "\n".join(f"push dword {n}" for n in range(0x1010, 0x1018))
    if width == "word":
        offset &= 0xFFFF
    code = f"{pushes}\n {name} {width} {selector}:{offset}"
    return Case(f"{name} {width} {selector:x}:{offset:x}", code, r.choice(RINGS), patches=gate_patches(r))


def gate_round_trips(r: Random) -> Case:
    """CALL through a gate to ``retf 8`` and back."""
    ring = r.choice((0, 1, 2, 3))
    inner = r.choice((KCODE, R1CODE, R2CODE, CONFORMING, UCODE | 3))
    patches = {slot(TEST): gate(inner, TARGET + 2, 0xEC, r.choice((2, 2, 2, 0)))}
    code = f"push dword 1\n push dword 2\n call {TEST | 3}:0\n mov ax, ds"
    return Case(f"round trip {ring} {inner:x}", code, ring, patches=patches)


def returns(r: Random) -> Case:
    ring = r.choice(RINGS)
    selector = any_selector(r) if r.random() < 0.5 else r.choice((*CODES, CONFORMING | r.randrange(4)))
    stack = any_selector(r) if r.random() < 0.4 else STACKS[selector & 3]
    offset = r.choice(OFFSETS)
    release = r.choice((0, 0, 4, 8))
    push = r.choice(("dword", "dword", "word"))
    lines = [f"mov ax, {r.choice((UDATA | 3, 0, CONFORMING))}", "mov gs, ax"]
    if push == "word":
        values = [stack, 0x9000, *([0xAA] * (release // 2))]
    else:
        values = [stack, r.choice((0x9000, 0x8FF8, 0x1_8FF0)), *([0xAA] * (release // 4))]
    values += [selector, offset]
    lines += [f"push {push} {value & (0xFFFF if push == 'word' else 0xFFFFFFFF)}" for value in values]
    lines.append(("o16 " if push == "word" else "") + f"retf {release}")
    return Case(f"retf {release} {push} {selector:x} {stack:x}", "\n".join(lines), ring, patches=some_patches(r))


def irets(r: Random) -> Case:
    ring = r.choice(RINGS)
    selector = any_selector(r) if r.random() < 0.4 else r.choice((*CODES, CONFORMING | r.randrange(4)))
    stack = any_selector(r) if r.random() < 0.3 else STACKS[selector & 3]
    push = r.choice(("dword", "dword", "word"))
    image = r.getrandbits(22) & ~0x2_0100 | 2  # neither TF nor VM
    if ring:
        image |= r.choice((0, 0x2_0000))
    mask = 0xFFFF if push == "word" else 0xFFFF_FFFF
    values = [stack, r.choice((0x9000, 0x8FF8)), image & ~0x4000, selector, r.choice(OFFSETS)]
    lines = [f"push {push} {value & mask}" for value in values]
    lines.append("o16 iret" if push == "word" else "iretd")
    patches = {at: value | 0x80 << 40 for at, value in some_patches(r).items()}  # for Bochs an absent SS is #NP
    name = f"iret {push} {image:x} {selector:x}"
    return Case(name, "\n".join(lines), ring, r.choice(EFLAGS), patches=patches)


def flag_loads(r: Random) -> Case:
    image = r.getrandbits(22) & ~0x100
    push, pop = r.choice((("dword", "popfd"), ("word", "o16 popf")))
    mask = 0xFFFF if push == "word" else 0xFFFF_FFFF
    code = f"push {push} {image & mask}\n {pop}\n pushfd\n o16 pushf"
    return Case(f"{pop} {image:x}", code, r.choice(RINGS), r.choice(EFLAGS))


def interrupts(r: Random) -> Case:
    """A gate of any kind for a software interrupt or a fault."""
    patches = gate_patches(r)
    vector, code = r.choice(
        (
            (0x61, "int 0x61"),
            (0x61, "int 0x61"),
            (3, "int3"),
            (6, "ud2"),
            (13, "mov ax, 0x2A8\n mov ds, ax"),
            (11, f"mov ax, {TEST + 16 | 3}\n mov ds, ax"),
            (1, "db 0xF1"),
            (4, "into"),
            (0x70, "int 0x70"),
        )
    )
    patches[slot(TEST + 16)] = descriptor(0, 0xFFFFF, 0x72, 0xC)
    access = r.choice((0x8E, 0x8E, 0x8F, 0x86, 0x87, 0x85)) | r.choice((0, 0x60, 0x60))
    if r.random() < 0.1:
        access = r.randrange(256)
    wide = access & 8
    kind = r.random()
    if access & 0x1F == 5:
        target, offset = r.choice((TSS_A_SEL, TSS_B_SEL, TSS_SEL, any_selector(r))), 0
    elif kind < 0.4:
        target, offset = r.choice((KCODE, CONFORMING)), HANDLERS + 16 * vector
    elif kind < 0.6:
        target, offset = r.choice((KCODE16, KCODE_F)), (HANDLERS16 + 16 * vector) & 0xFFFF
        if target == KCODE_F:
            offset = (HANDLERS + 16 * vector) & 0xFFFF
    else:
        target, offset = r.choice((*CODES, any_selector(r))), TARGET
    if not wide:
        offset &= 0xFFFF
    if offset not in OFFSETS and (target & 0xFFFC == CONFORMING or (not wide and target in (KCODE, CONFORMING))):
        offset = TARGET if wide else TARGET & 0xFFFF
    if vector < 0x70:
        patches[IDT + 8 * vector] = gate(target, offset, access)
    if r.random() < 0.15:
        patches[IDT + 8 * r.choice((11, 12, 13, 10))] = gate(KCODE, HANDLERS, r.choice((0x0E, 0x80, 0x8E)))
    return Case(
        f"vector {vector:x} gate {access:x} {target:x}:{offset:x}",
        code,
        r.choice(RINGS),
        r.choice((2, 0xA03, 0x3A02)),
        patches=patches,
    )


def task_switches(r: Random) -> Case:
    patches = some_patches(r)
    wide = r.random() < 0.7
    tss, selector = (TSS_A, TSS_A_SEL) if wide else (TSS_B, TSS_B_SEL)
    if r.random() < 0.7:  # one bad selector in the new task
        n = r.randrange(7 if wide else 4)
        if wide:
            values = [KDATA, KCODE, KDATA, KDATA, UDATA | 3, 0, LDT_SEL, 0x68_0000]
            values[n] = any_selector(r)
            low = n & ~1  # patches are pairs of double words
            patches[tss + 0x48 + 4 * low] = values[low] | values[low + 1] << 32
        else:
            values = [KDATA, KCODE_F, KSTACK16, KDATA]
            values[n] = any_selector(r)
            patches[tss + 0x22] = sum(value << 16 * i for i, value in enumerate(values))
    if r.random() < 0.2:
        patches[GDT + selector] = descriptor(
            tss, r.choice((0x67, 0x66, 0x2B, 0x2A)), r.choice((0x89, 0x8B, 0xE9, 0x09, 0x81, 0x83)) if wide else 0x81
        )
    if r.random() < 0.15 and wide:
        patches[tss + 0x60] = LDT_SEL | (0x68_0001 << 32)  # the T bit
    ring = r.choice((0, 0, 0, 3))
    if r.random() < 0.3:
        patches[slot(TEST)] = gate(selector, 0, 0xE5)
        selector = TEST
    how = r.choice(("jmp {}:0", "call {}:0", "call {}:0"))
    rpl = r.choice((0, 0, 3))
    return Case(f"{how} {selector:x} {wide}", how.format(selector | rpl), ring, r.choice(EFLAGS), patches=patches)


def nested_returns(r: Random) -> Case:
    """CALL to a task whose code is an IRET, and back; or IRET with NT and a bad back link."""
    if r.random() < 0.5:
        link = any_selector(r) if r.random() < 0.7 else r.choice((TSS_A_SEL, TSS_B_SEL))
        patches = some_patches(r)
        if r.random() < 0.7:
            patches[GDT + TSS_A_SEL] = descriptor(TSS_A, 0x67, r.choice((0x8B, 0x8B, 0x0B, 0x89)))
            patches[GDT + TSS_B_SEL] = descriptor(TSS_B, 0x2B, r.choice((0x83, 0x83, 0x03)))
        patches[TSS_MAIN] = link | 0x6000 << 32
        code = f"push dword {0x4000 | r.choice(EFLAGS)}\n popfd\n iretd"
        return Case(f"iret NT to {link:x}", code, r.choice((0, 0, 3)), patches=patches)
    wide = r.random() < 0.6
    if wide:
        patches = {TSS_A + 0x20: (TARGET + 0x10) | 2 << 32}
    else:
        patches = {TSS_B + 0x0E: 0x1010 | 2 << 16 | 0xB1 << 32 | 0xB2 << 48}
    selector = TSS_A_SEL if wide else TSS_B_SEL
    return Case(f"task round trip {wide}", f"call {selector}:0\n mov eax, 5", patches=patches)


def virtual_8086(r: Random) -> Case:
    iopl = r.choice((0, 0x3000, 0x3000))
    eflags = 0x2_0002 | iopl | r.choice((0, 0x200, 0x8_0000))
    image = r.getrandbits(22) & ~0x100
    target = TARGET & 0xFFFF
    body = r.choice(
        (
            "",
            "mov ax, 0x1234\n mov ds, ax\n mov fs, ax",
            "int3",
            "int 0x61",
            "cli",
            "sti",
            "pushf",
            "pushfd",
            f"push word {image & 0xFFFF}\n popf\n pushf",
            f"push dword {image}\n popfd\n pushfd",
            f"push word {image & 0xFFFF}\n push word 0xF000\n push word {target}\n iret",
            f"push dword {image}\n push dword 0xF000\n push dword {target}\n iretd",
            f"call 0xF000:{target}",
            f"jmp 0xF000:{target}",
            f"call dword 0xF000:{target}",
            f"jmp dword 0xF000:{target + 0x10000}",
            f"push word 0xF000\n push word {target}\n retf",
            f"push dword 0x1F000\n push dword {target}\n retfd 4",
            "hlt",
            "ud2",
            "mov dx, 0x52\n in al, dx",
            "mov dx, 0x51\n in ax, dx",
            "mov dx, 0x54\n in ax, dx",
            "str ax",
            "lldt ax",
            "verr ax",
            "arpl ax, bx",
        )
    )
    patches = {}
    if r.random() < 0.3:
        patches[IDT + 8 * 0x61] = gate(r.choice((KCODE, CONFORMING, UCODE | 3, R1CODE)), TARGET, r.choice((0xEE, 0xEF)))
    if r.random() < 0.2:
        patches[IDT + 8 * 6] = gate(KCODE_F, HANDLERS + 0x60 & 0xFFFF, 0x86)
    vme = r.random() < 0.5 and body not in ("cli", "sti")  # the interpreter's, without VIF
    frame = ("code - 0xE0000", 0xE000, eflags, 0x100, 0x8F0, 0x1111, 0x2222, 0x3333, 0x4444)
    if not vme:
        return Case(f"v86 {eflags:x} {body!r}", body, frame=frame, bits=16, patches=patches)
    for n in range(4):  # the redirection bitmap
        patches[TSS_MAIN + 0x68 + 8 * n] = 1 << 32 if r.random() < 0.7 else 0xFFFF_FFFF_FFFF_FFFF  # INT 60h never
    patches[4 * 0x60] = 0xF000_1000 << 32  # of vector 61h
    if r.random() < 0.3:
        frame = (*frame[:2], eflags & ~0x8_0000 | 0x10_0000, *frame[3:])
    pushes = "\n".join(f" push dword {word}" for word in reversed(frame)).replace("code - 0xE0000", "%%inner - 0xE0000")
    code = (
        f"%macro run 0\n mov eax, 1\n mov cr4, eax\n{pushes}\n iretd\n bits 16\n%%inner:\n{body}\n int 0x60\n"
        "%endmacro\n run\n%unmacro run 0\n bits 32\n"
    )
    return Case(f"vme {frame[2]:x} {body!r}", code, patches=patches)


def to_virtual_8086(r: Random) -> Case:
    """IRETD with VM set: at CPL 0 it enters virtual-8086 mode, elsewhere VM is ignored."""
    image = r.getrandbits(22) & ~0x100 | 0x2_0002
    values = [0x4444, 0x3333, 0x2222, 0x1111, 0x100, 0x8F0, image, 0xF000, TARGET & 0xFFFF]
    lines = [f"push dword {value}" for value in values] + ["iretd"]
    return Case(f"iret to v86 {image:x}", "\n".join(lines), r.choice((0, 0, 0, 3)))


def ports(r: Random) -> Case:
    port = r.choice((0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x1FE, 0x1FF, 0x200, 0x201, 0xFFFF))
    register = r.choice(("al", "ax", "eax"))
    patches = {}
    if r.random() < 0.3:
        patches[GDT + TSS_SEL] = descriptor(TSS_MAIN, r.choice((0x65, 0x66, 0x67, 0x88, 0x92, 0x93)), 0x89)
    code = f"mov edx, {port}\n in {register}, dx\n mov eax, 1"
    return Case(f"in {register} {port:x}", code, r.choice(RINGS), r.choice(EFLAGS), patches=patches)


FAMILIES = (
    loads,
    queries,
    system_registers,
    transfers,
    gate_round_trips,
    returns,
    irets,
    flag_loads,
    interrupts,
    task_switches,
    nested_returns,
    virtual_8086,
    to_virtual_8086,
    ports,
)
