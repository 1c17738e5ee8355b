# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures the promises about time. Prints ratios of medians; nothing fails for being slow."""
