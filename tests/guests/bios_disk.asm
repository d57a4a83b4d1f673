; A hard disk of 4 MiB with a partition table and a mark in its last sector.
%define HARD_DISK 1
IMAGE_SECTORS equ 8192
%include "bios.inc"
        times   (IMAGE_SECTORS - 1) * 512 - ($ - $$) db 0
        db      "LAST"
        times   IMAGE_SECTORS * 512 - ($ - $$) db 0
