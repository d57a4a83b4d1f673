; The reset vector of the bare oracle, in the last 64 KiB of a ROM of 2 MiB: protected mode, then the runner is copied
; from the 256 KiB before to RAM and started.  The cases stand at the ROM's beginning.
RUNNER  equ 0x06000000

        org 0xF0000
        bits 16
start:  cli
        o32 lgdt [cs:gdtr - start]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword 8:0xFFFF0000 + flat - start
        bits 32
flat:   mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov al, 2                       ; A20
        out 0x92, al
        cld
        mov esi, 0xFFFB0000
        mov edi, RUNNER
        mov ecx, 0x40000 / 4
        rep movsd
        mov eax, RUNNER
        jmp eax
        align 8
gdt:    dq 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdtr:   dw 23
        dd 0xFFFF0000 + gdt - start
        times 0xFFF0 - ($ - $$) db 0
        bits 16
        jmp 0xF000:start - 0xF0000
        times 0x10000 - ($ - $$) db 0
