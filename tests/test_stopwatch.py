"""Where wall time goes: whatever happens, the accounts add up to all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.builtin import LAST_LINE, image
from vmm.machine import Machine
from vmm.stopwatch import PARTS, Stopwatch


class Wall:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def watch(wall: Wall) -> Stopwatch:
    return Stopwatch(wall)


def test_time_belongs_to_the_account_entered_last(wall: Wall, watch: Stopwatch) -> None:
    wall.now += 1
    assert watch.enter(watch.tc) is watch.setup
    wall.now += 2
    assert watch.enter(watch.account("callout", "cpuid")) is watch.tc
    wall.now += 4
    assert watch.parts() == dict.fromkeys(PARTS, 0.0) | {"setup": 1.0, "tc": 2.0, "callout": 4.0}
    wall.now += 8
    assert watch.parts()["callout"] == 12.0
    assert dict(watch.details("callout")) == {"cpuid": 12.0}


def test_what_did_not_run_has_no_detail(watch: Stopwatch) -> None:
    watch.account("callout", "cpuid")
    assert dict(watch.details("callout")) == {}


def test_between_runs_time_is_nobodys(wall: Wall, watch: Stopwatch) -> None:
    watch.enter(watch.outside)
    wall.now += 50
    watch.enter(watch.tc)
    wall.now += 1
    assert (watch.total, sum(watch.parts().values())) == (1.0, 1.0)


def test_the_making_began_before_the_watch(wall: Wall, watch: Stopwatch) -> None:
    wall.now += 1
    watch.began(97.5)
    assert (watch.total, watch.parts()["setup"]) == (3.5, 3.5)


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_is_charged_even_if_it_fails(wall: Wall, watch: Stopwatch, fails: bool) -> None:
    def call(seconds: float, *, more: float) -> float:
        wall.now += seconds + more
        if fails:
            raise KeyError
        return seconds

    charged = watch.timed(watch.account("device", "vga"), call)
    watch.enter(watch.tc)
    if fails:
        with pytest.raises(KeyError):
            charged(2, more=1)
    else:
        assert charged(2, more=1) == 2
    wall.now += 10
    assert {part: spent for part, spent in watch.parts().items() if spent} == {"device": 3.0, "tc": 10.0}


@given(st.lists(st.tuples(st.sampled_from([*PARTS, "outside"]), st.sampled_from(["", "a", "b"]), st.integers(0, 9))))
def test_the_parts_are_all_of_it(steps: list[tuple[str, str, int]]) -> None:
    wall = Wall()
    watch = Stopwatch(wall)
    outside = 0
    for part, detail, seconds in steps:
        watch.enter(watch.outside if part == "outside" else watch.account(part, detail))
        wall.now += seconds
        outside += seconds if part == "outside" else 0
    assert sum(watch.parts().values()) == watch.total == wall.now - 100 - outside
    for part, spent in watch.parts().items():
        whole = sum(seconds for name, detail, seconds in steps if name == part and not detail)
        assert sum(spent for _, spent in watch.details(part)) == spent - whole


# A machine with a clock of its own: one tick a reading, so that every part that is entered has some.


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    wall = Wall()

    def tick() -> float:
        wall.now += 1
        return wall.now

    monkeypatch.setattr("vmm.machine.Stopwatch", lambda: Stopwatch(tick))
    kernel = tmp_path_factory.mktemp("guest") / "builtin"
    kernel.write_bytes(image())
    with Machine(kernel=kernel) as machine:
        yield machine


def test_statistics_add_up_to_the_wall(ticking: Machine) -> None:
    assert ticking.run(until=LAST_LINE).status == 0
    stats = ticking.stats
    assert sum(stats.seconds.values()) == stats.wall_seconds > 100
    assert sum(stats.callout_seconds.values()) == stats.seconds["callout"]
    assert sum(stats.device_seconds.values()) == stats.seconds["device"]
    assert set(stats.callout_seconds) == {kind for kind, count in stats.callouts.items() if count}
    assert {device for device, count in stats.port_io.items() if count} <= set(stats.device_seconds)
    for part in ("setup", "tc", "exit", "translate", "callout", "device", "schedule", "chores"):
        assert stats.seconds[part] > 0, part
    assert stats.seconds["idle"] == 0


def test_the_end_belongs_to_the_machine_and_what_comes_between_does_not(ticking: Machine) -> None:
    ticking.run(max_insns=1000)
    first = ticking.stats.wall_seconds
    ticking.watch.enter(ticking.watch.outside)
    ticking.run(max_insns=1000)
    ticking.close()
    stats = ticking.stats
    assert sum(stats.seconds.values()) == stats.wall_seconds > first
