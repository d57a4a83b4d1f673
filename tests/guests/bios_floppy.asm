; A 1.44 MiB floppy.
%define HARD_DISK 0
%include "bios.inc"
        times   1474560 - ($ - $$) db 0
