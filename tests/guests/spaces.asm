; Address spaces that share some page tables and not others: loads of CR3 show each its own pages, one or many.
%include "flat.inc"
A       equ     0x300000                ; two directories, the table of both, the table of each, one more of both
B       equ     A + 0x1000
LOW     equ     A + 0x2000
TABLE_A equ     A + 0x3000
TABLE_B equ     A + 0x4000
BOTH    equ     A + 0x5000
OTHER   equ     A + 0x6000
WINDOW  equ     0x400000
SHARED  equ     0x800000
FRAMES  equ     0x310000                ; 64 frames; each says its number
MANY    equ     20

%macro  load 1                          ; CR3
        mov     eax, %1
        mov     cr3, eax
%endmacro

main:   mov     edi, A
        xor     eax, eax
        mov     ecx, 7 * 1024
        rep stosd
        mov     edi, LOW                ; the first 4 MiB as they are
        mov     eax, 0x63
        mov     ecx, 1024
.low:   stosd
        add     eax, 0x1000
        loop    .low
        mov     edi, FRAMES
        xor     eax, eax
.frame: mov     [edi], eax
        add     edi, 0x1000
        inc     eax
        cmp     eax, 64
        jne     .frame
        mov     dword [A], LOW + 0x63
        mov     dword [B], LOW + 0x63
        mov     dword [A + 4], TABLE_A + 0x63
        mov     dword [B + 4], TABLE_B + 0x63
        mov     dword [A + 8], BOTH + 0x63
        mov     dword [B + 8], BOTH + 0x63
        xor     ecx, ecx                ; A's window begins at frame 0, B's at frame 20, what both have at frame 40
.map:   mov     eax, ecx
        shl     eax, 12
        add     eax, FRAMES + 0x63
        mov     [TABLE_A + ecx * 4], eax
        add     eax, 20 << 12
        mov     [TABLE_B + ecx * 4], eax
        add     eax, 20 << 12
        mov     [BOTH + ecx * 4], eax
        inc     ecx
        cmp     ecx, MANY
        jne     .map
        mov     dword [OTHER], FRAMES + (63 << 12) + 0x63
        load    A
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax

        mov     edi, 3
.round: load    A                       ; one page of each
        mov     ebx, [WINDOW]
        add     ebx, [SHARED]
        load    B
        mov     ecx, [WINDOW]
        add     ecx, [SHARED]
        load    A
        mov     edx, [WINDOW]
        shl     ebx, 16
        mov     bx, cx
        push    edx
        show    "one", ebx
        pop     edx
        show    "again", edx

        load    A                       ; many pages
        call    sum
        push    ebx
        load    B
        call    sum
        push    ebx
        load    A
        call    sum
        push    ebx
        pop     eax
        show    "many", eax
        pop     eax
        show    "many", eax
        pop     eax
        show    "many", eax

        load    B                       ; an entry changes, seen after a load of the same CR3
        mov     ebx, [WINDOW]
        mov     eax, [TABLE_B]
        xchg    eax, [TABLE_B + 4]
        mov     [TABLE_B], eax
        load    B
        mov     ecx, [WINDOW]
        shl     ebx, 16
        mov     bx, cx
        show    "same", ebx

        load    A                       ; an entry of what both have changes in one, seen in the other
        mov     ebx, [SHARED]
        load    B
        mov     ecx, [SHARED]
        mov     eax, [BOTH]
        xchg    eax, [BOTH + 4]
        mov     [BOTH], eax
        load    A
        mov     edx, [SHARED]
        shl     ebx, 16
        mov     bx, cx
        push    edx
        show    "both", ebx
        pop     edx
        show    "after", edx

        load    A                       ; a store through one is read through the other
        mov     [SHARED + 8], edi
        load    B
        mov     ebx, [SHARED + 8]
        show    "stored", ebx

        mov     eax, [SHARED]           ; an entry of one directory changes
        mov     dword [B + 8], OTHER + 0x63
        load    B
        mov     ebx, [SHARED]
        load    A
        mov     ecx, [SHARED]
        shl     ebx, 16
        mov     bx, cx
        show    "other", ebx
        mov     dword [B + 8], BOTH + 0x63
        dec     edi
        jnz     .round
        quit    0

sum:    xor     ebx, ebx                ; what the first word of each page of the window adds up to
        xor     ecx, ecx
.page:  mov     eax, ecx
        shl     eax, 12
        add     ebx, [WINDOW + eax]
        inc     ecx
        cmp     ecx, MANY
        jne     .page
        ret
        end_guest
