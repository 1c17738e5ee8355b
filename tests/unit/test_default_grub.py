# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell would say of /etc/default/grub, compared with one."""

from __future__ import annotations

import subprocess

import pytest

from fs_rollback.core.formats.default_grub import command_line, variables

_TEXTS = (
    'GRUB_CMDLINE_LINUX="a b"\n',
    "GRUB_CMDLINE_LINUX='a b' # c\n",
    '#GRUB_CMDLINE_LINUX="x"\nGRUB_CMDLINE_LINUX=a\n # GRUB_CMDLINE_LINUX=z\n',
    'GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX="b"\n',
    'GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX+=" b"\n',
    'GRUB_CMDLINE_LINUX="a \\\nb"\n',
    'GRUB_CMDLINE_LINUX="a\nb"\nGRUB_CMDLINE_LINUX_DEFAULT=c\n',
    "GRUB_CMDLINE_LINUX=a\\\nb\n",
    'export GRUB_CMDLINE_LINUX="a"\n',
    '  GRUB_CMDLINE_LINUX="a"; GRUB_TIMEOUT=5\n',
    'X=sys\nGRUB_CMDLINE_LINUX="rootflags=subvol=${X} $X.$UNSET"\n',
    'GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX b"\n',
    "X=1\nGRUB_CMDLINE_LINUX='$X'\n",
    'GRUB_CMDLINE_LINUX="a=\\"b c\\" \\$x \\\\d"\n',
    "GRUB_CMDLINE_LINUX=a\"b c\"'d e'f\\ g\n",
    "GRUB_CMDLINE_LINUX=\nGRUB_CMDLINE_LINUX_DEFAULT=a#b\n",
    "GRUB_DISABLE_RECOVERY=true\n",
    "",
)


@pytest.mark.parametrize("text", _TEXTS)
def test_as_a_shell_reads_it(text: str) -> None:
    names = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
    show = "".join(f'\nprintf "%s\\0" "${name}"' for name in names)
    done = subprocess.run(["bash", "-c", text + show], check=True, capture_output=True, text=True)
    found = variables(text)
    assert [found.get(name, "") for name in names] == done.stdout.split("\0")[:2]


def test_both_variables_are_used() -> None:
    text = "GRUB_CMDLINE_LINUX=a\nGRUB_CMDLINE_LINUX_DEFAULT='b c'\nGRUB_CMDLINE_LINUX_RECOVERY=d\n"
    assert command_line(text) == "a b c"


def test_what_only_a_shell_knows_does_no_harm() -> None:
    text = 'GRUB_DISTRIBUTOR="$(sed \'s, release .*$,,g\' /etc/x)"\nGRUB_CMDLINE_LINUX="a"\n'
    assert command_line(text) == "a"
    assert command_line('GRUB_CMDLINE_LINUX="a') == ""
