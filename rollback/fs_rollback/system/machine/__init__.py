# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that is worked on: its root, its filesystem, its kernels, its configuration."""
