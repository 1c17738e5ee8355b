#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# An upgrade goes wrong, is rolled back, and the rollback is undone: three boots.
# shellcheck source=tests/tmt/lib.sh
. ./lib.sh

data=/var/lib/story
rpms=$notes/rpms

# build VERSION: a package with a program, configuration, and data that the second one migrates.
build() {
    cat >"$notes/story.spec" <<SPEC
Name: story
Version: $1
Release: 1
Summary: Made for a test
License: GPL-2.0-or-later
BuildArch: noarch
AutoReqProv: no
%description
It is upgraded, and then it does not work.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc %{buildroot}$data
printf '#!/bin/sh\necho $1\n' >%{buildroot}/usr/bin/story
chmod 0755 %{buildroot}/usr/bin/story
echo 'setting = that of $1' >%{buildroot}/etc/story.conf
%files
/usr/bin/story
%config(noreplace) /etc/story.conf
%dir $data
%post
echo 'format of $1' >$data/format
SPEC
    rpmbuild -bb --quiet --define "_topdir $notes/rpmbuild" --define "_rpmdir $rpms" \
        --define '_rpmfilename %%{NAME}-%%{VERSION}.rpm' "$notes/story.spec"
}

# What the next boots are held against.
note() { printf '%s\n' "$2" >"$notes/$1"; }
noted() { cat "$notes/$1"; }

upgraded_and_broken() {
    step 'a package, its configuration edited, its data in use'
    ! rpm --query story >/dev/null || "$dnf" --assumeyes remove story
    rm -rf "$data" "$rpms" /etc/story.conf*
    build 1
    build 2
    shown "$dnf" --assumeyes install "$rpms/story-1.rpm"
    [ "$(story)" = 1 ]
    echo 'edited = yes' >>/etc/story.conf
    mkdir -p "$data/accounts"
    echo 'before the upgrade' | tee "$data/accounts/one" >"$data/log"

    step 'dnf upgrade takes a snapshot first, and says so'
    shown "$dnf" --assumeyes upgrade "$rpms/story-2.rpm"
    [ "$(grep -cE 'fs-snapshot: snapshotting /: /fs-snapshots/yum_[0-9]{14}$' "$notes/shown")" = 1 ]
    note snapshot "$(sed -n 's,.*snapshotting /: /fs-snapshots/,,p' "$notes/shown")"
    [ "$(story)" = 2 ]
    [ -e /etc/story.conf.rpmnew ]

    step 'it does not work, and work goes on'
    printf '#!/bin/sh\necho broken\n' >/usr/bin/story
    echo 'after the upgrade' | tee "$data/accounts/one" "$data/log" >"$notes/kept"

    step 'list, show and diff know what happened'
    shown fs-rollback list
    grep -F "$(noted snapshot)" "$notes/shown" | grep -F 'story-2.rpm'
    shown fs-rollback show "$(noted snapshot)"
    grep -F story "$notes/shown"
    shown fs-rollback diff "$(noted snapshot)"
    grep -E '^ *upgrade +story\.noarch +1-1 +2-1$' "$notes/shown"
    grep -F /etc/story.conf.rpmnew "$notes/shown"

    step 'rollback --yes'
    look_at_the_top
    note old-root "$(uuid UUID /)"
    note origin "$(uuid UUID "$top/fs-snapshots/$(noted snapshot)")"
    set --
    ! in_root "$data" || set -- --keep "$data/accounts"
    shown fs-rollback rollback --yes "$@"
    # Nothing has changed in the system that runs.
    [ "$(story)" = broken ]

    step 'it waits for its reboot, and dnf refuses transactions until then'
    shown fs-rollback status || true
    grep -E '^Waiting: ' "$notes/shown"
    not shown "$dnf" --assumeyes reinstall "$rpms/story-2.rpm"
    grep -F 'is waiting for a reboot' "$notes/shown"
    echo 'after the rollback' >"$notes/kept"
}

# came_up UUID: the machine, in a root that is a copy of the subvolume with that UUID.
came_up() {
    # ssh answers before the boot has ended.
    until systemctl --quiet is-active multi-user.target; do sleep 1; done
    journalctl --sync
    shown journalctl --boot --unit fs-rollback-boot --no-pager
    grep -F 'came up in the new root' "$notes/shown"
    shown btrfs subvolume show /
    [ "$(uuid 'Parent UUID' /)" = "$1" ]
    would_boot
    no_failed_units
}

rolled_back() {
    step 'the root is a copy of the snapshot'
    came_up "$(noted origin)"

    step 'the old package is back, with its configuration'
    [ "$(story)" = 1 ]
    [ "$(rpm --query story)" = story-1-1.noarch ]
    intact story
    [ "$(cat /etc/story.conf)" = "$(printf 'setting = that of 1\nedited = yes')" ]
    [ ! -e /etc/story.conf.rpmnew ]

    step 'kept paths are as they were last, other data is as it was before the upgrade'
    [ "$(noted kept)" = 'after the rollback' ]
    [ "$(cat "$data/accounts/one")" = 'after the upgrade' ]
    if in_root "$data"; then
        [ "$(cat "$data/format" "$data/log")" = "$(printf 'format of 1\nbefore the upgrade')" ]
    else
        echo "$data is not in the root subvolume, and stays"
        [ "$(cat "$data/format" "$data/log")" = "$(printf 'format of 2\nafter the upgrade')" ]
    fi

    step 'undo'
    note new-root "$(uuid UUID /)"
    echo 'in the rolled-back root' >"$notes/kept"
    shown fs-rollback undo --yes --to-replaced
}

undone() {
    step 'the root is the upgraded one again'
    came_up "$(noted old-root)"
    [ "$(story)" = broken ]
    [ "$(rpm --query story)" = story-2-1.noarch ]
    [ -e /etc/story.conf.rpmnew ]
    [ "$(cat "$data/format" "$data/log")" = "$(printf 'format of 2\nafter the upgrade')" ]
    [ "$(noted kept)" = 'in the rolled-back root' ]

    step 'both old roots are kept, and dnf works'
    shown fs-rollback list
    [ "$(grep -c ' replaced_' "$notes/shown")" -ge 2 ]
    shown "$dnf" --assumeyes remove story
    grep -F 'fs-snapshot: snapshotting /: ' "$notes/shown"
    not rpm --query story
    shown fs-rollback log
    no_failed_units
}

case $TMT_REBOOT_COUNT in
    0) upgraded_and_broken; restart ;;
    1) rolled_back; restart ;;
    2) undone ;;
esac
