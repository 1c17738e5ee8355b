# SPDX-License-Identifier: GPL-2.0-or-later
"""Which backend PackageKit uses: its configuration and the names of its libraries.

PackageKit 1.1 to 1.3: src/pk-main.c and pk-backend.c, pk_util_set_auto_backend() in pk-shared.c.
"""

from __future__ import annotations

from collections.abc import Iterable

_PREFIX, _SUFFIX = "libpk_backend_", "so"  # G_MODULE_SUFFIX
_LEFT_OUT = ("dummy", "test")
# pk_backend_load(): backends of old configurations, and what they became.
_SUPERSEDED = dict.fromkeys(("hawkey", "hif", "yum"), "dnf")


def backend(text: str, libraries: Iterable[str]) -> str:
    """Return the backend's name, "" if there is none; `libraries` are the files beside it."""
    said = _default_backend(text)
    if said in ("", "auto"):
        names = (name[len(_PREFIX) :] for name in libraries if name.startswith(_PREFIX))
        ours = (name for name in names if name.endswith(_SUFFIX) and not name.startswith(_LEFT_OUT))
        said = max((name.partition(".")[0] for name in ours), default="")
    return _SUPERSEDED.get(said, said)


def _default_backend(text: str) -> str:
    """Return DefaultBackend of [Daemon], "" without one: GLib's key files, the last one counts."""
    group, found = "", ""
    for line in map(str.strip, text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif group == "Daemon" and line.partition("=")[0].rstrip() == "DefaultBackend":
            found = line.partition("=")[2].lstrip()
    return found
