# SPDX-License-Identifier: GPL-2.0-or-later
"""A conversion tells the system's journal of each of its phases, and of the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import journal
from tests.kernel.attached import attached
from tests.kernel.boots import MakeBoot, make_boot
from tests.kernel.commands import done
from tests.kernel.conversions import command, converted_on, prepared_image
from tests.kernel.converted import Converted
from tests.kernel.ext4_prepared import Ext4Root
from tests.kernel.journal import Journal

__all__ = ["make_boot"]


@pytest.fixture(name="told")
def _told() -> Iterator[Journal]:
    with journal.running() as found:
        yield found


def test_prepare_and_abort(ext4_root: Ext4Root, told: Journal) -> None:
    done(ext4_root.root, "convert", "prepare", "--yes", "--have-backup")
    done(ext4_root.root, "convert", "abort", "--yes")
    events = told.events()
    assert [(e["event"], e["reason"]) for e in events] == [
        ("conversion", "prepared"),
        ("conversion", "the preparation was undone"),
    ]
    assert {event["system"] for event in events} == {str(ext4_root.root)}
    assert "convert abort" in events[-1]["command"]


@pytest.mark.usefixtures("btrfs_progs")
def test_run_and_back(tmp_path: Path, told: Journal) -> None:
    image = prepared_image(tmp_path)
    before = len(told.events())
    with attached(image) as device:
        assert converted_on(device).code == 0
        assert command("run", "--back", "--device", device, "--yes").code == 0
        events = told.events()[before:]
        assert command("run", "--back", "--device", device, "--yes").code == 3
        refused = told.events()[-1]
    assert {event["system"] for event in events} == {device}
    reasons = [event["reason"] for event in events]
    phases = ("check", "save", "convert", "edit", "verify", "note")
    after = [reason for reason in reasons if reason.startswith("after")]
    assert after == [f"after phase '{phase}'" for phase in phases]
    assert "before phase 'convert'" in reasons
    assert reasons[-2:] == ["the return to ext4 starts", "it is ext4 again"]
    assert (refused["event"], refused["system"]) == ("refused", device)


def test_finish(make_boot: MakeBoot, told: Journal) -> None:
    converted = Converted(make_boot("top level"))
    converted.create()
    try:
        assert converted.finish("--remove-ext4").code == 0
        (event,) = (e for e in told.events() if e["event"] == "conversion")
    finally:
        converted.unmount()
    assert event["reason"] == "finish --remove-ext4 is done"
    assert event["system"] == str(converted.root)
