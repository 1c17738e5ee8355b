# SPDX-License-Identifier: GPL-2.0-or-later
"""Would this machine boot, and does the way back lead anywhere?"""
