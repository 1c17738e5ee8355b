# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a subvolume the root, and what a snapshot of that lacks."""
