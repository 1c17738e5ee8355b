# SPDX-License-Identifier: GPL-2.0-or-later
"""`guard`: the command, what its units call at boot, and how the guard stands."""
