; Writes bytes, words and doublewords to every port except those that end, reset or restart the machine, start a
; transfer into memory, or move the devices.
%include "flat.inc"
main:   xor     edx, edx
.port:  mov     ebx, spared
.spare: movzx   eax, word [ebx]
        movzx   ecx, word [ebx + 2]
        cmp     edx, eax
        jb      .write
        cmp     edx, ecx
        jbe     .next
        add     ebx, 4
        jmp     .spare
.write: mov     al, dl
        out     dx, al
        xor     eax, eax
        out     dx, ax
        out     dx, eax
        dec     eax
        out     dx, al
.next:  inc     edx
        cmp     edx, 0x10000
        jb      .port
        line    "all ports written"
        quit    0
        section .data
spared: dw      0x0000, 0x001F          ; DMA, and what a doubleword before port 20h would reach
        dw      0x005D, 0x0064          ; keyboard controller: FEh pulses reset
        dw      0x0080 - 3, 0x0092      ; DMA pages, port 92h: bit 0 resets
        dw      0x00AF, 0x00B3          ; system management
        dw      0x00BD, 0x00DF          ; DMA
        dw      0x00E6, 0x00E9          ; debug console
        dw      0x00F1, 0x00F7          ; isa-debug-exit
        dw      0x03F2, 0x03F5          ; floppy controller
        dw      0x03FF, 0x0402          ; the firmware's debug console
        dw      0x0500, 0x0527          ; fw_cfg and its DMA
        dw      0x05FD, 0x063F          ; ACPI power management
        dw      0x06FD, 0x0710          ; SMBus
        dw      0x0CD5, 0x0CFF          ; PCI configuration, reset control
        dw      0xAEF0, 0xB140          ; ACPI hot plug, power management, SMBus
        dw      0xFFFD, 0xFFFF          ; the last ports, beyond which a doubleword wraps
        dw      0xFFFF, 0x0000
        end_guest
