# SPDX-License-Identifier: GPL-2.0-or-later
"""What package managers did, what they would do, and which of them take a snapshot."""
