"""A guest of our own, for hosts where no other can be had: it prints the primes below 100 on COM1 and halts.

A Multiboot 1 image with load addresses in its header (Multiboot Specification 0.6.96, 3.1), for 1 MiB.
"""

from __future__ import annotations

LAST_LINE = "Built-in guest: done."

LISTING = """
02b0ad1b00000100fe4f51e4                  ; header: dd 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000)
0000100000001000e8001000e800100020001000  ; dd header, header, end, end, start
bc00000900                                ; start: mov esp, 0x90000
bea3001000                                ; mov esi, hello
e857000000                                ; call print
b902000000                                ; mov ecx, 2
bb02000000                                ; number: mov ebx, 2
89d8                                      ; trial: mov eax, ebx
f7e3                                      ; mul ebx
39c8                                      ; cmp eax, ecx
770d                                      ; ja prime
89c8                                      ; mov eax, ecx
31d2                                      ; xor edx, edx
f7f3                                      ; div ebx
85d2                                      ; test edx, edx
7411                                      ; jz next
43                                        ; inc ebx
ebeb                                      ; jmp trial
89c8                                      ; prime: mov eax, ecx
e819000000                                ; call decimal
b020                                      ; mov al, 32
e837000000                                ; call send
41                                        ; next: inc ecx
83f964                                    ; cmp ecx, 100
72d2                                      ; jb number
bece001000                                ; mov esi, goodbye
e81a000000                                ; call print
fa                                        ; cli
f4                                        ; hlt
31d2                                      ; decimal: xor edx, edx
bb0a000000                                ; mov ebx, 10
f7f3                                      ; div ebx
52                                        ; push edx
85c0                                      ; test eax, eax
7405                                      ; jz last
e8edffffff                                ; call decimal
58                                        ; last: pop eax
0430                                      ; add al, 48
eb0d                                      ; jmp send
ac                                        ; print: lodsb
84c0                                      ; test al, al
7407                                      ; jz done
e803000000                                ; call send
ebf4                                      ; jmp print
c3                                        ; done: ret
50                                        ; send: push eax
bafd030000                                ; mov edx, 0x3FD
ec                                        ; busy: in al, dx
a820                                      ; test al, 0x20
74fb                                      ; jz busy
58                                        ; pop eax
b2f8                                      ; mov dl, 0xF8
ee                                        ; out dx, al
c3                                        ; ret
4275696c742d696e2067756573743a2074686520  ; hello: db "Built-in guest: the primes below 100 are", 13, 10, 0
7072696d65732062656c6f772031303020617265  ; ...
0d0a00                                    ; ...
0d0a4275696c742d696e2067756573743a20646f  ; goodbye: db 13, 10, "Built-in guest: done.", 13, 10, 0
6e652e0d0a00                              ; ...
"""
"""Bytes in hex, and the nasm source that they are of ("..." where bytes go on)."""


def image() -> bytes:
    """The image to load."""
    return bytes.fromhex("".join(line.partition(";")[0] for line in LISTING.splitlines()))
