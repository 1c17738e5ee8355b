# SPDX-License-Identifier: GPL-2.0-or-later
"""A conversion that is under way: its plan, and how far it is. Kept on the root itself."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Optional

from ...core.boot import conversion_state
from ...core.boot.conversion_state import DIRECTORY, VERSION, ConversionStateError, Stage
from ...core.rollback.step import from_json, to_json
from .steps import BootOnce, MakeConverter, PreparingStep, RebuildImage, WriteFile

SHEET = f"{DIRECTORY}/rescue.txt"
FSTAB = "etc/fstab"
# The subvolume in which btrfs-convert(8) keeps the ext4.
SAVED = "ext2_saved"

_STEPS: dict[str, Any] = {
    step.__name__: step for step in (WriteFile, RebuildImage, MakeConverter, BootOnce)
}


def sum_file(image: str) -> str:
    """Return where the checksum of the initramfs is that was made at a path."""
    name = image.replace("_", "__").replace("/", "_-")  # no two images have one
    return f"{DIRECTORY}/{name}.sha256"


@dataclass(frozen=True)
class Preparation:
    """The plan, what it was made for, and how far it is.

    `uuid` is the filesystem's, `fstab` what the machine's says while the root is ext4. `generation`
    is the transaction number of the btrfs right after the conversion, 0 before it.
    """

    stage: Stage
    created: str
    device: str
    uuid: str
    fstab: str
    steps: tuple[PreparingStep, ...]
    generation: int = 0

    @property
    def converter(self) -> Optional[MakeConverter]:
        """The step that makes the initramfs that converts, None where a rescue system does it."""
        return next((step for step in self.steps if isinstance(step, MakeConverter)), None)

    def at(self, stage: Stage, generation: int = 0) -> Preparation:
        """Return the same plan, further on."""
        return dataclasses.replace(self, stage=stage, generation=generation)


def dump(preparation: Preparation) -> str:
    """Return it as JSON text."""
    data = {
        "version": VERSION,
        "stage": preparation.stage.value,
        "created": preparation.created,
        "device": preparation.device,
        "uuid": preparation.uuid,
        "fstab": preparation.fstab,
        "generation": preparation.generation,
        "steps": to_json(preparation.steps),
    }
    return json.dumps(data, indent=1) + "\n"


def _refuse_strange(row: dict[str, Any]) -> None:
    """Raise an error if a stored step has values that none has which this program has written."""
    for key, value in row.items():
        kinds = {"before": (str, type(None)), "mode": (int,)}.get(key, (str,))
        if not isinstance(value, kinds):
            raise TypeError(f"{key} is {value!r}")
        # What is taken back is written and removed: nothing outside of the machine's root.
        if key in ("path", "entry") and (value.startswith("/") or ".." in value.split("/")):
            raise ValueError(f"{key} is {value!r}")
        if key in ("path", "entry") and b"\0" in value.encode("utf-8", "surrogateescape"):
            raise ValueError(f"{key} is {value!r}")


def parse(text: str) -> Preparation:
    """Read it. Raises ConversionStateError."""
    stage, data = conversion_state.parse(text)
    try:
        for row in data["steps"]:
            _refuse_strange(row)
        return Preparation(
            stage,
            str(data["created"]),
            str(data["device"]),
            str(data["uuid"]),
            str(data["fstab"]),
            from_json(data["steps"], _STEPS),
            int(data["generation"]),
        )
    except (
        LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError,
    ) as error:  # fmt: skip
        raise ConversionStateError(f"{type(error).__name__}: {error}") from error
