; Exceptions in ring 0 with their vectors and error codes: segment loads, far transfers, system instructions.
%macro own_descriptors 0
        dq      0x00CF13000000FFFF      ; 30h: data, not present
        dq      0x00CF91000000FFFF      ; 38h: data, read only
        dq      0x00CF98000000FFFF      ; 40h: code, execute only
        dq      0x0000820000000FFF      ; 48h: an LDT
        dq      0x00CF1B000000FFFF      ; 50h: code, not present
        dq      0x0000090000000067      ; 58h: a TSS, not present
        dq      0x0000890000000010      ; 60h: a TSS that is too short
        dq      0x00008C0000080000      ; 68h: a call gate to offset 0
        dq      0x00008C0000000000      ; 70h: a call gate with a null selector
        dq      0x00CFFB000000FFFF      ; 78h: code of ring 3
        dq      0x00CF9F000000FFFF      ; 80h: conforming code
%endmacro
%include "flat.inc"
%macro  faulting 2+                     ; name, instruction
        print   %1, ": "
        try     %%next
        %2
        line    "no exception"
%%next:
%endmacro
%macro  load 2                          ; segment register, selector
        %defstr name mov %1, %2
        print   name, ": "
        try     %%next
        mov     eax, %2
        mov     %1, ax
        line    "no exception"
%%next: mov     ax, DATA
        mov     ds, ax
        mov     es, ax
%endmacro
main:   xor     ecx, ecx
        faulting "divide by zero", div ecx
        mov     edx, 1
        faulting "divide overflow", div edx
        faulting "breakpoint", int3
        faulting "overflow", call overflow
        mov     eax, 9
        faulting "bound", bound eax, [limits]
        faulting "undefined", ud2
        load    ds, 0
        load    es, 0x30
        load    ss, 0
        load    ss, 0x30
        load    ss, 0x38
        load    ss, 0x78
        load    ds, 0x38
        load    ds, 0x40
        load    ds, 0x48
        load    ds, 0x1000
        load    es, 0x23
        load    ss, 0x23
        load    fs, 0x13
        faulting "jmp to a null selector", jmp 0:main
        faulting "jmp to data", jmp DATA:main
        faulting "jmp to code that is not present", jmp 0x50:main
        faulting "jmp to code of ring 3", jmp 0x78:main
        faulting "jmp beyond the table", jmp 0x2000:main
        faulting "jmp to an LDT", jmp 0x48:0
        faulting "jmp to a gate with a null selector", jmp 0x70:0
        faulting "call to a TSS that is not present", call 0x58:0
        faulting "call to a TSS that is too short", call 0x60:0
        faulting "ltr of data", call ltr_data
        faulting "ltr of a TSS that is not present", call ltr_absent
        faulting "ltr of a busy TSS", call ltr_busy
        faulting "lldt of code", call lldt_code
        faulting "int beyond the IDT's present gates", int 0x77
        faulting "lldt of nothing", call lldt_null
        faulting "use of an empty LDT", call ldt_use
        faulting "retf to data", call retf_data
        faulting "iret to a null selector", call iret_null
        jmp     0x80:.conforming
.conforming:
        xor     eax, eax
        mov     ax, cs
        show    "conforming cs", eax
        jmp     CODE:.ring0
.ring0: ; what the instructions that look at descriptors say
%macro  look 1
        xor     eax, eax
        mov     ecx, %1
        lar     eax, cx
        setz    bl
        %defstr name lar %1
        show    name, eax
        xor     eax, eax
        lsl     eax, ecx
        setz    bh
        %defstr name lsl %1
        show    name, eax
        verr    cx
        setz    al
        verw    cx
        setz    ah
        movzx   eax, ax
        show    "verr, verw", eax
        movzx   eax, bx
        show    "zf", eax
%endmacro
        look    CODE
        look    DATA
        look    CODE3
        look    TSS
        look    0x30
        look    0x38
        look    0x40
        look    0x68
        look    0x1000
        look    0
        mov     eax, 0x23
        mov     ecx, 0x11
        arpl    cx, ax
        setz    bl
        movzx   ecx, cx
        show    "arpl", ecx
        quit    0

overflow:
        mov     eax, 0x7FFFFFFF
        add     eax, 1
        into
        ret
ltr_data:
        mov     ax, DATA
        ltr     ax
        ret
ltr_absent:
        mov     ax, 0x58
        ltr     ax
        ret
ltr_busy:
        mov     ax, TSS
        ltr     ax
        ret
lldt_code:
        mov     ax, CODE
        lldt    ax
        ret
lldt_null:
        xor     eax, eax
        lldt    ax
        ret
ldt_use:
        mov     ax, 0x0C
        mov     fs, ax
        ret
retf_data:
        push    dword DATA
        push    dword main
        retf
iret_null:
        pushfd
        push    dword 0
        push    dword main
        iretd
        section .data
limits: dd      1, 8
        end_guest
