# SPDX-License-Identifier: GPL-2.0-or-later
"""The guarded boot: what it is like, what is written down of it, and what is said of it."""
