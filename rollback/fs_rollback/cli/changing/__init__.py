# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change something: the store, or what boots next."""
