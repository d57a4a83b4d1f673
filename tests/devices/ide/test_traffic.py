"""Random traffic in bulk against single words."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from devices.core import NEVER
from devices.ide import AtaDisk, Cdrom
from tests.devices.ide.rig import (
    ALT,
    COMMAND,
    CONTROL,
    COUNT,
    DATA,
    DEVICE,
    FEATURES,
    HIGH,
    LBA,
    LOW,
    MID,
    SLAVE,
    STATUS,
    Image,
    Rig,
)

COMMANDS = st.sampled_from(
    [0x20, 0x24, 0x29, 0x30, 0x34, 0xC4, 0xC5, 0xC6, 0x40, 0x70, 0x91, 0x90, 0xEC, 0xEF, 0xA0, 0xA1, 0x08, 0xE4, 0xE8]
)
PACKETS = st.sampled_from([0x00, 0x03, 0x12, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8, 0xBE])


class Traffic(RuleBasedStateMachine):
    """The same traffic in bulk and word by word: the same data, the same state, nothing raises or grows."""

    @initialize(slave=st.booleans())
    def start(self, slave: bool) -> None:
        drives = ((AtaDisk(Image(60, bad=50)), Cdrom(Image(64, bad=30)) if slave else None) for _ in range(2))
        self.bulk, self.single = (Rig(*pair) for pair in drives)
        self.rigs = (self.bulk, self.single)

    @rule(port=st.integers(FEATURES, DEVICE), value=st.integers(0, 255))
    def write(self, port: int, value: int) -> None:
        for rig in self.rigs:
            rig.out((port, value))

    @rule(value=st.sampled_from([0, 0, 0, 2, 4, 6, 0x80]))
    def control(self, value: int) -> None:
        for rig in self.rigs:
            rig.out((CONTROL, value))

    @rule(port=st.sampled_from([FEATURES, COUNT, LOW, MID, HIGH, DEVICE, STATUS, ALT]))
    def read(self, port: int) -> None:
        bulk, single = (rig.inb(port) for rig in self.rigs)
        assert bulk == single
        assert 0 <= bulk <= 255

    @rule(command=st.one_of(COMMANDS, st.integers(0, 255)), lba=st.integers(0, 64), count=st.integers(0, 9))
    def command(self, command: int, lba: int, count: int) -> None:
        for rig in self.rigs:
            rig.command(command, lba, count)

    @rule(command=COMMANDS, slave=st.booleans(), chs=st.booleans())
    def just_command(self, command: int, slave: bool, chs: bool) -> None:
        for rig in self.rigs:
            rig.out((DEVICE, SLAVE * slave | LBA * (not chs)), (COMMAND, command))

    @rule(code=PACKETS, rest=st.lists(st.integers(0, 20), min_size=11, max_size=11), limit=st.integers(0, 0xFFFF))
    def packet(self, code: int, rest: list[int], limit: int) -> None:
        for rig in self.rigs:
            rig.out((DEVICE, SLAVE), (FEATURES, 0), (MID, limit & 0xFF), (HIGH, limit >> 8), (COMMAND, 0xA0))
            rig.chip.write_block(bytes((code, *rest)), 4)

    @rule(count=st.integers(0, 600), size=st.sampled_from([1, 2, 4]))
    def read_data(self, count: int, size: int) -> None:
        data = self.bulk.chip.read_block(count, size)
        words = [self.single.chip.read(DATA, size).to_bytes(size, "little") for _ in range(count)]
        assert data == b"".join(words)

    @rule(count=st.integers(0, 600), size=st.sampled_from([1, 2, 4]))
    def write_data(self, count: int, size: int) -> None:
        data = (bytes(range(256)) * 10)[: count * size]
        self.bulk.chip.write_block(data, size)
        for n in range(0, len(data), size):
            self.single.chip.write(DATA, size, int.from_bytes(data[n : n + size], "little"))

    @rule(full=st.booleans())
    def change(self, full: bool) -> None:
        for rig in self.rigs:
            if rig.chip.drives[1] is not None:
                rig.chip.change_medium(1, Image(32) if full else None)

    @invariant()
    def same(self) -> None:
        assert self.bulk.chip.state == self.single.chip.state
        assert self.bulk.level() == self.single.level()
        for drive in self.bulk.chip.state.drives:
            assert len(drive.buffer) <= 0xFFFE
            assert bool(drive.turn) == bool(drive.buffer) == bool(drive.status & 8)
        assert self.bulk.chip.next_event() == NEVER


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
