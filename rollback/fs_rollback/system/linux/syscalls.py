# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that Python does not offer, one function each, raising OSError.

With btrfs.py, chattr.py and tree_search.py this is the kernel edge: no other module imports
ctypes, fcntl or btrfsutil. Policy is out of scope here. Numbers are those of asm-generic/unistd.h,
which every architecture shares for calls this new; constants are from linux/mount.h,
linux/openat2.h and linux/fs.h.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import stat
import struct
import sys

from ...core.snapshots.snapshot import TOP_LEVEL_ID

_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_OPENAT2 = 430, 431, 432, 437
_FSOPEN_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_FSMOUNT_CLOEXEC = 1
_MOUNT_ATTR_NOATIME = 0x10  # linux/mount.h
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
_AT_FDCWD = -100
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_RESOLVE_NO_XDEV, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x01, 0x04, 0x10
_PATH_MAX = 4096  # linux/limits.h, with the zero at its end
_RACES = 10000  # lost in a row, some microseconds each, before openat2(2) is believed
_SYNC_FILE_RANGE_WRITE_AND_WAIT = 1 | 2 | 4
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP, _FIEMAP_EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
_FIEMAP_EXTENT_DATA_INLINE, _FIEMAP_EXTENT_LAST, _FIEMAP_FLAG_SYNC = 0x200, 0x001, 0x001
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
_BTRFS_SUPER_MAGIC, _XFS_SUPER_MAGIC = 0x9123683E, 0x58465342  # linux/magic.h
_MISSING = "<missing disk>"  # btrfs_dev_name(), where the kernel knows a path of one that is gone
_FS_PROTECTED_FL = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


# struct flock, asm-generic/fcntl.h: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("@hhqqi4x")


