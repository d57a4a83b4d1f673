; Real mode, no IVT: a breakpoint becomes a triple fault.
%include "sector.inc"
        begin
        print   "before the triple fault"
        lidt    [nothing]
        int3
        print   "after the triple fault"
        quit    1
nothing:
        dw      0
        dd      0
        routines
        end_sector
