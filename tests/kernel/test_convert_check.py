# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert check` on real ext4: what each trouble is said to be, and that looking changes nothing.

Every case is a machine that nothing is said against, with one thing changed.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from fs_rollback.cli.screen.findings import findings_text
from fs_rollback.cli.terminal import wrapped
from fs_rollback.convert.commands.check import wording
from fs_rollback.core.boot.findings import Finding, Grade
from tests.kernel.attached import (
    nothing_stays,  # noqa: F401 - a fixture: being here is enough
)
from tests.kernel.ext4_cases import FEATURES, FILES, KERNELS, STATE, Case
from tests.kernel.ext4_images import LEAST_BYTES, Tools, check, debugfs, make, on
from tests.kernel.machine import run


def _prepare(case: Case, image: Path, tree: Path) -> None:
    if case.format or case.size_bytes:
        make(image, tree, *case.format, size_bytes=case.size_bytes or LEAST_BYTES)
    for request in case.before:
        _change(image, request)
    if case.change is not None:
        with on(image) as root:
            case.change(root)
    for request in case.after:
        _change(image, request)


def _change(image: Path, request: str) -> None:
    words = request.split(" ")
    if words[0] == "tune2fs":
        run(*words, str(image))
    elif words[0] == "bit":
        _set_bit(image, int(words[1], 16), int(words[2], 16))
    else:
        debugfs(image, request)


def _set_bit(image: Path, offset: int, bit: int) -> None:
    with image.open("r+b") as file:
        file.seek(1024 + offset)
        (value,) = struct.unpack("<I", file.read(4))
        file.seek(1024 + offset)
        file.write(struct.pack("<I", value | bit))


@pytest.mark.parametrize("case", [*FEATURES, *STATE, *FILES, *KERNELS], ids=lambda case: case.name)
def test_what_is_said(case: Case, ext4_image: Path, ext4_tree: Path) -> None:
    _prepare(case, ext4_image, ext4_tree)
    backup = ["--have-backup"] if case.backup else []
    done = check(ext4_image, case.tools, "--json", *backup)
    assert done.err == ""
    found = [
        (f"{point['verdict']} {point['name']}", f"{point['text']}\n{point['advice']}")
        for point in done.json["points"]
    ]
    expected = [text.partition(": ") for text in case.said]
    # Each thing that is said is there, and nothing else is not ok.
    for heading, _, part in expected:
        assert any(heading == one and part in text for one, text in found), (part, done.out)
    troubles = [heading for heading, _, _ in expected if not heading.startswith("ok ")]
    assert [one for one, _ in found if not one.startswith("ok ")] == troubles, done.out
    worst = min(
        [*(text.split()[0] for text in troubles), "ok"], key=["refused", "warning", "ok"].index
    )
    assert (done.json["verdict"], done.code) == (
        worst,
        {"ok": 0, "warning": 1, "refused": 3}[worst],
    )


@pytest.mark.parametrize(
    ("tools", "words", "code", "last"),
    [
        (Tools(), ["--have-backup"], 0, "This root can be converted to btrfs."),
        (Tools(lister=""), [], 1, "This root can be converted to btrfs; see the warnings first."),
        (
            Tools(progs="6.2"),
            [],
            3,
            "This root cannot be converted as it is: btrfs-progs (see above).",
        ),
    ],
    ids=["ok", "warnings", "refused"],
)
def test_the_text_says_what_json_says(
    ext4_image: Path, tools: Tools, words: list[str], code: int, last: str
) -> None:
    text = check(ext4_image, tools, *words)
    run("rm", "-r", str(ext4_image.with_name("tools")))
    data = check(ext4_image, tools, "--json", *words).json
    assert (text.code, text.err) == (code, "")
    assert set(data) == {"version", "verdict", "points"}
    keys = ["name", "verdict", "text", "advice", "code", "subject"]
    assert all(list(point) == keys for point in data["points"])
    grades = {word: grade for grade, word in wording().words.items()}
    points = [
        Finding(p["code"], p["subject"] or "", grades[p["verdict"]], p["text"], p["advice"] or "")
        for p in data["points"]
    ]
    assert [p["name"] for p in data["points"]] == [point.name for point in points]
    said = re.sub("/dev/loop[0-9]+", points[0].text.split()[0], text.out)
    assert said == findings_text(points, wording(), wrapped) + "\n"
    lines = said.splitlines()
    assert lines[-1] == last
    for point in points:
        line = next(n for n, text in enumerate(lines) if text.endswith(point.text))
        assert lines[line].startswith(f"{wording().words[point.grade]:7}  {point.name} ")
        if point.grade is not Grade.OK:
            assert point.advice
            assert lines[line + 1].strip() == point.advice
