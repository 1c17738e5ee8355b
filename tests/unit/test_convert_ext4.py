# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of ext4 is what dumpe2fs(8) and debugfs(8) say of it. Images are plain files."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Optional

import pytest

from fs_rollback.convert.disk import ext4, groups, inodes
from fs_rollback.convert.disk.ext4 import Superblock
from fs_rollback.convert.disk.groups import Group
from fs_rollback.convert.disk.inodes import INODE_FLAGS, Count
from tests.need import withhold

_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_EXTENTS = 0x80000
GEOMETRIES = {
    "usual": [],
    "usual, large": ["-b", "4096", "SIZE=40G"],
    "1k blocks": ["-b", "1024", "SIZE=300M"],
    "2k blocks": ["-b", "2048", "SIZE=300M"],
    "without 64bit": ["-O", "^64bit"],
    "without metadata_csum": ["-O", "^metadata_csum,uninit_bg"],
    "without any checksum": ["-O", "^metadata_csum,^uninit_bg"],
    "neither 64bit nor checksums": ["-b", "1024", "-O", "^64bit,^metadata_csum", "SIZE=300M"],
    "inodes of 128 bytes": ["-I", "128"],
    "inodes of 1024 bytes": ["-I", "1024"],
    "without flex_bg": ["-O", "^flex_bg", "-b", "1024", "SIZE=300M"],
    "flex_bg of 4": ["-G", "4", "-b", "1024", "SIZE=300M"],
    "many groups": ["-g", "1024", "-b", "1024", "SIZE=60M"],
    "few inodes": ["-N", "64"],
    "bigalloc": ["-O", "bigalloc"],
    "bigalloc of 1k blocks": ["-O", "bigalloc", "-b", "1024", "-C", "16384", "SIZE=300M"],
    "without a journal": ["-O", "^has_journal"],
    "meta_bg": ["-O", "meta_bg,^resize_inode", "-b", "1024", "SIZE=300M"],
    "meta_bg, large": ["-O", "meta_bg,^resize_inode,^flex_bg", "-b", "4096", "SIZE=40G"],
    "sparse_super2": ["-O", "sparse_super2,^resize_inode"],
    "labelled": ["-L", "sixteen letters!"],
    "quota": ["-O", "quota,project"],
    "all on one": ["-O", "encrypt,verity,casefold,inline_data,ea_inode,large_dir"],
}


class Image(NamedTuple):
    """A filesystem in a file."""

    path: Path
    options: list[str]

    def read(self, offset: int, size_bytes: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size_bytes)

    def superblock(self) -> Superblock:
        found = ext4.parse(self.read(ext4.SUPERBLOCK_OFFSET, ext4.SUPERBLOCK_BYTES))
        assert found is not None
        return found

    def groups(self) -> list[Group]:
        superblock = self.superblock()
        places = groups.descriptors_at(superblock)
        return groups.parse(superblock, b"".join(self.read(*place) for place in places))

    def counted(self) -> Count:
        superblock, count = self.superblock(), Count(dict.fromkeys(INODE_FLAGS, 0))
        size = superblock.block_bytes
        for table in groups.inode_tables(superblock, self.groups()):
            count.add(
                self.read(*table), superblock.inode_bytes, lambda n: self.read(n * size, size)
            )
        return count

    def counts(self) -> dict[str, int]:
        return self.counted().users

    def usage(self) -> str:
        """Return all blocks, from the first one on: "1" is in use."""
        superblock, described = self.superblock(), self.groups()
        found = ""
        for index, group in enumerate(described):
            place = groups.bitmap_at(superblock, group)
            bitmap = self.read(*place) if place is not None else b""
            found += groups.usage(superblock, described, index, bitmap)
        return found


