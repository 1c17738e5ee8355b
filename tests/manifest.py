# SPDX-License-Identifier: GPL-2.0-or-later
"""A list of all that can be told of a tree of files, and what differs between two such lists.

    python3 manifest.py list [--exclude PATH]... DIRECTORY >FILE
    python3 manifest.py compare [--ignore FIELD]... FILE FILE

Needs Python and nothing else, so that it runs in a machine, too. A manifest has no word of how a
filesystem stores what it holds: two filesystems with the same files have the same manifest.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import json
import os
import stat
import struct
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Union

Entry = dict[str, Union[str, int, dict[str, str]]]
Manifest = dict[str, Entry]  # by path, as os.fsdecode gives it; the top itself is "."

_BLOCK = 4096
_CHUNK = 256 * _BLOCK

# linux/fs.h
_GET_FLAGS = 0x80086601
_ATTRIBUTES = {"append": 0x20, "immutable": 0x10, "no-atime": 0x80, "no-dump": 0x40}


def manifest(top: Path, exclude: Collection[str] = ()) -> Manifest:
    """Return what there is in a tree, staying on its filesystem, and on btrfs in its subvolume.

    `exclude` are paths from `top`; with a directory goes what is in it, with "." only `top` itself.
    Access and change times are not in it, nor the size and the link count of directories, which
    each filesystem counts in its own way.
    """
    unwanted = {os.fsencode(path) for path in exclude}
    first_names: dict[int, bytes] = {}
    found: Manifest = {}
    with _directory(top):
        device = os.lstat(b".").st_dev
        for path in _walk(b".", device, unwanted):
            if path == b"." and path in unwanted:
                continue
            status = os.lstat(path)
            name = first_names.setdefault(status.st_ino, path)
            entry = _entry(path, status)
            if not stat.S_ISDIR(status.st_mode):
                entry["links"] = status.st_nlink
                entry["same as"] = os.fsdecode(name)
            found[os.fsdecode(path)] = entry
    return found


def _walk(path: bytes, device: int, unwanted: Collection[bytes]) -> Iterator[bytes]:
    """Give the path, and the paths below it in the order of their bytes."""
    status = os.lstat(path)
    if status.st_dev != device:
        return
    yield path
    if stat.S_ISDIR(status.st_mode):
        for name in sorted(os.listdir(path)):
            below = name if path == b"." else os.path.join(path, name)
            if below not in unwanted:
                yield from _walk(below, device, unwanted)


def _entry(path: bytes, status: os.stat_result) -> Entry:
    mode = status.st_mode
    entry: Entry = {
        "type": _TYPES.get(stat.S_IFMT(mode), "?"),
        "mode": f"{stat.S_IMODE(mode):04o}",
        "owner": f"{status.st_uid}:{status.st_gid}",
        "modified": f"{status.st_mtime_ns}",
        "attributes": _inode_attributes(path, mode),
        "xattrs": {
            os.fsdecode(name): _short(os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        },
    }
    if stat.S_ISREG(mode):
        entry |= {"size": status.st_size, "content": _content(path)}
    elif stat.S_ISLNK(mode):
        entry["target"] = os.fsdecode(os.readlink(path))
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        entry["device"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return entry


_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device",
}  # fmt: skip


def _content(path: bytes) -> str:
    """Return a digest of a file's blocks and their places, those of nothing but zeros left out.

    So holes cost nothing, and it is no matter whether zeros are written, unwritten or a hole.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        offset = 0
        while True:
            try:
                offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nothing but a hole up to the end
                    raise
                return digest.hexdigest()
            offset -= offset % _BLOCK
            chunk = os.pread(file.fileno(), _CHUNK, offset)
            for start in range(0, len(chunk), _BLOCK):
                block = chunk[start : start + _BLOCK]
                if block.count(0) != len(block):
                    digest.update(b"%d:%d:" % (offset + start, len(block)) + block)
            offset += len(chunk)


def _inode_attributes(path: bytes, mode: int) -> str:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return ""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        packed = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
    except OSError:  # a filesystem that has none
        return ""
    finally:
        os.close(descriptor)
    (flags,) = struct.unpack_from("i", packed)
    return " ".join(name for name, flag in _ATTRIBUTES.items() if flags & flag)


def _short(value: bytes) -> str:
    if len(value) <= 64:
        return value.hex()
    return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}"


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Work in a directory: a path below it may be as long as it likes, one from / may not."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def compare(old: Manifest, new: Manifest, ignore: Collection[str] = ()) -> list[str]:
    """Return a line for each difference; none if the trees are the same.

    `ignore` are fields of an entry that do not matter: "attributes" for what chattr(1) sets.
    """
    lines = [f"{path!a}: missing" for path in old if path not in new]
    lines += [f"{path!a}: new" for path in new if path not in old]
    for path in (path for path in old if path in new):
        before, after = old[path], new[path]
        for name in sorted({*before, *after} - set(ignore)):
            if before.get(name) != after.get(name):
                lines.append(f"{path!a}: {name}: {before.get(name)!a} -> {after.get(name)!a}")
    return sorted(lines)


def dump(listed: Manifest) -> str:
    """Return a manifest as text, a line for each path."""
    return "".join(f"{json.dumps([path, entry])}\n" for path, entry in listed.items())


def load(text: str) -> Manifest:
    """Read what `dump` wrote; raises ValueError if it is something else."""
    return dict(json.loads(line) for line in text.splitlines())


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; 1 if two manifests differ."""
    parser = argparse.ArgumentParser(description="List a tree of files, or compare two lists.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list")
    listing.add_argument("directory", type=Path)
    listing.add_argument("--exclude", action="append", default=[], metavar="PATH")
    comparison = commands.add_parser("compare")
    comparison.add_argument("files", type=Path, nargs=2)
    comparison.add_argument("--ignore", action="append", default=[], metavar="FIELD")
    given = parser.parse_args(arguments)
    if given.command == "list":
        sys.stdout.write(dump(manifest(given.directory, given.exclude)))
        return 0
    old, new = (load(path.read_text()) for path in given.files)
    differences = compare(old, new, given.ignore)
    sys.stdout.write("".join(f"{line}\n" for line in differences))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
