"""A pytest plugin: the ``vm`` fixture is a machine, the ``vmm`` marker its settings.

::

    @pytest.mark.vmm(kernel="kernel.elf", memory="32M")
    def test_boots(vm):
        vm.serial.expect("ready", timeout=60)

``make_vm(**settings)`` makes machines whose settings are known only in the test.  All are closed at its end; if the
test failed, its report shows what their serial ports and screens showed last.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vmm.machine import Machine

MARKER = "vmm(**settings): the settings of the machine that the vm fixture makes (the keywords of vmm.Machine)"
LAST_LINES = 25
_MACHINES = pytest.StashKey[list["Machine"]]()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def make_vm(request: pytest.FixtureRequest) -> Iterator[Callable[..., Machine]]:
    """Makes machines: ``make_vm(kernel="kernel.elf", memory="32M")``, the keywords of ``vmm.Machine``."""
    from vmm.machine import Machine

    machines: list[Machine] = []
    request.node.stash[_MACHINES] = machines

    def make(**settings: Any) -> Machine:
        machines.append(Machine(**settings))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture
def vm(request: pytest.FixtureRequest, make_vm: Callable[..., Machine]) -> Machine:
    """A machine with the settings of the test's ``vmm`` markers; nearer ones count more."""
    settings: dict[str, Any] = {}
    for marker in request.node.iter_markers("vmm"):
        settings = marker.kwargs | settings
    return make_vm(**settings)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the machines of a failed test showed."""
    report = yield
    if report.when == "call" and report.failed:
        none: list[Machine] = []
        machines: list[Machine] = item.stash.get(_MACHINES, none)
        for n, machine in enumerate(machines):
            for title, text in _last_words(machine):
                report.sections.append((f"machine {n}, {title}", text))
    return report


def _last_words(machine: Machine) -> Iterator[tuple[str, str]]:
    for n, port in enumerate(machine.serials):
        if port.output:
            text = bytes(port.output).decode(errors="replace").replace("\r", "")
            yield f"serial port {n}", "\n".join(text.splitlines()[-LAST_LINES:])
    screen = machine.screen.text().rstrip()
    if screen:
        yield "screen", screen
