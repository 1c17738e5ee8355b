# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that other programs write, and the kernel's lines: read from text, changed in text."""
