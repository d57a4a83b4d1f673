; An undefined opcode without a handler: the IVT ends before vector 6.
%include "sector.inc"
        begin
        print   "before the undefined opcode"
        lidt    [nothing]
        ud2
        print   "after the undefined opcode"
        quit    1
nothing:
        dw      5 * 4 + 3               ; vectors 0..5 only
        dd      0
        routines
        end_sector
