# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks whether this machine would boot, and whether it could be rolled back."""
