; What stands behind a branch that is sure to be taken is not touched before the guest comes there.
%include "flat.inc"
HERE    equ     0x400000                ; linear: code that leads on, its next page, and what it leads to
BEHIND  equ     0x401000
THERE   equ     0x402000
AWAY    equ     0x500000                ; not present
FRAMES  equ     0x200000                ; physical: the pages of HERE, and another for THERE
TABLES  equ     0x300000                ; a directory, the table of the first 4 MiB, that of HERE
SECOND  equ     TABLES + 0x2000

%macro  lead    1                       ; at HERE + %1: load from AWAY, then call THERE
        mov     word [FRAMES + %1], 0xA190              ; nop; mov eax, [AWAY]
        mov     dword [FRAMES + %1 + 2], AWAY
        follow  %1 + 6
%endmacro
%macro  follow  1                       ; at HERE + %1: call THERE; ret
        mov     byte [FRAMES + %1], 0xE8
        mov     dword [FRAMES + %1 + 1], THERE - HERE - %1 - 5
        mov     byte [FRAMES + %1 + 5], 0xC3
%endmacro
%macro  accessed 1
        mov     eax, [SECOND + 8]
        and     eax, 0x20
        show    %1, eax
%endmacro

main:   mov     edi, TABLES
        xor     eax, eax
        mov     ecx, 0xC00
        rep stosd
        mov     dword [TABLES], TABLES + 0x1003
        mov     dword [TABLES + 4], SECOND + 3
        mov     edi, TABLES + 0x1000
        mov     eax, 3
        mov     ecx, 1024
.low:   stosd
        add     eax, 0x1000
        loop    .low
        mov     dword [SECOND], FRAMES + 0x103    ; global, as a kernel's
        mov     dword [SECOND + 4], FRAMES + 0x4103
        mov     dword [SECOND + 8], FRAMES + 0x2103

        lead    0
        follow  0x100
        lead    0x200
        follow  0x300
        mov     byte [FRAMES + 0xFFA], 0x90             ; nop; call THERE + 0x40, to the page's end
        mov     byte [FRAMES + 0xFFB], 0xE8
        mov     dword [FRAMES + 0xFFC], THERE + 0x40 - BEHIND
        mov     dword [FRAMES + 0x1000], 0xC3           ; ret: what is behind in memory is not behind for the guest
        mov     dword [FRAMES + 0x4000], 0xC343         ; inc ebx; ret
        mov     dword [FRAMES + 0x2000], 0xC34343       ; inc ebx; inc ebx; ret
        mov     dword [FRAMES + 0x2040], 0x0174C985     ; test ecx, ecx; jz $ + 3
        mov     byte [FRAMES + 0x2044], 0xC3            ; ret
        mov     dword [FRAMES + 0x2045], 0xC304C483     ; add esp, 4; ret
        mov     dword [FRAMES + 0x3000], 0xC3434343     ; inc ebx; inc ebx; inc ebx; ret

        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 0x80
        mov     cr4, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        xor     ebx, ebx

        try     .away
        call    HERE
.away:  mov     eax, cr2
        show    "away", eax
        accessed "there, not called"
        try     .none
        call    HERE + 0x100
        show    "called", ebx
        accessed "there, called"

        and     dword [SECOND + 8], ~0x20
        invlpg  [THERE]
        try     .again
        call    HERE + 0x200
.again: mov     eax, cr2
        show    "away again", eax
        accessed "there, not called again"

        mov     dword [SECOND + 8], FRAMES + 0x3103
        invlpg  [THERE]
        try     .none
        call    HERE + 0x100
        show    "called elsewhere", ebx
        mov     dword [SECOND + 8], FRAMES + 0x2103
        invlpg  [THERE]
        xor     ecx, ecx
        call    HERE + 0xFFA
        mov     eax, [SECOND + 4]
        and     eax, 0x20
        show    "behind, not come to", eax
        inc     ecx
        call    HERE + 0xFFA
        show    "behind", ebx

        mov     dword [SECOND + 8], 0
        invlpg  [THERE]
        try     .gone
        call    HERE + 0x300
.none:  show    "not to be seen", ebx
        quit    1
.gone:  mov     eax, cr2
        show    "gone", eax
        show    "in the end", ebx
        quit    0
        end_guest
