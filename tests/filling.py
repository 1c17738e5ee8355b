# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of every kind: what a filesystem can hold that the files of packages are not.

    python3 filling.py DIRECTORY

Needs Python and nothing else, so that it runs in a machine, too; manifest.py beside it tells
whether all of it is still there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Callable

_BLOCK = 4096

# linux/falloc.h, linux/fs.h
_KEEP_SIZE = 1
_SET_FLAGS = 0x40086602
_FLAGS = {"append": 0x20, "immutable": 0x10, "no-atime": 0x80, "no-dump": 0x40}

# linux/posix_acl.h, linux/posix_acl_xattr.h
_ACL_VERSION, _NOBODY_IN_PARTICULAR = 2, 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

# linux/capability.h: VFS_CAP_REVISION_2 and the effective bit; CAP_NET_RAW.
_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def fill(directory: Path, *, wide: int = 5000) -> None:
    """Make files of every kind in `directory`, which is made if it is not there; needs root.

    Takes about 10 MiB, and 400 inodes besides the `wide` empty files of one directory. One file is
    larger than 4 GiB; one is immutable, where the filesystem has that.
    """
    directory.mkdir(exist_ok=True)
    for number, make in enumerate(_MAKERS):
        path = directory / make.__name__.strip("_")
        path.mkdir()
        make(path)
        if make is _tree:
            _many(path / "wide", wide)
        # Directories are as old as anything.
        os.utime(path, ns=(10**18, 10**18 + 123456789 + number))
    os.utime(directory, ns=(10**18, 10**18 + 987654321))


def _sizes(path: Path) -> None:
    for size in (*range(65), *range(120, 140), 1023, 2048, *range(4080, 4110), 5000, 65537):
        (path / f"{size}").write_bytes(_data(size, seed=size))
    (path / "fragments").write_bytes(b"")
    # In turn: neighbours on the disk belong to different files.
    for step in range(64):
        for name in ("one", "other"):
            with (path / name).open("ab") as file:
                file.write(_data(_BLOCK, seed=step))
                file.flush()
                os.fdatasync(file.fileno())


def _holes(path: Path) -> None:
    places = {
        "begin": (1 << 20,),
        "middle": (0, 1 << 20),
        "end": (0,),
        "many": tuple(range(0, 1 << 21, 3 * _BLOCK)),
        "odd": (1, 12345, 99999),
        "none-but-holes": (),
        "over-4-gib": (0, (1 << 32) - 50, (1 << 32) + 12345, 5 << 30),
    }
    for name, offsets in places.items():
        with (path / name).open("wb") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(_data(100, seed=offset))
            if name in ("end", "none-but-holes"):
                file.truncate(1 << 20)
    (path / "written-zeros").write_bytes(bytes(1 << 20))


def _preallocated(path: Path) -> None:
    for keep in (False, True):
        for name, written in {"unwritten": (), "partly": (0, 9, 40), "end": (63,)}.items():
            with (path / f"{name}{'-beyond-its-end' if keep else ''}").open("wb") as file:
                _fallocate(file.fileno(), _KEEP_SIZE if keep else 0, 64 * _BLOCK)
                for block in written:
                    file.seek(block * _BLOCK)
                    file.write(_data(_BLOCK, seed=block))
                    file.flush()
                    os.fsync(file.fileno())


def _links(path: Path) -> None:
    target = path / "first"
    target.write_text("one file, several names\n")
    (path / "elsewhere").mkdir()
    for number in range(100):
        os.link(target, path / f"name-{number:03}")
    os.link(target, path / "elsewhere/name")
    for length in (1, 59, 60, 61, 255, 4000):
        link = path / f"symbolic-{length}"
        link.symlink_to(("x/" * length)[: length - 1] + "x")
    (path / "symbolic-utf8").symlink_to("grün/é")
    os.symlink(b"\xff\xfe", os.fsencode(path / "symbolic-bytes"))
    os.link(path / "symbolic-255", path / "symbolic-again", follow_symlinks=False)


def _names(path: Path) -> None:
    names = ["n" * 250, "n" * 255, "ä" * 125, "日" * 83, " ", "a\nb", "back\\slash", "'\"$*", "-rf"]
    for name in (*map(os.fsencode, names), b"\xff\xfe" * 125, b"\x80"):
        with open(os.path.join(os.fsencode(path), name), "wb") as file:
            file.write(name)
    (path / ("d" * 250)).mkdir()
    (path / ("d" * 250) / "inside").write_text("x")


