# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of the btrfs root before each transaction, and the way back."""

__version__ = "0.1.0"