def _check(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def mount_top_level(source: str, *, read_only: bool) -> int:
    """Return a descriptor of the top level of the btrfs on `source`, mounted nowhere.

    The mount is detached (fsopen(2), fsmount(2)): it shows in no mount table and ends with the
    last descriptor, so a killed process leaves nothing behind. What is only read through it is as
    old as before: a new access time is a change, and changes are looked for.
    """
    attributes = _MOUNT_ATTR_NOATIME
    mount = detached_mount(source, TOP_LEVEL_ID, read_only=read_only, attributes=attributes)
    try:
        # fsmount gives an O_PATH descriptor; listing and ioctls need a real one.
        return os.open(f"/proc/self/fd/{mount}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(mount)


def mount_subvolume(source: str, subvolume_id: int, directory: int, *, read_only: bool) -> None:
    """Mount a subvolume of the btrfs on `source` on an open directory, move_mount(2).

    What is only read there is as old as before, see `mount_top_level`.
    """
    mount = detached_mount(
        source, subvolume_id, read_only=read_only, attributes=_MOUNT_ATTR_NOATIME
    )
    try:
        attach(mount, directory)
    finally:
        os.close(mount)


def attach(mount: int, directory: int) -> None:
    """Mount what is detached on an open directory, move_mount(2)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _check(_libc.syscall(_SYS_MOVE_MOUNT, mount, b"", directory, b"", flags), "mount")


def detached_mount(source: str, subvolume_id: int, *, read_only: bool, attributes: int = 0) -> int:
    """Return an O_PATH descriptor of a subvolume of the btrfs on `source`, mounted nowhere."""
    how = "read-only" if read_only else "writable"
    sys.audit("fs-rollback.changed", "mount", how, "subvolume ID", subvolume_id, "of", source)
    context = _check(_libc.syscall(_SYS_FSOPEN, b"btrfs", _FSOPEN_CLOEXEC), source)
    try:
        number = str(subvolume_id).encode()
        for key, value in ((b"source", os.fsencode(source)), (b"subvolid", number)):
            _fsconfig(context, _FSCONFIG_SET_STRING, key, value, source)
        if read_only:
            _fsconfig(context, _FSCONFIG_SET_FLAG, b"ro", None, source)
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, source)
        return _check(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes), source)
    finally:
        os.close(context)


def _fsconfig(
    context: int, command: int, key: bytes | None, value: bytes | None, source: str
) -> None:
    _check(_libc.syscall(_SYS_FSCONFIG, context, command, key, value, 0), source)


def exchange(one: str, other: str) -> None:
    """Exchange two paths in one atomic step, renameat2(2) with RENAME_EXCHANGE."""
    sys.audit("fs-rollback.changed", "exchange", one, "and", other)
    _rename(one, other, _RENAME_EXCHANGE)


def rename_to_free(old: str, new: str) -> None:
    """Rename a path to one that is free, renameat2(2) with RENAME_NOREPLACE: else EEXIST."""
    sys.audit("fs-rollback.changed", "rename", old, "to", new)
    _rename(old, new, _RENAME_NOREPLACE)


def _rename(one: str, other: str, how: int) -> None:
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), how)
    _check(_libc.renameat2(*arguments), one)


def sync_filesystem(descriptor: int) -> None:
    """Bring the whole filesystem behind `descriptor` to the disk, syncfs(2)."""
    _check(_libc.syncfs(descriptor), "filesystem")


def sync_for_loader(descriptor: int) -> None:
    """Bring a filesystem to the disk for a boot loader, which replays no journal.

    syncfs(2) is enough but for XFS, which leaves what it has committed in its log: freezing it
    writes that to its place, as dracut(8) does. FIFREEZE and FITHAW, linux/fs.h.
    """
    sync_filesystem(descriptor)
    if _filesystem_type(descriptor) != _XFS_SUPER_MAGIC:
        return
    try:
        fcntl.ioctl(descriptor, _FIFREEZE, 0)
    except OSError as error:
        if error.errno != errno.EBUSY:  # somebody else has just frozen it
            raise
    else:
        fcntl.ioctl(descriptor, _FITHAW, 0)


def is_on_btrfs(descriptor: int) -> bool:
    """Whether an open file is on a btrfs. Raises OSError."""
    return _filesystem_type(descriptor) & 0xFFFFFFFF == _BTRFS_SUPER_MAGIC


def _filesystem_type(descriptor: int) -> int:
    """Return f_type of fstatfs(2), which is a long at the beginning of what it fills."""
    buffer = ctypes.create_string_buffer(256)
    _check(_libc.fstatfs(descriptor, buffer), "filesystem")
    return ctypes.c_long.from_buffer(buffer).value


def write_out(descriptor: int) -> None:
    """Hand a file's dirty pages to the filesystem and wait, sync_file_range(2): no commit."""
    offset = ctypes.c_int64(0)
    flags = ctypes.c_uint(_SYNC_FILE_RANGE_WRITE_AND_WAIT)
    _check(_libc.sync_file_range(descriptor, offset, offset, flags), "file")


def is_inline(descriptor: int) -> bool:
    """Whether a file's first extent lies in the metadata, ioctl_fiemap (linux/fiemap.h)."""
    # struct fiemap: start, length, flags, mapped, count, reserved; then one struct fiemap_extent:
    # logical, physical, length, 2 reserved, flags, 3 reserved.
    request = bytearray(_FIEMAP.pack(0, 1, 0, 0, 1, 0) + bytes(_FIEMAP_EXTENT.size))
    fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, request)
    mapped = _FIEMAP.unpack_from(request)[3]
    flags: int = _FIEMAP_EXTENT.unpack_from(request, _FIEMAP.size)[5]
    return bool(mapped and flags & _FIEMAP_EXTENT_DATA_INLINE)


def extents(descriptor: int) -> list[tuple[int, int, int]]:
    """Return where the data of a file lies on its device: offsets in both, and sizes, in bytes.

    What is not there as it is (holes, preallocated, not yet written, inline) is left out.
    """
    return [row[:3] for row in mapped(descriptor) if not row[3] & ~_FIEMAP_EXTENT_LAST]


def mapped(descriptor: int) -> list[tuple[int, int, int, int]]:
    """Return the extents of a file, ioctl_fiemap: offsets in it and on the device, size, flags."""
    room, found, last, start = 4096, list[tuple[int, int, int, int]](), False, 0
    while not last:
        request = bytearray(_FIEMAP.pack(start, 2**64 - 1 - start, _FIEMAP_FLAG_SYNC, 0, room, 0))
        request += bytes(_FIEMAP_EXTENT.size * room)
        fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, request)
        count = _FIEMAP.unpack_from(request)[3]
        for number in range(count):
            place = _FIEMAP.size + number * _FIEMAP_EXTENT.size
            logical, physical, length, _, _, flags, *_ = _FIEMAP_EXTENT.unpack_from(request, place)
            found.append((logical, physical, length, flags))
            start, last = logical + length, bool(flags & _FIEMAP_EXTENT_LAST)
        last = last or not count
    return found


def open_in_root(
    root: int, path: str, flags: int, *, follow: bool = True, cross: bool = True
) -> int:
    """Open `path` as if the directory `root` were /: no link leads out of it, openat2(2).

    With `follow` false no symbolic link is followed at all (ELOOP), and the path may be of any
    length; with `cross` false nothing that is mounted in it is entered (EXDEV), whose server may
    never answer.
    """
    resolve = _RESOLVE_IN_ROOT | (0 if follow else _RESOLVE_NO_SYMLINKS)
    resolve |= 0 if cross else _RESOLVE_NO_XDEV
    if flags & (os.O_WRONLY | os.O_RDWR):
        sys.audit("fs-rollback.changed", "write", path)
    place, above = os.fsencode(path), -1
    try:
        while (
            not follow and len(place) >= _PATH_MAX and (cut := place.rfind(b"/", 1, _PATH_MAX)) > 0
        ):
            way = os.O_PATH | os.O_DIRECTORY
            below = _openat2(root if above < 0 else above, place[:cut], way, resolve)
            if above >= 0:
                os.close(above)
            above, place = below, place[cut + 1 :]
        return _openat2(root if above < 0 else above, place, flags, resolve)
    finally:
        if above >= 0:
            os.close(above)


