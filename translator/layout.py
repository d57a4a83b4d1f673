"""Where things stand in the host's address space and in the vCPU block.

The vCPU block is a page that emitted code (through r15) and the VMM (through a memoryview) share.
Offsets are in bytes from r15.  Register numbers and segment numbers are those of the SDM's ModRM
encoding: EAX ECX EDX EBX ESP EBP ESI EDI, and ES CS SS DS FS GS.
"""

from __future__ import annotations

from typing import Final

# Host linear addresses ------------------------------------------------------------------------
GUEST_LINEAR: Final = 0
"""The guest's 4 GiB of linear addresses, by shadow tables; the next 4 GiB repeat them."""
TC_BASE: Final = 0x3_0000_0000
"""The translation cache: read and execute."""
VCPU_BLOCK: Final = 0x5_001E_0000
"""The vCPU block: read and write.  Its pages do not share their places in Unicorn's TLB (see ``DELTAS``) with those of
the budget, which a guest goes through all the time."""
VERIFY: Final = 0xC000
"""So far behind the vCPU block stands a page for loads, and 4 GiB higher again; nothing else that is not within 64 KiB
of the block stands within 4 GiB of either.  A fragment verifies the target of an indirect branch by a load from
[r15 + VERIFY + target - own address], which faults if they differ: in one table's slot they differ by whole 64 KiB."""
VOID_LOW: Final = 0x4_0000_0000
VOID_HIGH: Final = 0xE_0000_0000
"""Where that load faults."""
LOOKUP_TABLES: Final = 0x10_0001_3000
"""Tables of indirect-branch targets, one a mode, of 65,536 host addresses each.  Their first pages, which small guests
use most, do not share the vCPU block's places in Unicorn's TLB (see ``DELTAS``)."""
MAX_LOOKUP_TABLES: Final = 64
DELTAS: Final = MAX_LOOKUP_TABLES * 8 * 0x1_0000 + 37 * 0x1000
"""So far behind each host address in a table stands the DELTA of a fragment that may stand anywhere: an odd number of
pages, for a branch reads both, and Unicorn's TLB has one place for all pages whose numbers end in the same bits."""
SEEN_PAGES: Final = 0x10_1000_0000
SEEN_SHIFT: Final = 8
"""Bytes by linear address >> SEEN_SHIFT: 0 if INVLPG has nothing to do there (``vmm.mmu.seen``)."""
RING_BUFFER: Final = 0x10_2000_0000
"""Records of instructions, RING_SIZE bytes; what follows is not mapped.  There only while instructions are recorded."""
RING_SIZE: Final = 2 << 20
BUDGET_BASE: Final = 0x80_0000_0000
"""The instruction budget is r14 - BUDGET_BASE.  From here on (BUDGET_SPAN bytes) every page is
readable; below it none is, so a load from [r14 - need] faults when fewer than *need* are left."""
BUDGET_SPAN: Final = 1 << 30

ATTENTION_GUARD: Final = BUDGET_BASE - 0x10_0000
"""Nothing is mapped here."""

