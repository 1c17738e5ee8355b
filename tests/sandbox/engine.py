# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dnf is the `dnf` of a sandbox, and what that changes for a test."""

from __future__ import annotations

import enum


class Engine(enum.Enum):
    """dnf 4 comes from the host's own release; dnf 5 from one that has it, with dnf 4 beside it."""

    DNF4 = "dnf4"
    DNF5 = "dnf5"

    @property
    def plugin(self) -> str:
        """The name of the package that takes the snapshots of this engine."""
        return {
            Engine.DNF4: "python3-dnf-plugin-fs-snapshot",
            Engine.DNF5: "libdnf5-plugin-fs-snapshot",
        }[self]

    @property
    def without(self) -> str:
        """The option of dnf that runs one transaction without a snapshot."""
        return {
            Engine.DNF4: "--disableplugin=fs-snapshot",
            Engine.DNF5: "--disable-plugin=actions",
        }[self]

    @property
    def program(self) -> str:
        """The file that /usr/bin/dnf leads to."""
        return {Engine.DNF4: "dnf-3", Engine.DNF5: "dnf5"}[self]

    @property
    def description(self) -> str:
        """Name it, for people."""
        return {Engine.DNF4: "dnf 4", Engine.DNF5: "dnf 5"}[self]
