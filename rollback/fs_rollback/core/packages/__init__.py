# SPDX-License-Identifier: GPL-2.0-or-later
"""What package managers are told in their own files, and what a transaction changes."""