def tool(name: str, *arguments: str) -> str:
    found = shutil.which(name, path=_PLACES)
    if found is None:
        withhold(f"not installed: {name}")
    done = subprocess.run(
        [found, *arguments],
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def make(directory: Path, *options: str) -> Image:
    """Make one with files in it; the SIZE= among the options is not one of mke2fs."""
    size = next((word[5:] for word in options if word.startswith("SIZE=")), "64M")
    given = [word for word in options if not word.startswith("SIZE=")]
    tree = directory / "tree"
    for number in range(30):
        path = tree / f"directory{number % 7}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * number * 20)
    path = directory / "disk.img"
    lazy = ["-E", "lazy_itable_init=1,nodiscard"]
    tool("mke2fs", "-q", "-F", "-t", "ext4", *lazy, *given, "-d", str(tree), str(path), size)
    return Image(path, given)


@pytest.fixture(params=GEOMETRIES.values(), ids=list(GEOMETRIES))
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Image:
    return make(tmp_path, *request.param)


def _said(text: str, key: str) -> str:
    match = re.search(rf"^{re.escape(key)}:\s*(.*)$", text, re.MULTILINE)
    assert match is not None, key
    return match.group(1).strip()


def test_the_superblock_is_what_dumpe2fs_says(image: Image) -> None:
    found, text = image.superblock(), tool("dumpe2fs", "-h", str(image.path))
    assert found.uuid == _said(text, "Filesystem UUID")
    assert found.label == _said(text, "Filesystem volume name").replace("<none>", "")
    assert found.features == set(_said(text, "Filesystem features").split())
    for value, key in (
        (found.block_bytes, "Block size"),
        (found.blocks, "Block count"),
        (found.free_blocks, "Free blocks"),
        (found.inodes, "Inode count"),
        (found.free_inodes, "Free inodes"),
        (found.inode_bytes, "Inode size"),
        (found.inodes_per_group, "Inodes per group"),
        (found.first_block, "First block"),
        (found.mounts, "Mount count"),
    ):
        assert value == int(_said(text, key)), key
    if "64bit" in found.features:
        assert found.descriptor_bytes == int(_said(text, "Group descriptor size"))
    assert found.clean == (_said(text, "Filesystem state") == "clean")
    assert found.checked is not None
    last = _said(text, "Last checked") + " +0000"
    assert found.checked == datetime.strptime(last, "%a %b %d %H:%M:%S %Y %z")
    assert (found.errors, found.external_journal) == (0, False)


def test_the_inode_tables_are_where_dumpe2fs_says(image: Image) -> None:
    superblock = image.superblock()
    place = groups.descriptors_at(superblock)[0]
    tables = list(groups.inode_tables(superblock, image.groups()))
    text = tool("dumpe2fs", str(image.path))
    described = re.split(r"\nGroup (?=\d)", text)[1:]
    assert superblock.groups == len(described)
    pattern = r"Group descriptors? at (\d+)"
    assert place.offset == _number(pattern, text) * superblock.block_bytes
    by_offset = {table.offset // superblock.block_bytes: table for table in tables}
    for group in described:
        table = by_offset.pop(_number(r"Inode table at (\d+)-", group), None)
        size = table.size_bytes // superblock.inode_bytes if table else 0
        used = superblock.inodes_per_group - _number(r", (\d+) free inodes", group)
        assert used <= size <= superblock.inodes_per_group, "each inode in use is read"
        if {"metadata_csum", "uninit_bg"} & superblock.features:
            assert size == superblock.inodes_per_group - _number(r", (\d+) unused inodes", group)
    assert by_offset == {}


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match.group(1)) if match else 0


def test_flags_are_counted_as_debugfs_sets_them(image: Image) -> None:
    before = image.counts()
    inline = before["inline_data"]
    assert (inline > 0) == any("inline_data" in word for word in image.options)
    assert {**before, "inline_data": 0} == dict.fromkeys(INODE_FLAGS, 0)
    # More than fits into an inode; some have two flags.
    flags = {23: ["encrypt"], 24: ["verity"], 25: ["ea_inode"], 26: ["casefold"],
             27: ["encrypt", "verity"], 28: ["encrypt", "casefold", "ea_inode"]}  # fmt: skip
    script = image.path.with_name("requests")
    script.write_text(
        "".join(
            f"set_inode_field /directory{number % 7}/file{number} flags"
            f" {_EXTENTS + sum(INODE_FLAGS[name] for name in names):#x}\n"
            for number, names in flags.items()
        )
    )
    tool("debugfs", "-w", "-f", str(script), str(image.path))
    wanted = {"encrypt": 3, "verity": 2, "ea_inode": 2, "casefold": 2, "inline_data": inline}
    assert image.counts() == wanted


def test_what_was_deleted_is_not_counted(tmp_path: Path) -> None:
    image = make(tmp_path)
    flags = _EXTENTS | INODE_FLAGS["encrypt"]
    for number in (3, 4):
        path = f"/directory{number}/file{number}"
        tool("debugfs", "-w", "-R", f"set_inode_field {path} flags {flags:#x}", str(image.path))
    assert image.counts()["encrypt"] == 2
    tool("debugfs", "-w", "-R", "rm /directory3/file3", str(image.path))
    assert image.counts()["encrypt"] == 1


def test_the_blocks_in_use_are_those_that_dumpe2fs_says(image: Image) -> None:
    if "bigalloc" in image.superblock().features:
        return  # its bitmaps are of clusters
    used, first = image.usage(), image.superblock().first_block
    assert len(used) == image.superblock().blocks - first
    assert used.count("0") == image.superblock().free_blocks
    for piece in re.findall(r"  Free blocks: (.*)", tool("dumpe2fs", str(image.path))):
        for words in filter(None, piece.split(", ")):
            start, _, end = words.partition("-")
            assert "1" not in used[int(start) - first : int(end or start) + 1 - first]


def test_what_is_listed_as_bad_is_counted(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("9000\n9001\n9500\n")
    for number, options in enumerate(([], ["-l", str(tmp_path / "bad")])):
        image = make(tmp_path, *options)
        superblock, table = image.superblock(), image.groups()[0].inode_table
        first = image.read(table * superblock.block_bytes, superblock.inode_bytes)
        assert inodes.bad_blocks(first, superblock.block_bytes) == 3 * number
        shutil.rmtree(tmp_path / "tree")
        tool("debugfs", "-w", "-R", "set_inode_field <1> block[0] 9000", str(image.path))
        first = image.read(table * superblock.block_bytes, superblock.inode_bytes)
        assert inodes.bad_blocks(first, superblock.block_bytes) in (1, 3)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("error_count", "7", {"errors": 7}),
        ("state", "3", {"errors": 1, "clean": True}),
        ("state", "0", {"errors": 0, "clean": False}),
        ("lastcheck", "0", {"checked": None}),
        ("journal_inum", "0", {"external_journal": True}),
        ("mnt_count", "65535", {"mounts": 65535}),
        ("volume_name", "syst\u00e8me", {"label": "syst\u00e8me"}),
    ],
)
def test_what_debugfs_writes_is_read(
    tmp_path: Path, field: str, value: str, expected: dict[str, object]
) -> None:
    image = make(tmp_path)
    tool("debugfs", "-w", "-R", f"set_super_value {field} {value}", str(image.path))
    assert {key: getattr(image.superblock(), key) for key in expected} == expected


