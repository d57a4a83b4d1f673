; HLT with interrupts off: nothing will ever happen again.
%include "sector.inc"
        begin
        print   "halting"
        hlt
        print   "woken"
        quit    1
        routines
        end_sector
