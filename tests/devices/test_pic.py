"""The 8259A pair: rows of what is done to it and what it then shows."""

from __future__ import annotations

import pytest

from devices.bus import PortBus
from devices.pic import PicPair

M, MD, S, SD, ELCR1, ELCR2 = 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1

EOI, EOI_3, ROTATE_EOI, ROTATE_EOI_3, SET_LOWEST_3, ROTATE_AEOI, NO_ROTATE_AEOI = 0x20, 0x63, 0xA0, 0xE3, 0xC3, 0x80, 0
READ_IRR, READ_ISR, POLL, SPECIAL_MASK, NORMAL_MASK = 0x0A, 0x0B, 0x0C, 0x68, 0x48

AEOI, SFNM = 0x02, 0x10


class Board:
    """The pair on a bus, initialised as a PC does: vectors 08h and 70h, everything unmasked."""

    def __init__(self, master_icw4: int = 0, slave_icw4: int = 0) -> None:
        self.pic = PicPair()
        self.bus = PortBus()
        self.bus.attach(self.pic)
        for port, values in (
            (M, [0x11]), (MD, [0x08, 0x04, 0x01 | master_icw4, 0]),
            (S, [0x11]), (SD, [0x70, 0x02, 0x01 | slave_icw4, 0]),
        ):  # fmt: skip
            for value in values:
                self.bus.write(port, 1, value)

    def do(self, step: object) -> list[object]:
        """One step of a row; returns what it showed."""
        match step:
            case ("up", int(irq)):
                self.pic.line(irq).set(True)
            case ("down", int(irq)):
                self.pic.line(irq).set(False)
            case ("out", int(port), int(value)):
                self.bus.write(port, 1, value)
            case ("in", int(port)):
                return [self.bus.read(port, 1)]
            case "ack":
                return [self.pic.acknowledge()]
            case "intr":
                return [self.pic.intr.level]
            case _:
                raise AssertionError(step)
        return []


def up(irq: int) -> tuple[str, int]:
    return "up", irq


def down(irq: int) -> tuple[str, int]:
    return "down", irq


def out(port: int, value: int) -> tuple[str, int, int]:
    return "out", port, value


def read(port: int) -> tuple[str, int]:
    return "in", port


