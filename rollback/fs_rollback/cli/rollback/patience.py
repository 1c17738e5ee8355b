# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a person who waits informed, and lets them go on without what takes too long."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

from ...core.progress import Progress

_SOON_S, _EVERY_S = 1.0, 0.5
_LIMIT_S = 30.0  # the patience of whoever has to decide at night


class CutShortError(Exception):
    """It took too long, or the person did not want to wait: the message says which."""


@contextmanager
def limited(what: str, *, may_skip: bool) -> Iterator[Progress]:
    """End the work inside after 30 seconds; after a second, show on a terminal what it is.

    Gives a Progress to report to. If the person `may_skip` the work, Ctrl-C ends it too, once it is
    shown: tqdm's bar, which others have, could not say that. Raises CutShortError.
    """
    begin, is_shown, part = time.monotonic(), False, ""
    is_terminal = sys.stderr.isatty()

    def tell(done: int, total: int) -> None:
        nonlocal part
        part = f"{done * 100 // max(total, 1)} %, "

    def look(_: int, __: Optional[FrameType]) -> None:
        nonlocal is_shown
        passed = time.monotonic() - begin
        if passed > _LIMIT_S:
            raise CutShortError(f"that took more than {_LIMIT_S:.0f} seconds")
        if is_terminal:
            is_shown = True
            way_out = "; Ctrl-C skips it" if may_skip else ""
            print(f"\r{what}: {part}{passed:.0f} s{way_out}", end="", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _SOON_S, _EVERY_S)
    try:
        yield tell
    except KeyboardInterrupt:
        if not (may_skip and is_shown):
            raise
        raise CutShortError("interrupted") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
