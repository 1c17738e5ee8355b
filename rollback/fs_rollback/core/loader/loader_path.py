# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a boot loader reads, as a plan names them."""

from __future__ import annotations

_TOP, _TREE = "top:", "tree:"


class LoaderPath(str):
    """ "top:" and a path from the top level, or "tree:" and a path from the root of the machine.

    The machine's other filesystems are mounted below the root. A plan stores it as text.
    """

    __slots__ = ()

    @classmethod
    def from_top(cls, *parts: str) -> LoaderPath:
        """Return the path of something on the filesystem of the root, from its top level."""
        return cls(_TOP + _joined(parts))

    @classmethod
    def from_root(cls, *parts: str) -> LoaderPath:
        """Return the path of something below the root of the machine."""
        return cls(_TREE + _joined(parts))

    @property
    def is_beside_root(self) -> bool:
        """Whether it is on the filesystem of the root."""
        return self.startswith(_TOP)

    @property
    def inside(self) -> str:
        """The path without its prefix."""
        return self.partition(":")[2]

    def below(self, *parts: str) -> LoaderPath:
        """Return the path of something below it."""
        start = _TOP if self.is_beside_root else _TREE
        return LoaderPath(start + _joined((self.inside, *parts)))


def _joined(parts: tuple[str, ...]) -> str:
    return "/".join(found for part in parts if (found := part.strip("/")))
