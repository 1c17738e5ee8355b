#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What the product has written has the labels that SELinux wants, and it was denied nothing.
# shellcheck source=tests/tmt/lib.sh
. ./lib.sh

if ! enforcing; then
    sestatus 2>/dev/null || echo 'there is no sestatus'
    tmt-report-result 'SELinux does not enforce here: nothing was looked at' SKIP
    exit 0
fi

step 'no file has a wrong label that had none before'
wrong_labels "$notes/labels-now"
comm -13 "$notes/labels-before" "$notes/labels-now" | tee "$notes/labels-new"
[ ! -s "$notes/labels-new" ]

step 'nothing of ours was denied'
# The policy knows no path of the store: its labels are only shown.
look_at_the_top
ls -dZ "$top/fs-snapshots" "$top"/fs-snapshots/*
# Both logs are kept: they go back over all reboots.
shown ausearch --input-logs --interpret -m AVC,USER_AVC,SELINUX_ERR ||
    grep -F '<no matches>' "$notes/shown"
not grep -E 'fs-(rollback|snapshot)|fs_(rollback|snapshot)' "$notes/shown"
journalctl --no-pager --output=cat --grep 'avc: +denied' >"$notes/shown" || [ $? -eq 1 ]
not grep -E 'fs-(rollback|snapshot)|fs_(rollback|snapshot)' "$notes/shown"
