; Reads a byte, a word and a doubleword from every port.
%include "flat.inc"
main:   xor     edx, edx
.port:  in      al, dx
        cmp     edx, 0xFFFD
        jae     .next
        in      ax, dx
        in      eax, dx
.next:  inc     edx
        cmp     edx, 0x10000
        jb      .port
        mov     dx, 0x3333              ; nobody decodes it
        xor     eax, eax
        in      al, dx
        show    "byte", eax
        line    "all ports read"
        quit    0
        end_guest
