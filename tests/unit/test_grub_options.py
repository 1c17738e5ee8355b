# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.formats import bls
from fs_rollback.core.formats.grub_options import expanded, variables

CFG = 'if [ -z "${kernelopts}" ]; then\n  set kernelopts="root=UUID=2 ro "\nfi\n'


@pytest.mark.parametrize(
    ("environment", "configuration", "kernelopts"),
    [
        ({"kernelopts": "root=UUID=1 ro"}, CFG, "root=UUID=1 ro"),
        ({"saved_entry": "x"}, CFG, "root=UUID=2 ro "),
        ({}, "set default_kernelopts='root=UUID=3'\n", "root=UUID=3"),
        ({}, "set default_kernelopts=a\n  set kernelopts=b\n", "b"),
        ({"kernelopts": ""}, "set default_kernelopts=a\n", "a"),
        ({}, "# set kernelopts=a\nset kernelopts_x=b\n", None),
        ({}, "", None),
    ],
)
def test_where_the_value_comes_from(
    environment: dict[str, str], configuration: str, kernelopts: str
) -> None:
    assert variables(environment, configuration).get("kernelopts") == kernelopts


def test_what_is_not_known_stays() -> None:
    known = variables({"kernelopts": "root=UUID=1", "tuned_params": "x", "a_b": "c"}, "")
    options = "$kernelopts $tuned_params ${a_b}d $a_bd $"
    assert expanded(options, known) == "root=UUID=1 $tuned_params cd $a_bd $"
    assert expanded(options, {}) == options


def test_an_entry_without_options_has_the_default_ones() -> None:
    known = variables({}, "set default_kernelopts='root=UUID=3'\n")
    entry = bls.parse("x.conf", "linux /vmlinuz\n", known)
    assert (entry.options, entry.arguments) == ("", "root=UUID=3")
    assert bls.parse("x.conf", "efi /memtest.efi\n", known).arguments == ""
    assert bls.parse("x.conf", "linux /vmlinuz\n").arguments == ""
