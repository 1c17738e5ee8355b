# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# What the stories share; each sources it first. A story is told in steps, and each step is a line of
# tmt's report. tmt forgets a script's exit status once it was told a result: the last step tells it.
set -eu
LC_ALL=C.UTF-8
export LC_ALL

# shellcheck disable=SC2034 # for the stories
dnf=${DNF:?the plan names it}
# What has to be found again after a reboot, in whatever root: a rollback keeps /root.
notes=/root/fs-rollback-story
mkdir -p "$notes"
now=

# step WORDS: what comes next; what came before it has passed.
step() {
    passed
    now=$*
    printf '\n== %s\n' "$now"
}

passed() {
    [ -z "$now" ] || tmt-report-result "$now" PASS
    now=
}

ended() {
    code=$?
    if [ "$code" -eq 0 ]; then
        passed
    else
        tmt-report-result "${now:-the begin}: exit status $code" FAIL
    fi
}
trap ended EXIT

# restart: the story goes on after it, with TMT_REBOOT_COUNT one higher.
restart() {
    passed
    tmt-reboot
    exit 0
}

not() {
    code=0
    "$@" || code=$?
    [ "$code" -eq 1 ]
}

# shown COMMAND...: run it; what it prints is in the report, and in $notes/shown.
shown() {
    printf '$ %s\n' "$*"
    code=0
    "$@" >"$notes/shown" 2>&1 || code=$?
    cat "$notes/shown"
    return "$code"
}

# The next boot would find all that it needs. Warnings are shown: they are about the machine.
would_boot() {
    code=0
    shown fs-rollback check || code=$?
    [ "$code" -le 1 ]
}

# None of the product's services has failed; others' are shown.
no_failed_units() {
    shown systemctl list-units --state=failed --plain --no-legend --no-pager
    not grep -E '^(fs-rollback|fs-snapshot)' "$notes/shown"
}

# intact PACKAGE...: they are installed, and their files as rpm has them, but for configuration.
intact() {
    rpm --query "$@"
    shown rpm --verify "$@" || not grep -v '^.\{9\}  c /' "$notes/shown"
}

# in_root PATH: whether it lies in the root subvolume, and so goes back with it.
in_root() {
    [ "$(stat --format=%d "$1")" = "$(stat --format=%d /)" ]
}

# uuid FIELD PATH: of a subvolume, as btrfs(8) has it; FIELD is UUID or Parent UUID.
uuid() {
    btrfs subvolume show "$2" | sed -n "s/^\t$1: *\t*//p"
}

# Where the store is: the top level of the root's filesystem, mounted to be looked at.
top=/run/fs-rollback-story
look_at_the_top() {
    mkdir -p "$top"
    mountpoint --quiet "$top" ||
        mount -o subvolid=5 "$(findmnt --noheadings --nofsroot --output SOURCE /)" "$top"
}

# SELinux.
enforcing() {
    command -v getenforce >/dev/null && [ "$(getenforce)" = Enforcing ]
}

# wrong_labels FILE: a line for each file that SELinux would label otherwise, where the product writes.
wrong_labels() {
    for path in /boot /etc /root /srv /var/cache/fs-rollback /var/lib /var/log; do
        [ ! -e "$path" ] || restorecon -n -R -v "$path"
    done >"$1"
    sort --output="$1" "$1"
}
