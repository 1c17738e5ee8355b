# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that decides: pure functions and data. No I/O, no clock, no environment."""
