; Stores to the BIOS area change nothing that is executed: ROM ignores them, an empty bus floats.
%include "sector.inc"
        begin
        mov     ax, 0xF000
        mov     es, ax
        mov     di, 0xFFF0              ; the reset vector
        mov     bx, [es:di]
        mov     ax, bx
        not     ax
        mov     [es:di], ax
        cmp     [es:di], bx
        jne     .changed
        mov     si, 0x7C00
        mov     di, 0xE000
        mov     cx, 64
        mov     bx, [es:di]
        rep movsw
        cmp     [es:0xE000], bx
        jne     .changed
        lock inc byte [es:0xFFF0]
        print   "the ROM stands"
        quit    0
.changed:
        print   "the ROM changed"
        quit    1
        routines
        end_sector
