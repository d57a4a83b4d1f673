; An endless loop.
%include "sector.inc"
        begin
        print   "looping"
        jmp     $
        routines
        end_sector
