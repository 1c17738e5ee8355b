# SPDX-License-Identifier: GPL-2.0-or-later
"""How much room snapshots hold, and how much a transaction needs."""
