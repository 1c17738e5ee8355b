# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a machine ready for the conversion of its root, and takes that back."""
