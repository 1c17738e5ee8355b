# SPDX-License-Identifier: GPL-2.0-or-later
"""The time zone in which times are shown."""

from __future__ import annotations

import os
import time

_DATABASE = "/usr/share/zoneinfo"
_MAGIC = b"TZif"  # tzfile(5)
_DAY_S = 86400


def corrected() -> str:
    """Take UTC where $TZ names no time zone; returns what to say of that, "" if all is well.

    The C library takes UTC then too, and says nothing. Python fails at an offset of a day.
    """
    told = os.environ.get("TZ", "").lstrip(":")
    if not told or _is_known(told):
        return ""
    os.environ["TZ"] = "UTC0"
    time.tzset()
    return f"unknown time zone {told!r} in TZ: times are in UTC"


def _is_known(told: str) -> bool:
    if max(abs(time.timezone), abs(time.altzone)) >= _DAY_S:
        return False
    if time.timezone or time.daylight or told in ("UTC", "GMT"):
        return True
    import re

    if re.match(r"(<[\w+-]+>|[A-Za-z]{3,})[+-]?\d", told):  # POSIX: a name and an offset
        return True
    try:
        with open(os.path.join(os.environ.get("TZDIR") or _DATABASE, told), "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):  # no such file: that is the answer
        return False
