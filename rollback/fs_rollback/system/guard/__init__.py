# SPDX-License-Identifier: GPL-2.0-or-later
"""The guarded boot: sets the snapshot as default entry, and acts on how the boot ends."""
