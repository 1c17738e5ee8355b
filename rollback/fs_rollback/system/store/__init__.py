# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: `fs-snapshots/` at the top level, with snapshots, records, lock and journal."""
