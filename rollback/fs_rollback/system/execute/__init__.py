# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out plans: each step done, taken back, or finished after a crash."""
