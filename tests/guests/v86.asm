; A virtual-8086 task under a small monitor: with IOPL 0 every sensitive instruction traps, with IOPL 3 few do; the I/O
; permission bitmap opens port E9h alone; interrupts push the data segments.
%macro own_descriptors 0
v86_tss_descriptor:
        dw      v86_tss_end - v86_tss - 1, 0    ; 30h: a TSS with an I/O permission bitmap, base filled in
        db      0, 0x89, 0, 0
%endmacro
%include "flat.inc"
SEGMENT_ equ    0x1000                  ; where the task runs
STORE_  equ     0x2000
main:   mov     al, 0xFF                ; no timer tick while IF is tried
        out     0x21, al
          mov     eax, v86_tss
        mov     [v86_tss_descriptor + 2], ax
        shr     eax, 16
        mov     [v86_tss_descriptor + 4], al
        mov     [v86_tss_descriptor + 7], ah
        mov     ax, FREE
        ltr     ax
        gate    13, monitor, 0x8E00
        gate    0x40, service, 0xEE00
        mov     word [idt + 3 * 8 + 4], 0xEE00
        gate    0x41, service, 0x8E00
        mov     esi, task
        mov     edi, SEGMENT_ << 4
        mov     ecx, task_end - task
        rep movsb

        line    "IOPL 0"
        xor     edx, edx
        call    enter_task
        line    "IOPL 3"
        mov     edx, 0x3000
        call    enter_task
        movzx   eax, word [(STORE_ << 4) + 0x10]
        show    "stored", eax
        movzx   eax, word [(STORE_ << 4) + 0x12]
        show    "sums", eax
        mov     eax, [(STORE_ << 4) + 0x14]
        show    "flags", eax

        ; faults in the task end at a place of ours
%macro  faulting 2                      ; name, offset in the task
        print   %1, ": "
        try     %%next
        mov     dword [offset], %2
        xor     edx, edx
        call    enter_task
        line    "no exception"
%%next:
%endmacro
        faulting "divide", task_divide - task
        faulting "ud2", task_ud2 - task
        faulting "lar", task_lar - task
        faulting "sldt", task_sldt - task
        faulting "arpl", task_arpl - task
        faulting "bound", task_bound - task
        faulting "int3", task_int3 - task
        quit    0

enter_task:                             ; EDX: flags; returns when the task executes HLT
        mov     [monitor_esp], esp
        push    dword STORE_            ; GS
        push    dword 0x4000            ; FS
        push    dword SEGMENT_          ; DS
        push    dword STORE_            ; ES
        push    dword 0x3000            ; SS
        push    dword 0xFFF0            ; ESP
        or      edx, 0x20002
        push    edx
        push    dword SEGMENT_          ; CS
        push    dword [offset]
        iretd

; The monitor: error, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS on the stack.
monitor:
        pushad
        mov     ax, DATA
        mov     ds, ax
        mov     es, ax
        test    dword [esp + 32 + 12], 0x20000
        jz      .not_v86
        movzx   esi, word [esp + 32 + 8]
        shl     esi, 4
        add     esi, [esp + 32 + 4]
        print   "trap "
        movzx   eax, byte [esi]
        call    hex8
        print   " error "
        mov     eax, [esp + 32]
        call    hex16
        print   " ip "
        mov     eax, [esp + 32 + 4]
        call    hex16
        call    newline
        mov     edi, lengths
        mov     al, [esi]
.find:  scasb
        je      .found
        inc     edi
        cmp     edi, lengths_end
        jb      .find
        jmp     .not_v86
.found: movzx   ecx, byte [edi]
        add     [esp + 32 + 4], ecx
        cmp     al, 0xF4
        je      .finish
        popad
        add     esp, 4
        iretd
.finish:
        mov     esp, [monitor_esp]
        ret
.not_v86:
        line    "unexpected fault"
        quit    0x7E

service:                                ; EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS on the stack
        pushad
        mov     dx, ds                  ; 0: cleared on the way here
        mov     ax, DATA
        mov     ds, ax
        movzx   eax, dx
        show    "interrupt, ds", eax
        lea     ebx, [esp + 32]
        mov     ecx, 9
.word:  mov     eax, [ebx]
        call    hex32
        print   " "
        add     ebx, 4
        loop    .word
        call    newline
        popad
        iretd

        bits    16
task:   mov     al, '8'
        out     DEBUG, al               ; the bitmap lets this through
        mov     al, '6'
        out     DEBUG, al
        mov     al, 10
        out     DEBUG, al
        cli
        sti
        pushf
        mov     [cs:.flags - task], sp
        int     0x40
        int     0x41
        in      al, 0x21
        out     0x80, al
        mov     dx, 0x3F8
        in      al, dx
        mov     eax, cr0
        mov     ax, 0x1234
        mov     [es:0x10], ax
        mov     bx, 0x0F
        mov     cx, [gs:bx + 1]
        add     cx, [es:0x10]
        mov     [es:0x12], cx
        stc
        lahf
        mov     [es:0x14], ah
        mov     word [es:0x15], cs
        mov     byte [es:0x17], 0
        hlt
.flags: dw      0
task_divide:
        xor     cx, cx
        div     cx
task_ud2:
        ud2
task_lar:
        lar     ax, bx
task_sldt:
        sldt    ax
task_arpl:
        arpl    ax, bx
task_bound:
        mov     ax, 100
        bound   ax, [task_limits - task]
task_int3:
        int3
task_limits:
        dw      1, 9
task_end:
        bits    32

        section .data
lengths:
        db      0xFA, 1, 0xFB, 1, 0x9C, 1, 0x9D, 1, 0xCD, 2, 0xE4, 2, 0xE6, 2, 0xEC, 1, 0xEE, 1, 0x0F, 3, 0xF4, 1
lengths_end:
        align   4
monitor_esp:
        dd      0
offset: dd      0
v86_tss:
        dd      0, stack0, DATA, 0, 0, 0, 0
        times   18 dd 0
        dw      0, .bitmap - v86_tss
.bitmap:
%assign port 0
%rep 0x400 / 8
  %if port == 0xE8
        db      0xFD
  %else
        db      0xFF
  %endif
  %assign port port + 8
%endrep
        db      0xFF
v86_tss_end:
        end_guest
