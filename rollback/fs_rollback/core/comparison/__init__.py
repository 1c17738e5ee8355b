# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between two subvolumes: since when, which files, and in what."""
