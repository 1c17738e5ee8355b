# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change the store: take, keep and delete snapshots."""
