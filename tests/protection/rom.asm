; The upper half of the oracle's ROM: runs each case in fresh tables and dumps what the exception handler finds to
; port E9h.  oracle.py makes the lower half (the cases) and appends the tables and the reset vector.

CASES     equ 0xE0000                   ; addresses of the cases' records
COUNTER   equ 0xE00
LOW       equ 0x1000
IDT       equ 0x1800
GDT       equ 0x2000
DUMP      equ 0xC000
DRIVER_SP equ 0x5000
KCODE     equ 0x08
KDATA     equ 0x10

        org 0xF0000
        bits 16
start:  cli
        o32 lgdt [cs:gdtr - start]
        mov eax, cr0
        add eax, 1
        mov cr0, eax
        jmp dword KCODE:protected
        bits 32
protected:
        mov ax, KDATA
        mov ds, ax
        mov dx, 0xE9
        mov esi, begin
        mov ecx, 4
        rep outsb
next:   mov ax, KDATA                   ; from the ROM's GDT
        lgdt [cs:gdtr]
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov esp, DRIVER_SP
        push dword 2                    ; without NT
        popfd
        clts
        mov eax, 0
        mov cr4, eax
        mov esi, tables
        mov edi, LOW
        mov ecx, (tables_end - tables) / 4
        rep movsd
        mov eax, 0
        mov edx, DRIVER_SP - 0x80       ; clear the tops of all stacks
.stack: mov edi, edx
        mov ecx, 0x20
        rep stosd
        add edx, 0x1000
        cmp edx, 0xD000
        jb .stack
        lgdt [ram_gdtr]
        lidt [ram_idtr]
        mov ax, 0x28
        ltr ax
        mov ax, 0x30
        lldt ax
        mov eax, [COUNTER]              ; the next case's record
        mov esi, [CASES + eax]
        add eax, 4
        mov [COUNTER], eax
        mov ecx, [esi]                  ; patches: address, value
        add esi, 4
        cmp ecx, 0
        je .frame
.patch: mov edi, [esi]
        mov eax, [esi + 4]
        mov [edi], eax
        add esi, 8
        loop .patch
.frame: mov ecx, [esi]                  ; the frame of the IRET that starts the case
        add esi, 4
        cmp ecx, 0
        je finish
        mov eax, ecx
        add eax, eax
        add eax, eax
        sub esp, eax
        mov edi, esp
        rep movsd
        mov ebp, 0x22222222
        mov eax, 0x11111111
        mov ebx, 0x33333333
        mov ecx, 0x44444444
        mov edx, 0x55555555
        mov edi, 0x77777777
        mov esi, 0x66666666
        iretd

; Every handler of ring 0 ends here, with the vector on the stack.
        times 0x800 - ($ - $$) db 0
report: pushad
        mov eax, ds
        push eax
        mov eax, es
        push eax
        mov eax, fs
        push eax
        mov eax, gs
        push eax
        mov eax, ss
        push eax
        pushfd
        str eax
        push eax
        sldt eax
        push eax
        mov eax, cr0
        push eax
        cld
        mov ax, KDATA
        mov ds, ax
        mov es, ax
        mov eax, esp
        mov [DUMP + 4 * WORDS], eax
        mov edi, DUMP
        mov ecx, WORDS
.pop:   pop dword [edi]
        add edi, 4
        loop .pop
        mov cx, KDATA
        mov ss, cx
        mov esp, DRIVER_SP - 0x100
        mov dx, 0xE9
        mov esi, DUMP
        mov ecx, 4 * WORDS + 4
        rep outsb
        mov esi, GDT
        mov ecx, 0x580
        rep outsb
        mov ebx, DRIVER_SP - 0x40
.top:   mov esi, ebx
        mov ecx, 0x40
        rep outsb
        add ebx, 0x1000
        cmp ebx, 0xD000
        jb .top
        jmp KCODE:next                  ; the handler may have run in another code segment

WORDS   equ 18                          ; CR0 LDTR TR EFLAGS SS GS FS ES DS, EDI..EAX, vector

finish: mov dx, 0xE9
        mov esi, end
        mov ecx, 4
        rep outsb
        mov dx, 0xF4                    ; QEMU: isa-debug-exit
        mov al, 0
        out dx, al
        mov dx, 0x8900                  ; Bochs
%macro letter 1-*
%rep %0
        mov al, %1
        out dx, al
%rotate 1
%endrep
%endmacro
        letter 'S', 'h', 'u', 't', 'd', 'o', 'w', 'n'
        hlt

begin:  db '<<<<'
end:    db '>>>>'
gdtr:   dw 0x1FF
        dd tables + (GDT - LOW)
ram_gdtr: dw 0x13F
        dd GDT
ram_idtr: dw 0x37F
        dd IDT

; Where gates lead: the bytes are the same instruction in 16-bit and 32-bit code.
        times 0x1000 - ($ - $$) db 0
target: int 0x60
        retf 8
        align 16, db 0x90
        iretd                           ; a task that ends (in 16-bit code IRET)
        int 0x60

; Handlers in 32-bit code, 16 bytes each
        times 0x4000 - ($ - $$) db 0
%assign n 0
%rep 0x70
        push dword n
        jmp report
        align 16, db 0x90
%assign n n + 1
%endrep
; and in 16-bit code
        times 0x5000 - ($ - $$) db 0
        bits 16
%assign n 0
%rep 0x70
        push dword n
        jmp dword KCODE:report
        align 16, db 0x90
%assign n n + 1
%endrep
        bits 32
