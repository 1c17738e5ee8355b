# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that take something out of a snapshot, or look into it."""
