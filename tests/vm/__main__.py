# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what the machines are made of, for whoever wants to wait for it beside other work."""

from tests.sandbox.base import cache_directory
from tests.vm.base import base
from tests.vm.conversion import conversion_base

if __name__ == "__main__":
    base(cache_directory(), say=print)
    conversion_base(cache_directory(), say=print)
