# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares two subvolumes of this machine: their files, and the packages in them."""
