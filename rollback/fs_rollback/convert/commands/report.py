# SPDX-License-Identifier: GPL-2.0-or-later
"""The points of a conversion as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from ...report import clean
from ..plan import facts as conversion

_CONVERSION = {
    conversion.Verdict.OK: "This root can be converted to btrfs.",
    conversion.Verdict.WARNING: "This root can be converted to btrfs; see the warnings first.",
    conversion.Verdict.REFUSED: "This root cannot be converted as it is.",
}


def points_text(points: Sequence[conversion.Point]) -> str:
    """Return the points of a conversion: a line each, what to do below it, the verdict last."""
    width = max((len(point.name) for point in points), default=0)
    lines = []
    for point in points:
        lines.append(f"{point.verdict.value:7}  {point.name:{width}}  {clean(point.text)}")
        if point.verdict is not conversion.Verdict.OK and point.advice:
            lines.append(f"{'':{width + 11}}{clean(point.advice)}")
    return "\n".join([*lines, "", _CONVERSION[conversion.worst(points)]])
