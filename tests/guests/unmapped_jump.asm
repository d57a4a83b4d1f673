; A jump to an address where nothing answers: the bus floats, FF FF is an undefined opcode.
%include "flat.inc"
main:   line    "jumping"
        try     back
        mov     eax, 0xD0000000
        jmp     eax
back:   line    "back"
        quit    0
        end_guest
