# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines themselves: what a failure is, what a loss is, and what a power cut leaves.

That the boot entry decides which kernel runs is seen in test_kernels.py, on every loader.
"""

from __future__ import annotations

import time

import pytest

from tests.vm import guest
from tests.vm.design import Boot, Design, Root
from tests.vm.loader import GrubLike, NoBootError
from tests.vm.machine import JobError, Machine
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, all_wanted

_FEDORA = Design(Root.NAMED, Boot.EXT4, subvolumes=("home",))


def _failures_and_losses(machine: Machine) -> None:
    with pytest.raises(JobError, match="told") as failed:
        machine.boot("echo told; (exit 7); echo not reached")
    assert failed.value.code == 7
    assert "not reached" not in failed.value.output.replace("echo not reached", "")
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot("echo told; echo c >/proc/sysrq-trigger; sleep 60")
    with pytest.raises(LostMachineError, match="not off"):
        machine.boot("true", timeout_s=2)
    machine.loader, own = GrubLike("/elsewhere"), machine.loader
    with pytest.raises(NoBootError, match="not found"):
        machine.boot("true")
    machine.loader = own
    # What a job prints about its token cannot be the answer.
    assert machine.boot("cat token; echo vm-job-ended $(cat token) 0").output.count("ended") >= 1


def _power(machine: Machine) -> None:
    with machine.start("echo kept >/kept; sync; echo lost >/lost; echo ready; sleep 600") as booted:
        power, _ = booted
        power.wait_for("\nready", timeout_s=120)
        power.pause()
        before = power.output
        time.sleep(0.5)
        assert power.output == before
        assert power.is_on()
        power.resume()
        power.cut()
        assert not power.is_on()
    with machine.disks.top() as top:
        assert (top / "root/kept").read_text() == "kept\n"
        assert not (top / "root/lost").exists()
    assert "kept" in machine.boot("cat /kept").output


STORIES = [
    Story("failures-and-losses", _FEDORA, _failures_and_losses),
    Story("power", Design(Root.NAMED, Boot.IN_ROOT), _power),
]


# All of them are rare: they are for whoever changes the machines. The words of an answer are tested
# below each time, and test_power_cuts.py boots what a pause and a cut have left.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_machine(story: Story, telling: Telling) -> None:
        telling.hear(story)


def test_an_answer_is_no_accident() -> None:
    token = 987654321
    expected = guest.payload("true", {}, token=token).answer
    began = f"\x1b[2Jfirmware vm-job-began {token}\nhello\n"
    assert guest.answer(began, expected) is None
    assert guest.answer(f"{began}vm-job-ended {token} 0\n", expected) is None
    assert guest.answer(f"{began}vm-job-ended {expected} 0", expected) is None, "cut short"
    assert guest.answer(f"{began}vm-job-ended {expected} 3\n", expected) == ("hello\n", 3)
