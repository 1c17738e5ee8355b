# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the base image of a machine; its own program, so that it can be killed as a whole."""

from __future__ import annotations

import sys

from tests.sandbox.base import base_image, cache_directory
from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout

if __name__ == "__main__":
    base_image(
        cache_directory(),
        Layout(sys.argv[2]),
        Engine(sys.argv[1]),
        say=lambda text: print(text, flush=True),
    )
