# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that boot for real: a disk image, a boot loader's choice, QEMU, and a job to do.

To add a test: choose a `Design` (design.py), write a function that is given a `Machine`
(machine.py) and boots it with jobs, and make a `Story` of both (stories.py); test_matrix.py shows
it. Where the machine has to go on running while the host acts, as for a power cut, there is
`Machine.start`; test_harness.py shows that.
"""
