# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and changes the settings and the boot entries of the boot loader."""
