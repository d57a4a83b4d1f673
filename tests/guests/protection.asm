; Protection that the SDM asks for and QEMU's TCG does not check: the expected text is the manual's (vol. 3, chapter 5).
%macro own_descriptors 0
        dq      0x00CF91000000FFFF      ; 30h: data, read only
        dq      0x0040930000000FFF      ; 38h: data, limit FFFh
        dq      0x00C0970000000000      ; 40h: data, expand down, from 1000h
        dq      0x00CF98000000FFFF      ; 48h: code, execute only
%endmacro
%include "flat.inc"
%macro  faulting 3+                     ; name, selector for FS, instruction
        print   %1, ": "
        try     %%next
        mov     ax, %2
        mov     fs, ax
        %3
        line    "no exception"
%%next:
%endmacro
main:   faulting "load from a null segment", 0, mov eax, [fs:0]
        faulting "store to a null segment", 0, mov [fs:0], eax
        faulting "store to a read-only segment", 0x30, mov [fs:scratch], eax
        faulting "load from a read-only segment", 0x30, mov eax, [fs:scratch]
        faulting "load at the limit", 0x38, mov al, [fs:0xFFF]
        faulting "load beyond the limit", 0x38, mov eax, [fs:0xFFD]
        faulting "store beyond the limit", 0x38, mov [fs:0x1000], al
        faulting "load below an expand-down segment", 0x40, mov al, [fs:0xFFF]
        faulting "load in an expand-down segment", 0x40, mov al, [fs:scratch]
        faulting "load from execute-only code", 0x48, mov eax, [fs:scratch]
        print   "PG without PE: "
        try     done
        mov     eax, cr0
        and     eax, ~1
        or      eax, 0x80000000
        mov     cr0, eax
        line    "no exception"
done:   quit    0
        section .data
scratch:
        dd      0
        end_guest
