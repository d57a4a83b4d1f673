"""What a guest does, it cannot make the host's memory grow without bound."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.e2e.asm import assemble, needs_nasm
from vmm.contexts import MAX_CONTEXTS

pytestmark = needs_nasm

VALUES = 3 * MAX_CONTEXTS
CODE_SEGMENTS = f"""
bits 32
org 0x100000
header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), header, header, 0, 0, start
gdt:    dq 0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00cf9a000000ffff
gdtr:   dw 31
        dd gdt
target: dd 0
        dw 0x18
start:  lgdt [gdtr]
        jmp 8:flat
flat:   mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        xor ebx, ebx
        mov ecx, {VALUES}
again:  mov eax, ebx            ; the base of selector 18h
        mov [gdt + 26], ax
        shr eax, 16
        mov [gdt + 28], al
        mov [gdt + 31], ah
        mov eax, there
        sub eax, ebx
        mov [target], eax
        jmp far [target]
there:  inc edx
        jmp 8:back
back:   add ebx, 16
        loop again
        cmp edx, {VALUES}
        sete al
        out 0xf4, al
"""
"""The same code with another CS base each time, on a page that holds data as well."""

RUN = """
import json, re, sys
from vmm import Machine
from vmm.config import DebugExit
with Machine(kernel=sys.argv[1], memory="32M", debug_exit=DebugExit(0xF4, 1)) as vm:
    status = vm.run(timeout=200).status
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10
    print(json.dumps([status, vm.stats.flushes, peak]))
"""
"""The peak is that of this program: what getrusage says goes on from the process that started it."""


def test_thousands_of_code_segments() -> None:
    command = [sys.executable, "-c", RUN, str(assemble(CODE_SEGMENTS))]
    status, flushes, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (status, flushes) == (3, VALUES // MAX_CONTEXTS)
    assert peak < 32 + 250, "MiB"