def test_a_bit_without_a_name(tmp_path: Path) -> None:
    image = make(tmp_path)
    data = bytearray(image.read(ext4.SUPERBLOCK_OFFSET, ext4.SUPERBLOCK_BYTES))
    for offset in (0x5F, 0x63, 0x67):
        data[offset] |= 0x80
    found = ext4.parse(bytes(data))
    assert found is not None
    assert found.features - image.superblock().features == {
        "compat 0x80000000", "incompat 0x80000000", "ro_compat 0x80000000",
    }  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 0x3A, 1023])
def test_too_little_is_no_superblock(tmp_path: Path, size: int) -> None:
    data = make(tmp_path).read(ext4.SUPERBLOCK_OFFSET, ext4.SUPERBLOCK_BYTES)
    assert ext4.parse(data[:size]) is None


def _random() -> random.Random:
    return random.Random(20261126)


def _read_all(data: bytes) -> Optional[Superblock]:
    """Read it as facts.py does; nothing may be raised, and nothing absurd be asked for."""
    found = ext4.parse(data)
    if found is not None:
        assert found.groups * found.inodes_per_group == found.inodes
        assert 0 <= found.free_blocks <= found.blocks
        assert found.size_bytes >= 0
        size = found.groups * found.descriptor_bytes
        if 0 < size < 1 << 16:
            assert sum(place.size_bytes for place in groups.descriptors_at(found)) == size
            described = groups.parse(found, _random().randbytes(size))
            list(groups.inode_tables(found, described))
            groups.usage(found, described, len(described) - 1, b"\xff")
            with pytest.raises(ValueError, match="fewer"):
                groups.parse(found, bytes(size - 1))
    return found


def test_random_bytes_are_no_superblock_and_raise_nothing() -> None:
    source = _random()
    for _ in range(500):
        data = bytearray(source.randbytes(1024))
        assert _read_all(bytes(data)) is None
        data[0x38:0x3A] = b"\x53\xef"
        _read_all(bytes(data))


def test_a_superblock_with_random_bytes_in_it_raises_nothing(tmp_path: Path) -> None:
    source = _random()
    good = make(tmp_path).read(ext4.SUPERBLOCK_OFFSET, ext4.SUPERBLOCK_BYTES)
    read = 0
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(source.randrange(1, 8)):
            data[source.randrange(1024)] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
        read += _read_all(bytes(data)) is not None
    assert 150 < read < 1500, "some can be read, some cannot"


def test_random_inodes_raise_nothing() -> None:
    source = _random()
    for size in (128, 256, 1024):
        for length in (0, 1, size - 1, size, 7 * size + 3):
            count = Count(dict.fromkeys(INODE_FLAGS, 0))
            count.add(source.randbytes(length), size, lambda _: source.randbytes(4096))
            assert max(count.users.values()) <= length // size
            assert inodes.bad_blocks(source.randbytes(size), 4096) > 0
