# SPDX-License-Identifier: GPL-2.0-or-later
"""Package managers: what they did, what they would do, and which of them take snapshots."""
