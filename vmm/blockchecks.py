"""Unicorn's check for a request to stop at the start of each block, and how to do without it.

At the start of every block that Unicorn translates it calls ``helper_check_exit_request``: a tenth of the time of code
with many branches.  The code generator drops a call that has no side effects and whose result nobody uses, and it finds
what it knows of a helper in a table of the engine's.  An entry of ours in that table says of this helper that it has no
side effects: so the engine's own code has no such calls.  Other engines in the process have tables of their own.

No function of the API does that.  Where the table stands is read off the code of an exported function, and each step
is looked at before it is taken: what is not as known is left alone, and all runs as before, only slower.  Without the
check a request to stop is heard when emitted code leaves for the VMM, at the latest at the end of the instruction
budget.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from ctypes import CDLL
from typing import Final

from vmm.exitchecks import code_of

HELPER: Final = b"check_exit_request_x86_64"
_GENERATOR: Final = "tcg_gen_callN_x86_64"
_TABLE: Final = re.compile(
    rb"\x48\x8b\xbf(.{4})\xe8",  # mov rdi, [TCGContext + offset of the helper table]; call g_hash_table_lookup
    re.DOTALL,
)
_NO_EFFECTS: Final = 5
"""TCG_CALL_NO_READ_GLOBALS and TCG_CALL_NO_SIDE_EFFECTS (tcg/tcg.h)."""
_NODE: Final = struct.Struct("<QQQ")
"""A key, a value, the key's hash: an entry of a GHashTable."""
_INFO: Final = struct.Struct("<QQII")
"""TCGHelperInfo: the function, its name, flags, sizes of the arguments."""
_LARGEST_TABLE: Final = 1 << 16
_ENGINE_WORDS: Final = 512
"""Words of ``uc_struct`` in which its TCGContext is looked for."""


class _Memory:
    """This process's memory, by reads that fail where nothing is."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/mem", os.O_RDONLY)

    def close(self) -> None:
        os.close(self._file)

    def read(self, address: int, size: int) -> bytes:
        """*size* bytes.  Raises ``OSError``."""
        if not 0 < address < 1 << 47:
            raise OSError("no address")
        data = os.pread(self._file, size, address)
        if len(data) < size:
            raise OSError("nothing there")
        return data

    def quad(self, address: int) -> int:
        """An 8-byte word."""
        return int.from_bytes(self.read(address, 8), "little")

    def name(self, address: int) -> bytes:
        """A short string."""
        return self.read(address, len(HELPER) + 1)


def turn_off(library: CDLL, engine: int) -> ctypes.Array[ctypes.c_char] | None:
    """Take the checks out of what the engine whose handle is *engine* will translate.

    Returns what has to live as long as the engine; None if nothing was changed.
    """
    try:
        memory = _Memory()
    except OSError:
        return None
    try:
        offset = table_offset(library)
        node = None if offset is None else _find(memory, engine, offset)
        if node is None:
            return None
        key, value, hashed = _NODE.unpack(memory.read(node, _NODE.size))
        function, name, flags, sizes = _INFO.unpack(memory.read(value, _INFO.size))
        info = ctypes.create_string_buffer(_INFO.pack(function, name, flags | _NO_EFFECTS, sizes), 64)
        ctypes.memmove(node, _NODE.pack(key, ctypes.addressof(info), hashed), _NODE.size)
    except OSError:
        return None
    finally:
        memory.close()
    return info


def table_offset(library: CDLL) -> int | None:
    """Offset in bytes of the helper table in a TCGContext of *library*; ``None`` if it is not recognised."""
    found = _TABLE.search(code_of(library, _GENERATOR, 64))
    return int.from_bytes(found[1], "little") if found else None


def _find(memory: _Memory, engine: int, offset: int) -> int | None:
    """The address of the helper's entry in the table of *engine*: some word of it points to its TCGContext."""
    for word in struct.unpack(f"<{_ENGINE_WORDS}Q", memory.read(engine, 8 * _ENGINE_WORDS)):
        if word and (node := _node(memory, word + offset)) is not None:
            return node
    return None


def _node(memory: _Memory, pointer: int) -> int | None:
    """The address of the helper's entry in the table that *pointer* may point to."""
    try:
        table = memory.quad(pointer)
        size = int.from_bytes(memory.read(table, 4), "little")
        nodes = memory.quad(table + 0x18)
        if not 0 < size <= _LARGEST_TABLE:
            return None
        entries = memory.read(nodes, size * _NODE.size)
    except OSError:
        return None
    for at in range(0, len(entries), _NODE.size):
        key, value, hashed = _NODE.unpack_from(entries, at)
        if hashed < 2:  # free
            continue
        try:
            function, name, _, _ = _INFO.unpack(memory.read(value, _INFO.size))
            if function == key and memory.name(name) == HELPER + b"\0":
                return nodes + at
        except OSError:
            return None
    return None
