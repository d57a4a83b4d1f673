"""Ctrl-C while a machine runs: first asked, then insisted on."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from vmm.signals import Interrupts


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_asks_and_wakes_the_second_raises() -> None:
    asked = []
    with Interrupts(lambda: asked.append(True)) as interrupts:
        assert not interrupts.pending
        assert not select.select([interrupts.wake], [], [], 0)[0]
        press()
        assert (interrupts.pending, asked) == (True, [True])
        assert select.select([interrupts.wake], [], [], 0)[0]
        with pytest.raises(KeyboardInterrupt):
            press()
    with pytest.raises(KeyboardInterrupt):
        press()


def test_it_can_be_used_again() -> None:
    interrupts = Interrupts(lambda: None)
    for _ in range(2):
        with interrupts:
            assert not interrupts.pending
            press()
            assert interrupts.pending


def test_a_handler_of_the_programs_own_is_left_alone() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interrupts(lambda: None) as interrupts:
            press()
            assert (interrupts.pending, interrupts.wake) == (False, -1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_outside_the_main_thread_nothing_is_changed() -> None:
    seen = []

    def run() -> None:
        with Interrupts(lambda: None) as interrupts:
            seen.append(interrupts.wake)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [-1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
