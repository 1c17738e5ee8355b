# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a conversion from ext4 is: the state file from which `convert` continues.

This is what other rooms need to know about a conversion, also where the wing is not installed.
"""

from __future__ import annotations

import enum
import json
from typing import Any

from ..snapshots.snapshot import STORE

VERSION = 1
# In the store of the btrfs that the root becomes; until then a directory of the ext4.
DIRECTORY = f"{STORE}/conversion"
STATE_FILE = f"{DIRECTORY}/state.json"
NEW_FSTAB = f"{DIRECTORY}/fstab"


class Stage(enum.Enum):
    """How far the conversion of a machine is."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    CONVERTED = "converted"


class ConversionStateError(ValueError):
    """The text is not a state that this program can act on."""


class NewerConversionStateError(ConversionStateError):
    """It was written by a newer program."""


def parse(text: str) -> tuple[Stage, dict[str, Any]]:
    """Return how far the conversion is, and all that the file says. Raises ConversionStateError."""
    try:
        data: Any = json.loads(text)
        if data["version"] > VERSION:
            raise NewerConversionStateError(
                f"format version {data['version']} is newer than this program supports"
            )
        return Stage(data["stage"]), dict(data)
    except ConversionStateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConversionStateError(f"{type(error).__name__}: {error}") from error
