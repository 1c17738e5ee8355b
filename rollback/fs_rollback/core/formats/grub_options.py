# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's variables in the options of boot entries: `$kernelopts` of EL 8 and what was made there.

As in blscfg.c of Fedora's GRUB: the environment block first, then what grub-mkconfig(8) wrote into
grub.cfg for entries whose variable is not set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = r"\$(?:(\w+)|\{(\w+)\})"
_SET = r"""(?m)^[ \t]*set[ \t]+((?:default_)?kernelopts)=(?:"([^"\n]*)"|'([^'\n]*)'|(\S*))"""
_KERNELOPTS, _DEFAULT = "kernelopts", "default_kernelopts"


def variables(environment: Mapping[str, str], configuration: str) -> dict[str, str]:
    """Return the variables that boot entries may use, from grubenv and the text of grub.cfg.

    Those of tuned(8) are left out: it changes them at will, and they name no root.
    """
    found = {
        match[1]: match[2] or match[3] or match[4] for match in re.finditer(_SET, configuration)
    }
    found.update(environment)
    if not found.get(_KERNELOPTS):
        found[_KERNELOPTS] = found.get(_DEFAULT) or ""
    return {n: v for n, v in found.items() if v and not n.startswith("tuned_")}


def expanded(options: str, known: Mapping[str, str]) -> str:
    """Return the options of an entry with the known variables replaced; others stay.

    An entry without options has the default ones.
    """
    if not options:
        return known.get(_DEFAULT, "")
    return re.sub(_VARIABLE, lambda match: known.get(match[1] or match[2], match[0]), options)
