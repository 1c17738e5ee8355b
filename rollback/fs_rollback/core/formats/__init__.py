# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and edits, as text, files that other programs write, and lines of the kernel."""
