; INVLPG of pages that were used and that were not: through data, through code, in a large page, by all ways to write
; its address.  No register or flag changes by it.
%include "flat.inc"
TABLES  equ     0x300000                ; a directory, the table of the first 4 MiB, the table of WINDOW
TABLE   equ     TABLES + 0x2000
WINDOW  equ     0x400000
LARGE   equ     0x800000                ; and a page of 4 MiB
OTHER   equ     0x304000                ; a second directory
FRAMES  equ     0x310000
ENTRY   equ     TABLE + 0x20            ; of PAGE
PAGE    equ     WINDOW + 0x8000

%macro  changed 1                       ; PAGE is frame %1
        mov     dword [ENTRY], FRAMES + %1 * 0x1000 + 3
%endmacro

main:   mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 5 * 1024
        rep stosd
        mov     edi, TABLES + 0x1000
        mov     eax, 3
        mov     ecx, 1024
.fill:  stosd
        add     eax, 0x1000
        loop    .fill
        mov     edi, FRAMES
        mov     ecx, 3
        mov     eax, 0xB8               ; mov eax, imm32; ret
.frame: mov     [edi], al
        mov     edx, 4
        sub     edx, ecx
        imul    edx, 0x11
        mov     [edi + 1], edx
        mov     byte [edi + 5], 0xC3
        add     edi, 0x1000
        loop    .frame
        mov     dword [TABLES], TABLES + 0x1003
        mov     dword [TABLES + 4], TABLE + 3
        mov     dword [TABLES + 8], 0x83
        mov     dword [OTHER], TABLES + 0x1003
        mov     dword [OTHER + 4], TABLE + 3
        mov     dword [0x700], 0x5555   ; what the large page shows, first at 0, then at 4 MiB
        mov     eax, cr4
        or      al, 0x10                ; PSE
        mov     cr4, eax
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

        mov     ecx, 500                ; a page that nobody uses meanwhile
.unused:
        changed 1
        invlpg  [PAGE]
        changed 0
        invlpg  [PAGE]
        loop    .unused
        mov     eax, [PAGE + 1]
        show    "unused", eax

        mov     edi, 3                  ; used in each round
.used:  changed 1
        invlpg  [PAGE]
        mov     eax, [PAGE + 1]
        push    eax
        changed 2
        invlpg  [PAGE]
        mov     ecx, [PAGE + 1]
        show    "then", ecx
        pop     eax
        show    "used", eax
        dec     edi
        jnz     .used

        changed 0                       ; code that was fetched, and never read
        invlpg  [PAGE + 0xFFF]
        mov     edi, PAGE
        call    edi
        show    "code", eax
        changed 2
        invlpg  [PAGE + 0x10]
        mov     edi, PAGE
        call    edi
        show    "code", eax
        changed 1
        mov     ebx, PAGE >> 2
        mov     esi, PAGE >> 2
        stc
        invlpg  [ebx + esi * 2 + (PAGE >> 2)]
        pushfd
        call    PAGE
        show    "code", eax
        pop     eax
        and     eax, 1
        show    "carry", eax

        mov     ecx, PAGE               ; what is in CX lives on, whether there is something to do or not
        mov     esi, 0x12345678
        changed 2
        stc
        invlpg  [ecx]
        sbb     edx, edx
        push    edx
        push    dword [PAGE + 1]
        invlpg  [ecx]
        invlpg  [ecx]
        push    ecx
        stc
        invlpg  [ecx]
        sbb     edx, edx
        show    "carry", edx
        pop     eax
        show    "ecx", eax
        pop     eax
        show    "page", eax
        pop     eax
        show    "carry", eax

        mov     eax, [PAGE + 1]         ; in one address space, and told to another
        mov     eax, OTHER
        mov     cr3, eax
        changed 0
        invlpg  [PAGE]
        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, [PAGE + 1]
        show    "spaces", eax
        changed 1
        invlpg  [PAGE]
        mov     eax, [PAGE + 1]
        show    "spaces", eax

        mov     eax, [LARGE + 0x700]    ; a large page: told at an address of its other half
        push    eax
        mov     dword [TABLES + 8], 0x400083
        mov     dword [ENTRY], 3 + FRAMES
        invlpg  [LARGE + 0x200000]
        mov     eax, [LARGE + 0x700]
        pop     ecx
        cmp     eax, ecx
        mov     eax, 0
        sete    al
        show    "large stale", eax
        quit    0
        end_guest