# The vCPU block -------------------------------------------------------------------------------
GPR: Final = 0x000
"""Eight general registers, 8 bytes each, upper halves zero; valid while the VMM is in control."""
FLAGS: Final = 0x040
"""CF PF AF ZF SF DF OF as in RFLAGS; valid while the VMM is in control."""
EIP: Final = 0x048
"""Guest EIP; valid while the VMM is in control."""
RESUME: Final = 0x050
"""Host address at which emitted code goes on after an exit."""
BUDGET: Final = 0x058
"""r14 as it was at the exit, and as it will be on resumption."""
EXIT_ID: Final = 0x060
"""Which exit was taken: an index into the VMM's list of exits (4 bytes)."""
TARGET: Final = 0x068
"""Linear address of the target of an indirect branch that missed the lookup table."""
TABLE: Final = 0x070
"""Host address of the current mode's table of indirect-branch targets."""
IF_WORD: Final = 0x078
"""Two bytes, 0 and IF, so that twice this word is EFLAGS.IF in its place."""
IF: Final = 0x079
"""The guest's interrupt flag, 0 or 1 (1 byte)."""
SEG_BASE: Final = 0x080
"""Linear bases of ES CS SS DS FS GS LDTR TR, 8 bytes each (32 bits used)."""
SEG_LIMIT: Final = 0x0C0
"""Limits of the same, in bytes (last valid offset), 8 bytes each (32 bits used)."""
SELECTOR: Final = 0x100
"""Selectors of the same, 8 bytes each (16 bits used)."""
SYSTEM_FLAGS: Final = 0x140
"""EFLAGS bits other than the arithmetic ones, DF and IF: TF IOPL NT RF VM AC VIF VIP ID (8 bytes)."""
TSC_BASE: Final = 0x148
"""Such that TSC = TSC_BASE - r14 * ``translator.mode.Mode.tsc``: see the emitted RDTSC."""
PUSHF_IMAGE: Final = 0x150
"""SYSTEM_FLAGS without RF and VM, as PUSHF shows them."""
QUIET: Final = 0x168
"""VCPU_BLOCK: where emitted STI and POPF load from if IF is clear."""
ATTENTION: Final = 0x170
"""Where they load from if IF is set: VCPU_BLOCK, or ATTENTION_GUARD if an interrupt waits."""
EXIT_STUB: Final = 0x158
"""Host address of the common exit: saves the registers and calls the VMM."""
MISS_STUB: Final = 0x160
"""Host address of the exit for an indirect branch to r8d that is not in the lookup table."""
DELTA: Final = 0x178
"""What has to be added to the EIPs of the fragment that runs, modulo 2**32: 0 but for one that may stand anywhere."""
SCRATCH: Final = 0x180
"""Sixteen 8-byte words for emitted code."""
NEG_BASE: Final = 0x200
"""Segment bases negated (64 bits), so that LEA can take a base off again without touching flags."""
WINDOW_LOW: Final = 0x240
"""First valid offset of each segment (0, or limit + 1 where it expands down)."""
WINDOW_READ: Final = 0x280
"""Last readable offset less WINDOW_LOW, signed 64 bits; -1 if nothing may be read."""
WINDOW_WRITE: Final = 0x2C0
"""Last writable offset less WINDOW_LOW, signed 64 bits; -1 if nothing may be written."""
SEG_ATTR: Final = 0x300
"""Attributes of the segments, as ``vmm.vcpu`` has them."""
SEG_KINDS: Final = 0x340
"""Classes of the segments: the class in real mode + 10h times that in protected mode."""
CR: Final = 0x380
"""CR0 to CR4, 8 bytes each (32 bits used)."""
CONTEXT: Final = 0x3A8
"""The number of the context (mode, CS base, paging) that emitted code runs in, times 2**20."""
SALT: Final = 0x3B0
"""The context's salt in the table of segment loads."""
RING: Final = 0x3B8
"""Host address of the next record, where instructions are recorded (see ``translator.recording``)."""
INSN_BASE: Final = 0x3C0
"""Instructions retired + r14, where instructions are recorded."""
STACK_TOP: Final = 0x400
"""A small stack for PUSHFQ and POPFQ grows down from here."""
DIRECTION: Final = 0x3C8
"""DF in its place, alone (4 bytes): LAHF does not show it."""
FX_AREA: Final = 0x400
"""512 bytes for FXSAVE and FXRSTOR."""
DR: Final = 0x600
"""DR0 to DR7, 8 bytes each (32 bits used)."""
HOST_GDT: Final = 0x640
HOST_TSS: Final = 0x6C0
RING_STACK_TOP: Final = 0x7C0
"""What the host needs for a call gate: a descriptor table, a task state segment, the top of a stack of 32 bytes."""
GATE_POINTER: Final = 0x730
"""A far pointer to the call gate."""
USER_STUB: Final = 0x738
SYSENTER_STUB: Final = 0x740
SYSEXIT_STUB: Final = 0x748
"""Host addresses: see ``translator.crossings``."""
NOW_BASE: Final = 0x750
"""As TSC_BASE, for guest time in nanoseconds."""
PORT_FLOOR: Final = 0x7C0
"""The least r14 with which emitted code may answer an access to a port itself (``translator.expand.ports``)."""
PORT_TIME: Final = 0x7C8
"""What such an access adds to r14 for the time that it takes: a negative number."""
PORT_ACCESSES: Final = 0x7D0
"""How many there have been since the VMM looked, and how many of each ``QUICK`` kind, 8 bytes each."""
PORT_COUNTS: Final = 0x7D8
POST_RING: Final = 0x800
"""The last POST_CODES bytes that they wrote to port 80h; the next place is the count's remainder."""
POST_CODES: Final = 64
PIC_QUIET: Final = 0x840
"""1 if nothing requests an interrupt of the first 8259A, and it expects no initialisation word and no poll (1 byte)."""
PIC_IMR: Final = 0x841
PIC_ISR: Final = 0x842
"""Its interrupt mask and in-service registers (1 byte each)."""
PORT61_BITS: Final = 0x843
"""What port 61h reads but for the refresh of memory, until PORT61_UNTIL (1 byte)."""
PIC_TOP: Final = 0x844
"""The bit of ISR that a non-specific end of interrupt clears; 0: none, or unknown (4 bytes)."""
PIT_HIGH: Final = 0x848
"""The next read of counter 0, 1 or 2 of the 8254 gives the high byte: 0 or 1 (1 byte each)."""
PORT61_UNTIL: Final = 0x850
"""The guest time in nanoseconds from which emitted code does not know any more what it reads; 0: never does."""
PIT_UNTIL: Final = 0x858
"""The same for each counter of the 8254, 8 bytes each."""
PIT_COUNT: Final = 0x870
"""Until then: what each counter reads, plus the number of its clock pulses at that time, 8 bytes each."""
CONTEXT_TABLES: Final = 0x1000
"""Host addresses of the lookup tables of the first 256 contexts in the present address space, 8 bytes each."""
SEGMENT_LOADS: Final = 0x2000
"""The table of ``translator.selectors``, 32 KiB."""
SYSENTERS: Final = 0xA000
SYSEXITS: Final = 0xA800
"""The tables of ``translator.crossings``, 2 KiB each."""
BLOCK_SIZE: Final = 0xB000
"""Below 64 KiB: targets of indirect branches with the same slot differ by as much, see ``VCPU_BLOCK``."""

# Numbers of the SDM's encodings ----------------------------------------------------------------
EAX: Final = 0
ECX: Final = 1
EDX: Final = 2
EBX: Final = 3
ESP: Final = 4
EBP: Final = 5
ESI: Final = 6
EDI: Final = 7
ES: Final = 0
CS: Final = 1
SS: Final = 2
DS: Final = 3
FS: Final = 4
GS: Final = 5
LDTR: Final = 6
TR: Final = 7

# EFLAGS (SDM vol. 1, 3.4.3) ---------------------------------------------------------------------
CF: Final = 0x1
PF: Final = 0x4
AF: Final = 0x10
ZF: Final = 0x40
SF: Final = 0x80
TF: Final = 0x100
IF_FLAG: Final = 0x200
DF: Final = 0x400
OF: Final = 0x800
IOPL: Final = 0x3000
NT: Final = 0x4000
RF: Final = 0x1_0000
VM: Final = 0x2_0000
AC: Final = 0x4_0000
VIF: Final = 0x8_0000
VIP: Final = 0x10_0000
ID: Final = 0x20_0000
ARITHMETIC: Final = CF | PF | AF | ZF | SF | OF
