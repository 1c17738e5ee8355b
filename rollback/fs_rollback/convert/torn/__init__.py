# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks on which a conversion was interrupted in its last moment."""
