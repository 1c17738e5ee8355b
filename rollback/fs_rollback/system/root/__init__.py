# SPDX-License-Identifier: GPL-2.0-or-later
"""How a subvolume becomes the root, and what a snapshot of it does not contain."""
