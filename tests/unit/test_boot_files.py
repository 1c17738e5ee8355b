# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fs_rollback.core.snapshots.saved_files import BootFilesError, SavedBoot, SavedFile, dump, parse

KERNEL = "6.11.4-301.fc41.x86_64"
IMAGE = SavedFile(KERNEL, f"tree:boot/vmlinuz-{KERNEL}", "0f" * 32, 16_000_000, 1763904597000000001)
INITRD = SavedFile(
    KERNEL, f"tree:boot/initramfs-{KERNEL}.img", "1e" * 32, 40_000_000, 1763904597000000002
)
ENTRY = SavedFile(
    KERNEL, f"tree:boot/loader/entries/x-{KERNEL}.conf", "2d" * 32, 400, 1763904597000000003
)
# What another program of the same version wrote.
STORED: dict[str, Any] = {
    "version": 1,
    "default": f"x-{KERNEL}",
    "files": [
        {
            "kernel": KERNEL,
            "where": f"tree:boot/vmlinuz-{KERNEL}",
            "sha256": "0f" * 32,
            "size_bytes": 16_000_000,
            "mtime_ns": 1763904597000000001,
        }
    ],
}


def _boot(*files: SavedFile) -> SavedBoot:
    return SavedBoot(f"x-{KERNEL}", files)


def test_what_is_stored_is_what_is_read() -> None:
    assert parse(json.dumps(STORED)) == _boot(IMAGE)
    assert json.loads(dump(_boot(IMAGE))) == STORED
    assert set(parse(dump(_boot(IMAGE, INITRD, ENTRY))).files) == {IMAGE, INITRD, ENTRY}
    assert parse(dump(SavedBoot("", ()))) == SavedBoot("", ())


def test_one_state_of_boot_has_one_text() -> None:
    # The list is named by its content: another order must not make another list.
    rows = [IMAGE, INITRD, ENTRY]
    texts = set()
    for number in range(6):
        random.Random(number).shuffle(rows)
        texts.add(dump(_boot(*rows)))
    assert len(texts) == 1
    assert dump(_boot(IMAGE)) != dump(_boot(IMAGE._replace(mtime_ns=1)))
    assert dump(_boot(IMAGE)) != dump(SavedBoot("", (IMAGE,)))


def test_times_in_nanoseconds_keep_their_last_digit() -> None:
    assert parse(dump(_boot(IMAGE))).files[0].mtime_ns == 1763904597000000001


def test_entries_are_told_from_what_they_name() -> None:
    assert ENTRY.is_entry
    assert not IMAGE.is_entry
    assert not INITRD.is_entry


def test_names_that_are_no_utf_8_come_back() -> None:
    odd = IMAGE._replace(where="tree:boot/\udcff")
    text = dump(_boot(odd))
    text.encode("utf-8")
    assert parse(text) == _boot(odd)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        "{}",
        '{"version": 1}',
        '{"files": []}',
        '{"version": 1, "files": 1}',
        '{"version": 1, "files": [1]}',
        '{"version": 1, "files": [{}]}',
        '{"version": "1", "files": []}',
        '{"version": null, "files": []}',
        "[" * 100_000,
        json.dumps(STORED)[:-1],
        json.dumps(STORED).replace("16000000", '"many"'),
        json.dumps(STORED).replace("16000000", "null"),
        json.dumps(STORED).replace("16000000", "9" * 10_000),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(BootFilesError):
        parse(text)


@pytest.mark.parametrize("key", ["kernel", "where", "sha256", "size_bytes", "mtime_ns"])
def test_every_key_is_needed(key: str) -> None:
    row = {k: v for k, v in STORED["files"][0].items() if k != key}
    with pytest.raises(BootFilesError):
        parse(json.dumps({**STORED, "files": [row]}))


def test_a_list_of_a_newer_program_is_not_guessed_at() -> None:
    with pytest.raises(BootFilesError, match="newer"):
        parse(json.dumps({**STORED, "version": 2}))


def test_a_key_that_is_not_known_is_no_error() -> None:
    row = {**STORED["files"][0], "future": 1}
    assert parse(json.dumps({**STORED, "future": [], "files": [row]})) == _boot(IMAGE)