def _attributes(path: Path) -> None:
    small, large, many = (path / name for name in ("small", "large", "many"))
    for file in (small, large, many):
        file.write_text("x")
    os.setxattr(small, "user.small", b"value")
    os.setxattr(small, "user.empty", b"")
    os.setxattr(small, "trusted.small", b"\0\xff")
    _largest_attribute(large)
    for number in range(30):
        os.setxattr(many, f"user.number-{number}", _data(50, seed=number))
    os.setxattr(path, "user.on-a-directory", b"value")
    link = path / "link"
    link.symlink_to("small")
    os.setxattr(link, "trusted.on-a-link", b"value", follow_symlinks=False)


def _lists(path: Path) -> None:
    entries = [(_USER_OBJ, 7, _NOBODY_IN_PARTICULAR), (_USER, 6, 1000), (_USER, 4, 100001)]
    entries += [(_GROUP_OBJ, 5, _NOBODY_IN_PARTICULAR), (_GROUP, 0, 1001)]
    entries += [(_MASK, 7, _NOBODY_IN_PARTICULAR), (_OTHER, 0, _NOBODY_IN_PARTICULAR)]
    packed = struct.pack("<I", _ACL_VERSION)
    packed += b"".join(struct.pack("<HHI", *entry) for entry in entries)
    file, directory = path / "file", path / "directory"
    file.write_text("x")
    directory.mkdir()
    os.setxattr(file, "system.posix_acl_access", packed)
    os.setxattr(directory, "system.posix_acl_access", packed)
    os.setxattr(directory, "system.posix_acl_default", packed)
    (directory / "heir").write_text("x")
    capable = path / "capable"
    capable.write_text("x")
    os.setxattr(capable, "security.capability", _CAPABILITY)


def _special(path: Path) -> None:
    os.mkfifo(path / "fifo", 0o640)
    os.mknod(path / "socket", stat.S_IFSOCK | 0o755)
    for kind, name in ((stat.S_IFCHR, "character"), (stat.S_IFBLK, "block")):
        for major, minor in ((1, 3), (259, 300000), (4095, 1048575)):
            os.mknod(path / f"{name}-{major}-{minor}", kind | 0o600, os.makedev(major, minor))


def _modes(path: Path) -> None:
    for mode in (0, 0o444, 0o600, 0o755, 0o1644, 0o2755, 0o4755, 0o6711):
        file = path / f"{mode:04o}"
        file.write_text("x")
        os.chown(file, 100001, 65534)
        file.chmod(mode)  # after the change of owner, which takes setuid away
    for mode in (0o1777, 0o2775, 0o700):
        directory = path / f"d{mode:04o}"
        directory.mkdir()
        os.chown(directory, 1000, 200002)
        directory.chmod(mode)


def _times(path: Path) -> None:
    seconds = {"1901": -(2**31), "1969": -1, "1970": 0, "2001": 10**9, "2038": 2**31 + 1}
    seconds |= {"2106": 2**32 + 1, "2400": 13569465600}
    for name, second in seconds.items():
        for nanosecond in (0, 1, 999999999):
            file = path / f"{name}-{nanosecond}"
            file.write_text("x")
            os.utime(file, ns=(second * 10**9, second * 10**9 + nanosecond))


def _tree(path: Path) -> None:
    deep = path
    for level in range(60):
        deep = deep / f"level-{level}"
        deep.mkdir()
    (deep / "bottom").write_text("x")
    (path / "empty").mkdir()


def _many(path: Path, count: int) -> None:
    path.mkdir()
    for number in range(count):
        (path / f"{number:04}-{'w' * (number % 40)}").touch()


def _flags(path: Path) -> None:
    for name, flag in _FLAGS.items():
        file = path / name
        file.write_text("x")
        with file.open("rb") as opened, suppress(OSError):
            fcntl.ioctl(opened, _SET_FLAGS, struct.pack("l", flag))


_MAKERS: tuple[Callable[[Path], None], ...] = (
    _sizes, _holes, _preallocated, _links, _names, _attributes, _lists, _special, _modes, _times,
    _tree, _flags,
)  # fmt: skip


def _data(size: int, *, seed: int) -> bytes:
    """Return bytes that look like nothing else here; the same for the same seed."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def _fallocate(descriptor: int, mode: int, size: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    numbers = (ctypes.c_int(descriptor), ctypes.c_int(mode), ctypes.c_int64(0))
    if library.fallocate(*numbers, ctypes.c_int64(size)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def _largest_attribute(path: Path) -> None:
    """Give a file as large a value as fits: ext4 has one block for what the inode has no room."""
    for size in range(_BLOCK, 0, -4):
        try:
            os.setxattr(path, "user.large", _data(size, seed=size))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                raise
        else:
            return


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
