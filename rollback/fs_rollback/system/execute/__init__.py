# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out plans: applies each step, undoes it, or finishes it after a crash."""
