#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The packages are installed, the first snapshot is taken, and the machine would boot.
# shellcheck source=tests/tmt/lib.sh
. ./lib.sh

case $("$dnf" --version) in
    dnf5*) plugin=libdnf5-plugin-fs-snapshot helpers=dnf5-plugins ;;
    *) plugin=python3-dnf-plugin-fs-snapshot helpers=dnf-plugins-core ;;
esac
set -- fs-rollback fs-rollback-convert "$plugin"

step 'the machine: its root is btrfs'
grep -E '^PRETTY_NAME' /etc/os-release
uname -r
"$dnf" --version
findmnt /
findmnt /boot || echo '/boot is in the root'
[ "$(findmnt --noheadings --output FSTYPE /)" = btrfs ]

if enforcing; then
    step 'SELinux enforces: which labels are wrong before anything is done'
    "$dnf" --assumeyes install audit policycoreutils
    systemctl is-active auditd
    wrong_labels "$notes/labels-before"
    cat "$notes/labels-before"
fi

# install_from DIRECTORY: the RPMs in it.
install_from() {
    shown "$dnf" --assumeyes install "$1"/fs-rollback-[0-9]*.noarch.rpm \
        "$1"/fs-rollback-convert-[0-9]*.noarch.rpm "$1/$plugin"-[0-9]*.noarch.rpm
}

# build: the packages of the tree that these stories are in, below $notes.
build() {
    "$dnf" --assumeyes install rpm-build make "$helpers"
    rm -rf "$notes/tree"
    cp -r "$TMT_TREE" "$notes/tree"
    "$dnf" --assumeyes builddep "$notes/tree/packaging/fs-rollback.spec"
    make -C "$notes/tree" rpm
}

if [ -n "${RPMS:-}" ]; then
    step "install the packages in $RPMS"
    case $RPMS in
        /*) install_from "$RPMS" ;;
        *) install_from "$TMT_TREE/$RPMS" ;;
    esac
elif [ -n "${COPR:-}" ]; then
    step "install the packages of the Copr $COPR"
    "$dnf" --assumeyes install "$helpers"
    "$dnf" --assumeyes copr enable "$COPR"
    shown "$dnf" --assumeyes install "$@"
elif rpm --query "$@"; then
    step 'the packages were installed before'
else
    step 'build the packages of this tree, and install them'
    build
    install_from "$notes/tree/dist"
fi
intact "$@"

step 'the services wait for a rollback'
systemctl is-enabled fs-rollback-boot.service fs-rollback-settle.service
no_failed_units

step 'the first snapshot'
# tmt has its own files in /var/tmp.
grep -q '^keep = .*/var/tmp' /etc/fs-rollback.conf ||
    echo 'keep = /home /root /srv /var/log /var/tmp' >>/etc/fs-rollback.conf
shown fs-rollback create --message 'all is well'
shown fs-rollback list
grep 'all is well' "$notes/shown"

step 'check: this machine would boot'
would_boot
