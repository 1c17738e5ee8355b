# SPDX-License-Identifier: GPL-2.0-or-later
"""The application of the demo: version 1 works, version 2 does not, version 3 takes its time."""

from __future__ import annotations

from pathlib import Path

from tests.sandbox.rpms import Package, build, publish

WORKS = "Hello, world! This is hello 1.\n"
FAILS = "hello: undefined symbol: greet_v2 (libgreeting.so.2)\n"
CONFIGURATION = "GREETING='Hello, world'\n"

_HELLO_1 = """\
#!/bin/sh
. /etc/hello.conf
echo "$GREETING! This is hello 1."
"""
_HELLO_2 = """\
#!/bin/sh
echo 'hello: undefined symbol: greet_v2 (libgreeting.so.2)' >&2
exit 127
"""

# As real ones do, the new version rewrites the configuration for itself.
_MIGRATION = "sed -i 's/^GREETING=/greet_v2 = /' /etc/hello.conf"

# What the script of version 3 makes when it begins to wait.
WAITS = "/run/hello-waits"

VERSION_1 = (
    Package("hello", "1.0", files={"/usr/bin/hello": _HELLO_1, "/etc/hello.conf": CONFIGURATION}),
    Package("hello-doc", "1.0", files={"/usr/share/hello/README": "hello greets.\n"}),
)
VERSION_2 = (
    Package(
        "hello",
        "2.0",
        files={"/usr/bin/hello": _HELLO_2, "/etc/hello.conf": CONFIGURATION},
        requires=["libgreeting"],
        scriptlets={"posttrans": _MIGRATION},
    ),
    Package("libgreeting", "2.0", files={"/usr/lib/libgreeting.so.2": "not a library\n"}),
    Package("tree", "2.1", files={"/usr/bin/tree": "#!/bin/sh\n"}),
)
VERSION_3 = (
    Package(
        "hello",
        "3.0",
        files={"/usr/bin/hello": _HELLO_2, "/etc/hello.conf": CONFIGURATION},
        requires=["libgreeting >= 3"],
        # Ctrl-C is for dnf alone: if rpm saw the script die first, it would still go on.
        scriptlets={"pre": f"trap '' INT\nexec >/dev/null 2>&1\ntouch {WAITS}\nsleep 300"},
    ),
    Package("libgreeting", "3.0", files={"/usr/lib/libgreeting.so.3": "not a library\n"}),
)


def offer(repository: Path, packages: tuple[Package, ...]) -> None:
    """Publish packages where the sandbox looks for them."""
    build(packages, repository)
    publish(repository)
