# SPDX-License-Identifier: GPL-2.0-or-later
"""The guarded boot: the way back as the loader's default, and what is made of how a boot ends."""
