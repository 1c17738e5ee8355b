# SPDX-License-Identifier: GPL-2.0-or-later
"""The conversion itself, the way back from it, and the balance after it."""
