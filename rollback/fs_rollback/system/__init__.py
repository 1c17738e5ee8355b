# SPDX-License-Identifier: GPL-2.0-or-later
"""The part that touches the machine."""
