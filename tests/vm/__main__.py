# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what the machines are made of, for whoever wants to wait for it beside other work."""

from tests.sandbox.base import cache_directory
from tests.vm.base import base
from tests.vm.conversion import conversion_base
from tests.vm.dnf5 import dnf5_base
from tests.vm.selinux import selinux_base
from tests.vm.stories import all_wanted

if __name__ == "__main__":
    machine_base = base(cache_directory(), say=print)
    dnf5_base(cache_directory(), machine_base, say=print)
    if all_wanted():
        conversion_base(cache_directory(), say=print)
        selinux_base(cache_directory(), machine_base, say=print)
