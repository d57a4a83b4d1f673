; Self-modifying code in real mode: each test prints the letter that the new code gives.
%include "sector.inc"
        begin
        ; the very next instruction
        mov     byte [.next + 1], 'A'
.next:  mov     al, 'x'
        out     DEBUG, al
        ; ahead, behind a jump
        mov     byte [.ahead + 1], 'B'
        jmp     .ahead
        nop
.ahead: mov     al, 'x'
        out     DEBUG, al
        ; behind: the loop changes what it ran already
        mov     cx, 4
.loop:  mov     al, 'C'
        out     DEBUG, al
        inc     byte [.loop + 1]
        loop    .loop
        ; in the running loop, ahead
        mov     cx, 3
.run:   inc     byte [.load + 1]
        nop
.load:  mov     al, 'F'
        out     DEBUG, al
        loop    .run
        ; by REP STOSB over the next instruction
        mov     di, .fill
        mov     cx, 2
        mov     al, 0x40                ; INC AX
        rep stosb
.fill:  mov     al, 0x12                ; becomes INC AX, INC AX
        add     al, 'J' - 0x42
        out     DEBUG, al
        ; by REP MOVSB, a whole routine
        mov     cx, 3
        mov     bx, .tables
.copy:  push    cx
        mov     si, [bx]
        mov     di, .place
        mov     cx, 3
        rep movsb
.place: mov     al, 'x'
        nop
        out     DEBUG, al
        add     bx, 2
        pop     cx
        loop    .copy
        ; by PUSH
        mov     bp, sp
        mov     sp, .pushed + 2
        mov     ax, 0x4EB0              ; MOV AL, 'N'
        push    ax
        mov     sp, bp
.pushed:
        nop
        nop
        out     DEBUG, al
        ; the opcode, not only its operand
        mov     bl, 'O'
        mov     byte [.op], 0x88        ; MOV AL, BL (88 D8) instead of MOV BL, AL (8A D8)
.op:    db      0x8A, 0xD8
        out     DEBUG, al
        mov     al, 10
        out     DEBUG, al
        quit    0
.tables:
        dw      .one, .two, .three
.one:   mov     al, 'K'
        nop
.two:   nop
        mov     al, 'L'
.three: mov     al, 'M'
        nop
        routines
        end_sector