ROWS = {
    "quiet": (0, ["intr"], [False]),
    "an edge waits": (0, [up(3), "intr", read(M), "ack", "intr", read(M)], [True, 8, 0x0B, False, 0]),
    "in service until EOI": (
        0, ["ack", up(3), "ack", out(M, READ_ISR), read(M), out(M, EOI), read(M)], [0x0F, 0x0B, 8, 0],
    ),
    "one edge, one interrupt": (0, [up(3), "ack", out(M, EOI), "intr"], [0x0B, False]),
    "a second edge, a second": (0, [up(3), "ack", down(3), up(3), out(M, EOI), "intr"], [0x0B, True]),
    "an edge-triggered input that falls takes its request back": (0, [up(3), down(3), "intr", "ack"], [False, 0x0F]),
    "spurious IRQ 7 is not in service": (0, ["ack", out(M, READ_ISR), read(M)], [0x0F, 0]),
    "masked": (0, [out(MD, 8), up(3), "intr", read(M), out(MD, 0), "intr", read(MD)], [False, 8, True, 0]),
    "the lower number first": (0, [up(4), up(1), "ack", "intr", out(M, EOI), "ack"], [9, False, 12]),
    "a higher one nests": (0, [up(4), "ack", up(1), "intr", "ack"], [12, True, 9]),
    "EOI ends the highest": (
        0, [up(4), "ack", up(1), "ack", out(M, EOI), out(M, READ_ISR), read(M)], [12, 9, 0x10],
    ),
    "a specific EOI": (0, [up(3), "ack", up(1), "ack", out(M, EOI_3), out(M, READ_ISR), read(M)], [11, 9, 2]),
    # The cascade.
    "the slave": (0, [up(8), "intr", read(M), read(S), "ack", read(M), read(S)], [True, 4, 1, 0x70, 0, 0]),
    "both are in service": (
        0, [up(12), "ack", out(M, READ_ISR), out(S, READ_ISR), read(M), read(S)], [0x74, 4, 0x10],
    ),
    "the slave stands at IR2": (0, [up(3), up(15), up(1), "ack", out(M, EOI), "ack"], [9, 0x77]),
    "the next of the slave's after both EOIs": (
        0, [up(9), up(10), "ack", "intr", out(S, EOI), "intr", out(M, EOI), "intr", "ack"],
        [0x71, False, False, True, 0x72],
    ),
    "a higher one of the slave's waits for the master": (
        0, [up(10), "ack", up(8), "intr", out(S, EOI), "intr", out(M, EOI), "ack"], [0x72, False, False, 0x70],
    ),
    "or goes first if the master nests fully": (SFNM, [up(10), "ack", up(8), "intr", "ack"], [0x72, True, 0x70]),
    "which lets no lower one of the master's pass": (SFNM, [up(10), "ack", up(3), "intr"], [0x72, False]),
    "spurious IRQ 15 leaves the master in service": (
        0, [out(ELCR1, 0), up(9), out(MD, 0), out(SD, 0), ("drop", 9), "ack", out(M, READ_ISR), read(M)],
        [0x77, 4],
    ),
    # Automatic EOI and rotation.
    "AEOI": (AEOI, [up(3), "ack", out(M, READ_ISR), read(M), up(4), "intr"], [11, 0, True]),
    "rotate on AEOI": (
        AEOI, [out(M, ROTATE_AEOI), up(3), "ack", down(3), up(3), up(4), "ack"], [11, 12],
    ),
    "or do not": (
        AEOI, [out(M, ROTATE_AEOI), out(M, NO_ROTATE_AEOI), up(3), "ack", down(3), up(3), up(4), "ack"], [11, 11],
    ),
    "rotate on EOI": (0, [up(3), "ack", out(M, ROTATE_EOI), down(3), up(3), up(4), "ack"], [11, 12]),
    "rotate on a specific EOI": (
        0, [up(3), "ack", out(M, ROTATE_EOI_3), down(3), up(3), up(7), "ack"], [11, 15],
    ),
    "set the lowest": (0, [out(M, SET_LOWEST_3), up(3), up(4), up(0), "ack"], [12]),
    # Special mask mode.
    "special mask lets lower ones pass a masked one in service": (
        0, [up(3), "ack", up(5), "intr", out(MD, 8), "intr", out(M, SPECIAL_MASK), "intr", "ack"],
        [11, False, False, True, 13],
    ),
    "and ends with the normal mask": (
        0, [up(3), "ack", up(5), out(MD, 8), out(M, SPECIAL_MASK), out(M, NORMAL_MASK), "intr"], [11, False],
    ),
    "a non-specific EOI passes over the masked one": (
        0, [up(3), "ack", up(5), out(MD, 8), out(M, SPECIAL_MASK), "ack", out(M, EOI), out(M, READ_ISR), read(M)],
        [11, 13, 8],
    ),
    # Poll.
    "poll takes into service": (
        0, [up(3), out(M, POLL), read(M), "intr", read(M), out(M, READ_ISR), read(M)], [0x83, False, 0, 8],
    ),
    "poll at the data port": (0, [up(3), out(M, POLL), read(MD), read(MD)], [0x83, 0]),
    "poll with nothing": (0, [out(M, POLL), read(M)], [0]),
    # Levels.
    "ELCR has only the bits it has": (
        0, [out(ELCR1, 0xFF), out(ELCR2, 0xFF), read(ELCR1), read(ELCR2)], [0xF8, 0xDE],
    ),
    "a level stays": (0, [out(ELCR1, 0x20), up(5), "ack", out(M, EOI), "intr", read(M)], [13, True, 0x20]),
    "until it falls": (0, [out(ELCR1, 0x20), up(5), "ack", down(5), out(M, EOI), "intr"], [13, False]),
    "an edge is forgotten when its input turns to levels": (
        0, [up(5), out(ELCR1, 0x20), "intr", out(ELCR1, 0), "intr"], [True, False],
    ),
    "ICW1's LTIM does nothing": (
        0, [out(M, 0x19), out(MD, 8), out(MD, 4), out(MD, 1), up(3), "ack", out(M, EOI), "intr"], [11, False],
    ),
    # Initialisation.
    "ICW1 forgets edges, mask and what is in service": (
        0, [out(MD, 0xAA), up(0), "ack", out(M, 0x11), out(MD, 8), out(MD, 4), out(MD, 1), read(MD), read(M),
            out(M, READ_ISR), read(M)],
        [8, 0, 0, 0],
    ),
    "without ICW4": (AEOI, [out(M, 0x10), out(MD, 0x40), out(MD, 4), out(MD, 0x55), read(MD)], [0x55]),
    "single, without ICW3": (0, [out(M, 0x13), out(MD, 0x40), out(MD, 1), out(MD, 0x55), read(MD)], [0x55]),
    "vectors move": (0, [out(M, 0x11), out(MD, 0x27), out(MD, 4), out(MD, 1), up(1), "ack"], [0x21]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str) -> None:
    icw4, steps, expected = ROWS[name]
    board = Board(master_icw4=icw4)
    shown: list[object] = []
    for step in steps:
        if isinstance(step, tuple) and step[0] == "drop":
            # The slave's request goes between the two acknowledge cycles.
            board.pic.slave.state.edges &= ~(1 << step[1] - 8)
        else:
            shown += board.do(step)
    assert shown == expected


def test_the_slave_drops_its_line_between_two_requests() -> None:
    """Or the master's edge-triggered IR2 would not see the second."""
    board = Board(master_icw4=AEOI, slave_icw4=AEOI)
    board.pic.line(9).set(True)
    board.pic.line(10).set(True)
    assert [board.pic.acknowledge() for _ in range(3)] == [0x71, 0x72, 0x0F]


@pytest.mark.parametrize("irq", [irq for irq in range(16) if irq != 2])
def test_every_line_has_its_vector(irq: int) -> None:
    board = Board()
    board.pic.line(irq).set(True)
    assert board.pic.intr.level
    assert board.pic.acknowledge() == (0x08 + irq if irq < 8 else 0x70 + irq - 8)


@pytest.mark.parametrize("irq", [-1, 2, 16])
def test_no_such_line(irq: int) -> None:
    with pytest.raises(ValueError, match=str(irq)):
        PicPair().line(irq)


def test_priorities_are_a_strict_order_under_any_rotation() -> None:
    """With all inputs up, every rotation serves the eight levels once, in the order that follows the lowest."""
    for lowest in range(8):
        board = Board(master_icw4=AEOI)
        board.bus.write(M, 1, 0xC0 | lowest)
        board.bus.write(SD, 1, 0xFE)
        for irq in (0, 1, 3, 4, 5, 6, 7, 8):
            board.pic.line(irq).set(True)
        served = [board.pic.acknowledge() for _ in range(8)]
        levels = [(lowest + n) % 8 for n in range(1, 9)]
        assert served == [0x70 if level == 2 else 8 + level for level in levels]


def test_reset_leaves_a_high_input_without_an_edge() -> None:
    board = Board()
    board.pic.line(5).set(True)
    board.pic.reset()
    assert not board.pic.intr.level
    board.pic.line(5).set(False)
    board.pic.line(5).set(True)
    assert board.pic.intr.level
