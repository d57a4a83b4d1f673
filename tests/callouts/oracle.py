"""Plain Unicorn runs the same instruction from the same state."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import unicorn
from keystone import KS_ARCH_X86, KS_MODE_16, KS_MODE_32, Ks
from unicorn import x86_const as x86

from tests.callouts.machine import MEMORY_SIZE, Machine
from translator.assembler import in_hexadecimal
from translator.layout import CS, DS, ES, FS, GS, SS

CODE = 0x8000
GPR = [getattr(x86, f"UC_X86_REG_{name}") for name in ("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")]
SEGMENTS = {n: getattr(x86, f"UC_X86_REG_{name}") for n, name in enumerate(("ES", "CS", "SS", "DS", "FS", "GS"))}
REAL_SEGMENTS = {ES: 0x1800, SS: 0x2000, DS: 0x1000, FS: 0x2800, GS: 0x3000}
_assemblers = {False: Ks(KS_ARCH_X86, KS_MODE_16), True: Ks(KS_ARCH_X86, KS_MODE_32)}
_NOISE = random.Random(86).randbytes(MEMORY_SIZE)


def assemble(source: str, code32: bool) -> bytes:
    return bytes(_assemblers[code32].asm(in_hexadecimal(source))[0])


@dataclass
class State:
    """Registers and memory before or after an instruction."""

    gpr: list[int]
    eflags: int
    eip: int = CODE
    selectors: dict[int, int] = field(default_factory=dict)
    memory: bytes = b""
    vector: int | None = None


def random_state(seed: str, code32: bool, wide_address: bool, code: bytes, count: int) -> State:
    """A state in which every pointer leads into memory and every string ends there; ECX is *count*."""
    rng = random.Random(seed)
    low, high = (0x1_0000, 0x3_8000) if code32 else (0x1000, 0xE000)
    gpr = [rng.choice((rng.getrandbits(32), rng.getrandbits(3))) for _ in range(8)]
    for n in (3, 4, 5, 6, 7):  # EBX ESP EBP ESI EDI
        upper = 0 if code32 or wide_address else rng.getrandbits(32) & 0xFFFF_0000
        gpr[n] = upper | rng.randrange(low, high)
    if rng.random() < 0.3:  # overlapping strings
        gpr[7] = gpr[6] + rng.randrange(-9, 10)
    gpr[1] = count if wide_address or code32 else rng.getrandbits(32) & 0xFFFF_0000 | count
    eflags = rng.getrandbits(12) & 0xCD5 | 2
    memory = bytearray(_NOISE)
    for n in range(40):  # runs of equal bytes, for REPE and REPNE
        at = (n * 0x6151 + 0x7777) % (MEMORY_SIZE - 64)
        memory[at : at + 64] = bytes((gpr[0] & 0xFF,)) * 64
    memory[CODE : CODE + len(code) + 1] = code + b"\xf4"
    selectors = {} if code32 else dict(REAL_SEGMENTS)
    return State(gpr, eflags, CODE, selectors, bytes(memory))


def run_unicorn(state: State, code: bytes, code32: bool) -> State:
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32 if code32 else unicorn.UC_MODE_16)
    uc.mem_map(0, MEMORY_SIZE)
    uc.mem_write(0, state.memory)
    for n, selector in state.selectors.items():
        uc.reg_write(SEGMENTS[n], selector)
    for register, value in zip(GPR, state.gpr, strict=True):
        uc.reg_write(register, value)
    uc.reg_write(x86.UC_X86_REG_EFLAGS, state.eflags)
    vectors: list[int] = []

    def interrupt(uc: unicorn.Uc, number: int, data: object) -> None:
        vectors.append(number)
        uc.emu_stop()

    uc.hook_add(unicorn.UC_HOOK_INTR, interrupt)
    uc.emu_start(CODE, CODE + len(code))
    return State(
        [uc.reg_read(register) for register in GPR],
        uc.reg_read(x86.UC_X86_REG_EFLAGS),
        CODE if vectors else uc.reg_read(x86.UC_X86_REG_EIP),
        {n: uc.reg_read(SEGMENTS[n]) for n in state.selectors},
        bytes(uc.mem_read(0, MEMORY_SIZE)),
        vectors[0] if vectors else None,
    )


def prepare(state: State, code32: bool, bulk: bool) -> Machine:
    """Our machine in that state."""
    machine = Machine(bulk)
    cpu = machine.cpu
    if code32:
        machine.flat()
        for n in range(6):  # Unicorn's selectors are null
            segment = cpu.segments[n]
            cpu.set_segment(n, 0, segment.base, segment.limit, segment.attr)
    else:
        for n, selector in {CS: 0, **state.selectors}.items():
            cpu.set_segment(n, selector, selector << 4, 0xFFFF, 0x93)
    for n, value in enumerate(state.gpr):
        cpu.gpr[n] = value
    cpu.eflags = state.eflags
    cpu.eip = state.eip
    machine.memory.data[:] = state.memory
    return machine
