# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a root can be converted: a point for each thing that decides."""
