# SPDX-License-Identifier: GPL-2.0-or-later
"""A filesystem that never answers, as a network filesystem whose server is gone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2  # linux/fs.h


@contextmanager
def hung(*places: Path) -> Iterator[None]:
    """Mount on each place a FUSE that no daemon serves: whoever looks at it waits for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    served: list[tuple[int, bytes]] = []
    try:
        for place in places:
            device, path = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC), os.fsencode(place)
            options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
            assert libc.mount(b"hung", path, b"fuse", 0, options) == 0, os.strerror(
                ctypes.get_errno()
            )
            served.append((device, path))
        yield
    finally:
        for device, path in reversed(served):
            libc.umount2(path, _MNT_DETACH)
            os.close(device)  # who waits gets an error
