; Ports that emitted code answers: the interrupt mask, ends of interrupt of both kinds, counts and their end, port 61h,
; POST codes.  Nothing is printed but what does not depend on how long it takes; no register or flag changes but AL.
%include "flat.inc"
PIC     equ     0x20
PIT     equ     0x40
COUNT   equ     PIT + 2
CONTROL equ     PIT + 3
PORT61  equ     0x61
TICKS   equ     8

%macro  send 2                          ; port, value
        mov     al, %2
        out     %1, al
%endmacro

%macro  in_service 1                    ; name; what the controller says is in service
        send    PIC, 0x0B
        in      al, PIC
        movzx   eax, al
        show    %1, eax
%endmacro

main:   send    PIC, 0x11
        send    PIC + 1, 0x20
        send    PIC + 1, 4
        send    PIC + 1, 1
        send    0xA1, 0xFF

        mov     ecx, 256                ; the mask reads as it was written
        xor     edx, edx
.mask:  mov     al, cl
        out     PIC + 1, al
        mov     al, 0
        in      al, PIC + 1
        cmp     al, cl
        setne   al
        movzx   eax, al
        add     edx, eax
        loop    .mask
        show    "masks that differ", edx

        send    PIC + 1, 0xFF           ; registers and flags
        mov     eax, 0x12345678
        mov     edx, 0x9ABCDEF0
        stc
        in      al, PIC + 1
        out     PIC + 1, al
        out     0x80, al
        pushfd
        push    edx
        show    "eax", eax
        pop     edx
        show    "edx", edx
        pop     eax
        and     eax, 0x8D5
        show    "flags", eax
        mov     al, 0x7F
        add     al, 1                   ; OF and SF
        out     0x80, al
        in      al, PORT61
        pushfd
        pop     eax
        and     eax, 0x8D5
        show    "flags", eax

        gate    0x20, specific, 0x8E00
        send    CONTROL, 0x34           ; the timer at 1 kHz
        send    PIT, 1193 & 0xFF
        send    PIT, 1193 >> 8
        send    PIC + 1, 0xFE
        mov     dword [ticks], TICKS
        sti
.first: cmp     dword [ticks], 0
        jg      .first
        cli
        send    PIC + 1, 0xFF
        in_service "in service"
        gate    0x20, plain, 0x8E00
        mov     dword [ticks], TICKS
        send    PIC + 1, 0xFE
        sti
.then:  cmp     dword [ticks], 0
        jg      .then
        cli
        send    PIC + 1, 0xFF
        in_service "in service"
        gate    0x20, never, 0x8E00     ; no end: nothing of the same level comes any more
        mov     dword [ticks], TICKS
        send    PIC + 1, 0xFE
        sti
.one:   cmp     dword [ticks], TICKS - 1
        jne     .one
        mov     ecx, 5000
.none:  in      al, PORT61
        loop    .none
        cli
        show    "left", [ticks]
        in_service "in service"
        send    PIC, 0x61               ; the end of another level
        in_service "in service"
        send    PIC, 0x60
        in_service "in service"
        send    PIC + 1, 0xFF

        in      al, PORT61              ; a counter that counts down, once, while its gate is open
        and     al, 0xFC
        out     PORT61, al
        send    CONTROL, 0xB0
        send    COUNT, 0
        send    COUNT, 0x80
        in      al, PORT61
        and     eax, 0x2F
        show    "before", eax
        in      al, PORT61
        or      al, 1
        out     PORT61, al
        mov     edx, 0xFFFF
        mov     ecx, 50
        xor     edi, edi                ; how often it rose
.fall:  call    count
        cmp     eax, edx
        seta    dl
        movzx   edx, dl
        add     edi, edx
        mov     edx, eax
        loop    .fall
        show    "rises", edi
        xor     edi, edi
.wait:  in      al, PORT61
        inc     edi
        test    al, 0x20
        jz      .wait
        cmp     edi, 2
        setb    al
        movzx   eax, al
        show    "at once", eax
        in      al, PORT61
        and     eax, 0x2F
        show    "after", eax

        mov     ecx, 1000               ; memory is refreshed: bit 4 is not always the same
        xor     ebx, ebx
        xor     edx, edx
.fresh: in      al, PORT61
        test    al, 0x10
        setz    bl
        setnz   bh
        or      edx, ebx
        loop    .fresh
        show    "refresh", edx
        quit    0

count:  in      al, COUNT               ; EAX: what counter 2 reads
        movzx   ebx, al
        in      al, COUNT
        movzx   eax, al
        shl     eax, 8
        or      eax, ebx
        ret

specific:
        push    eax
        in      al, PIC + 1
        out     PIC + 1, al
        send    PIC, 0x60
        dec     dword [ticks]
        pop     eax
        iretd
plain:  push    eax
        send    PIC, 0x20
        dec     dword [ticks]
        pop     eax
        iretd
never:  dec     dword [ticks]
        iretd

        section .data
ticks:  dd      0
        end_guest
