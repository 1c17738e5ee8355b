# SPDX-License-Identifier: GPL-2.0-or-later
"""What dnf knows of security advisories, from the metadata in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Callable, Optional

from ..linux import process
from ..machine.host import Host

# dnf 4 and dnf 5 both know this spelling. Where another dnf runs it may wait for that one's lock.
_LIST = ("dnf", "--cacheonly", "--quiet", "updateinfo", "list", "--security", "--all")
_PATIENCE_S = 20
Texts = Callable[[], Optional[tuple[str, str]]]


@contextmanager
def listed(host: Host) -> Iterator[Texts]:
    """Start dnf to list all advisories in the background; this takes half a second.

    The function that is yielded waits for the output of dnf, without and with --with-cve. It
    returns None if dnf cannot be asked, because it knows only the running system. Raises
    ProcessError.
    """
    if not host.is_running:
        yield lambda: None
        return
    with ExitStack() as stack:
        commands = (_LIST, (*_LIST, "--with-cve"))
        first, second = (stack.enter_context(process.answering(c, _PATIENCE_S)) for c in commands)
        yield lambda: (first(), second())
