; Undefined opcodes with a handler for #UD that counts and steps over them.
%include "sector.inc"
        begin
        mov     word [6 * 4], handler
        mov     word [6 * 4 + 2], 0
        xor     bx, bx                  ; how many
%macro  bad 1+
        mov     word [next], %%next
        db      %1
        print   "executed"
%%next:
%endmacro
        bad     0x0F, 0x0B              ; UD2
        bad     0x0F, 0xB9, 0xC0        ; UD1
        bad     0x0F, 0xFF, 0xC0        ; UD0
        bad     0xFE, 0xF8              ; group 4 /7
        bad     0xFF, 0xFF              ; group 5 /7
        bad     0x8E, 0xC8              ; MOV CS
        bad     0x8C, 0xF8              ; MOV from segment register 7
        bad     0xF0, 0x90              ; LOCK NOP
        bad     0xF0, 0x00, 0xC0        ; LOCK ADD to a register
        bad     0x0F, 0x04              ; no opcode
        bad     0x0F, 0x24, 0xC0        ; no opcode (test registers are gone)
        bad     0x8D, 0xC0              ; LEA of a register
        bad     0xC4, 0xC0              ; LES of a register
        bad     0x0F, 0x20, 0xC8        ; MOV from CR1
        bad     0x0F, 0x00, 0xC0        ; SLDT in real mode
        mov     al, bl
        call    hex8
        print   " undefined opcodes"
        quit    0
handler:
        inc     bx
        add     sp, 6
        jmp     [next]
next:   dw      0
        routines
        end_sector
