# SPDX-License-Identifier: GPL-2.0-or-later
"""Where files are, for people: by directory, where there are too many to name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

# Below these each service has a directory of its own.
_SERVICES = ("/var/lib/", "/var/opt/", "/var/spool/")


def by_place(paths: Iterable[str]) -> dict[str, int]:
    """Count paths by their first two components; three where each service has a directory."""
    return dict(sorted(Counter(map(place, paths)).items()))


def place(path: str) -> str:
    """Return the directory that a path counts for, which may be the path itself."""
    depth = 3 if path.startswith(_SERVICES) else 2
    return "/".join(path.split("/")[: depth + 1])
