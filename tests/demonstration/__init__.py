# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests/demo runs: the main job from end to end, in a sandbox, each claim checked."""
