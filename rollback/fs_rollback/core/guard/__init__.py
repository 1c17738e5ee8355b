# SPDX-License-Identifier: GPL-2.0-or-later
"""The guarded boot: its boot entry, its stored state, and whether units are active."""
