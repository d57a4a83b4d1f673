"""Real time: guest time is never ahead of the wall's, by a wall clock of our own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vmm.governor import TOLERANCE_NS, Governor

MS = 1_000_000


@dataclass
class World:
    """A guest's clock and a wall's, in nanoseconds; a sleep moves the wall, up to where a key is pressed."""

    guest: int = 0
    wall: int = 0
    key_at: int = 1 << 62

    def wait(self, seconds: float) -> bool:
        end = self.wall + round(seconds * 1e9)
        if self.key_at <= end:
            self.wall, self.key_at = max(self.key_at, self.wall), 1 << 62
            return True
        self.wall = end
        return False

    def governor(self) -> Governor:
        return Governor(lambda: self.guest, self.wait, lambda: self.wall / 1e9)


@pytest.mark.parametrize(
    ("guest", "wall", "slept"),
    [(0, 0, 0), (10, 3, 7), (10, 10, 0), (10, 30, 0), (TOLERANCE_NS // MS, 0, 0), (1000, 0, 1000)],
)
def test_a_busy_guest_waits_for_the_wall(guest: int, wall: int, slept: int) -> None:
    world = World()
    governor = world.governor()
    world.guest, world.wall = guest * MS, wall * MS
    governor.pace()
    assert world.wall == pytest.approx((wall + slept) * MS, abs=10)


def test_an_idle_guest_sleeps_as_long_as_it_waits() -> None:
    world = World()
    governor = world.governor()
    assert governor.idle(50 * MS) == 50 * MS
    assert world.wall == pytest.approx(50 * MS, abs=10)


def test_a_key_wakes_it() -> None:
    world = World(key_at=20 * MS)
    assert world.governor().idle(50 * MS) == pytest.approx(20 * MS, abs=10)


def test_a_key_that_waits_already_wakes_it_at_once() -> None:
    world = World(key_at=0)
    assert world.governor().idle(50 * MS) == 0


def test_what_a_slow_guest_lost_is_not_made_up_for() -> None:
    world = World()
    governor = world.governor()
    world.guest, world.wall = 10 * MS, 500 * MS
    assert governor.idle(50 * MS) == 50 * MS
    assert world.wall == pytest.approx(550 * MS, abs=10)
    world.guest += 50 * MS
    governor.pace()
    assert world.wall == pytest.approx(550 * MS, abs=10)


def test_a_guest_that_is_ahead_when_it_idles_waits_for_both() -> None:
    world = World()
    governor = world.governor()
    world.guest = 5 * MS
    assert governor.idle(20 * MS) == 20 * MS
    assert world.wall == pytest.approx(25 * MS, abs=10)


def test_waiting_for_input_alone() -> None:
    world = World(key_at=7200_000 * MS)
    assert world.governor().idle(1 << 62) == pytest.approx(7200_000 * MS, rel=1e-6)
