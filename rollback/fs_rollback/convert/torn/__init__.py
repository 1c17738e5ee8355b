# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk on which a conversion was cut off in its last moment."""
