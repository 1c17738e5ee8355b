# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads how much room snapshots hold, and how much is left for a transaction."""