def _openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    arguments = (directory, path, ctypes.byref(how), ctypes.sizeof(how))
    for _ in range(_RACES):
        descriptor = _libc.syscall(_SYS_OPENAT2, *arguments)
        # Something was renamed or mounted, anywhere, while ".." was resolved: to be tried again.
        if descriptor >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return _check(descriptor, os.fsdecode(path))


def try_lock(descriptor: int) -> bool:
    """Take the exclusive flock(2) of an open file; False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:  # as promised
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Release the flock(2) of an open file."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def try_record_lock(descriptor: int) -> bool:
    """Take the exclusive fcntl(2) lock of a whole file, as rpm does; False if it is taken."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):  # either means that, fcntl(2)
            return False
        raise
    return True


def record_lock_owner(descriptor: int) -> int:
    """Return the PID that has a fcntl(2) lock which excludes one of ours, 0 if nobody has.

    -1 if somebody has it who has no PID here: outside of our PID namespace, or on another machine.
    Unlike an attempt at the lock this is in nobody's way.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, owner = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else owner if owner > 0 else -1


def is_protected(descriptor: int) -> bool:
    """Whether a file or directory has the immutable or append-only flag of chattr(1)."""
    return bool(_inode_flags(descriptor) & _FS_PROTECTED_FL)


def unprotect(path: str) -> bool:
    """Take the immutable and append-only flags off, as chattr(1) does; False if there were none."""
    mode = os.lstat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return False  # a device's driver would get the request
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _inode_flags(descriptor)
        if not flags & _FS_PROTECTED_FL:
            return False
        sys.audit("fs-rollback.changed", "clear the immutable flag of", path)
        wanted = array.array("i", [flags & ~_FS_PROTECTED_FL, 0])
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, wanted)
    finally:
        os.close(descriptor)
    return True


def _inode_flags(descriptor: int) -> int:
    """Return the flags of chattr(1).

    FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, linux/fs.h: they take an int, whatever their numbers say.
    """
    answer = array.array("i", [0, 0])
    fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, answer)
    return answer[0]


def device_paths(descriptor: int) -> dict[int, str]:
    """Return the path of each device of a mounted btrfs by its number, "" for a missing one.

    Older kernels give the path that a missing one had: devices.of_btrfs() knows better.

    BTRFS_IOC_DEV_INFO, struct btrfs_ioctl_dev_info_args in linux/btrfs.h: 4096 bytes, the device's
    number first, its path in the last 1024. Numbers have gaps where devices were removed.
    """
    last = int.from_bytes(_filesystem_info(descriptor)[:8], sys.byteorder)
    found = {}
    for number in range(1, last + 1):
        answer = bytearray(number.to_bytes(8, sys.byteorder)) + bytearray(4088)
        try:
            fcntl.ioctl(descriptor, 0xD000941E, answer)
        except OSError as error:
            if error.errno == errno.ENODEV:  # a gap
                continue
            raise
        path = os.fsdecode(bytes(answer[3072:]).partition(b"\0")[0])
        found[number] = path if path != _MISSING else ""
    return found


def is_scrubbed(descriptor: int, number: int) -> bool:
    """Whether a scrub of a device of a mounted btrfs runs now. Raises OSError.

    BTRFS_IOC_SCRUB_PROGRESS, struct btrfs_ioctl_scrub_args in linux/btrfs.h: 1024 bytes, the
    device's number first.
    """
    try:
        answer = bytearray(number.to_bytes(8, sys.byteorder)) + bytearray(1016)
        fcntl.ioctl(descriptor, 0xC400941D, answer)
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ENODEV):  # none runs; the device has gone
            return False
        raise
    return True


def filesystem_uuid(descriptor: int) -> str:
    """Return the UUID of a mounted btrfs as blkid(8) prints it."""
    digits = _filesystem_info(descriptor)[16:32].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _filesystem_info(descriptor: int) -> bytes:
    """Ask BTRFS_IOC_FS_INFO: the highest device number, the number of devices, the UUID.

    struct btrfs_ioctl_fs_info_args in linux/btrfs.h: 1024 bytes.
    """
    answer = bytearray(1024)
    fcntl.ioctl(descriptor, 0x8400941F, answer)
    return bytes(answer)


def filesystem_generation(descriptor: int) -> int:
    """Return the number of the transaction that a mounted btrfs is in, or was in last.

    BTRFS_IOC_FS_INFO with BTRFS_FS_INFO_FLAG_GENERATION (Linux 5.10): in struct
    btrfs_ioctl_fs_info_args the flags are at offset 48 and the answer at 56.
    """
    answer = bytearray(1024)
    struct.pack_into("=Q", answer, 48, 1 << 1)
    fcntl.ioctl(descriptor, 0x8400941F, answer)
    return int(struct.unpack_from("=Q", answer, 56)[0])
