"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmm import builtin

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.fixture
def marked(vm):
    return vm

pytestmark = pytest.mark.vmm(memory="4M", kernel={kernel!r})

@pytest.mark.vmm(memory="8M")
def test_the_marker_makes_the_machine(vm):
    assert len(vm.memory) == 8 << 20
    vm.serial.expect("done", timeout=60)

def test_machines_made_in_the_test(make_vm):
    one, two = make_vm(kernel={kernel!r}), make_vm(kernel={kernel!r}, memory="16M")
    one.run()
    assert two.run().insns == one.run().insns

def test_that_fails(vm):
    vm.run()
    assert False
"""


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    kernel = Path(pytester.path, "kernel")
    kernel.write_bytes(builtin.image())
    pytester.makepyfile(TESTS.format(kernel=str(kernel)))
    result = pytester.runpytest_subprocess("-p", "vmm.pytest_plugin", "--strict-markers", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([r".*machine 0, serial port 0.*", r".*Built-in guest: done\."])
    assert result.stdout.str().count("machine 0, serial port 0") == 1, "only for the test that failed"
