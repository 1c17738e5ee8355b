# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of the Boot Loader Interface (systemd.io/BOOT_LOADER_INTERFACE) in efivarfs.

A file begins with four bytes of attributes; the text is UTF-16 with a NUL at its end.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from ...errors import KernelError
from ..linux import syscalls

DEFAULT = "LoaderEntryDefault"
PREFERRED = "LoaderEntryPreferred"
ONCE = "LoaderEntryOneShot"
_DIRECTORY = "/sys/firmware/efi/efivars"
_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
# EFI_VARIABLE_NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS, UEFI specification 8.2
_ATTRIBUTES = (7).to_bytes(4, "little")


def read(name: str) -> str | None:
    """Return a variable's text; None if it is not set, or this is no EFI machine."""
    try:
        with open(_path(name), "rb") as file:
            data = file.read()
    except FileNotFoundError:  # as promised
        return None
    except OSError as error:
        raise KernelError("read the EFI variable", name, error) from error
    return data[4:].decode("utf-16-le", "replace").rstrip("\0")


def are_there() -> bool:
    """Whether the firmware's variables can be read: where efivarfs is mounted some are."""
    try:
        return bool(os.listdir(_DIRECTORY))
    except OSError:  # as promised
        return False


def write(name: str, value: str | None) -> None:
    """Set a variable, or remove it where `value` is None. Raises KernelError.

    The name may be from the journal of a disk that somebody else has filled: it is one of ours.
    """
    if name not in (DEFAULT, PREFERRED, ONCE):
        raise KernelError("write the EFI variable", name, OSError(errno.EPERM, "not ours"))
    path = _path(name)
    try:
        with suppress(FileNotFoundError):  # it is new
            syscalls.unprotect(path)  # the kernel makes most of them immutable, against rm -rf
        if value is None:
            with suppress(FileNotFoundError):  # as it should be
                os.unlink(path)
            return
        # One write: the variable is old or new. efivarfs takes no more than one.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, _ATTRIBUTES + (value + "\0").encode("utf-16-le"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError("write the EFI variable", name, error) from error


def _path(name: str) -> str:
    return f"{_DIRECTORY}/{name}-{_VENDOR}"
