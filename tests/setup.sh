# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# What tests/run and tests/demo need on a machine, installed where it is missing. To be sourced,
# with `checkout` set to the root of the checkout; defines functions and sets FS_ROLLBACK_CACHE.
#
# A machine that has everything is not asked for the network.

debian_packages='btrfs-progs createrepo-c dnf e2fsprogs fdisk gcc jq libc6-dev mmdebstrap mount
    python3-btrfsutil python3-dnf python3-tabulate python3-venv rpm shellcheck systemd util-linux xfsprogs'
# What the packages are built with.
debian_packages="$debian_packages make python3-argcomplete python3-docutils python3-pip
    python3-setuptools python3-tqdm python3-wheel"
# What tests/packaging runs besides; of Debian only, as those of tests/vm.
# shellcheck disable=SC2034 # for tests/run, here and below
debian_packaging_packages='cpio fish python3-build python3-jsonschema python3-pytest rpmlint zsh'
# What the machines of tests/vm run in and are made with.
# shellcheck disable=SC2034
debian_vm_packages='dosfstools mtools openssh-client ovmf qemu-system-x86 rsync'
# On Fedora 41 and later the package dnf is dnf 5; dnf 4 is python3-dnf there as everywhere.
fedora_packages='btrfs-progs cpio createrepo_c e2fsprogs fish gcc jq make pyproject-rpm-macros
    python3-argcomplete python3-btrfsutil python3-build python3-devel python3-dnf python3-docutils
    python3-jsonschema python3-pip python3-pytest python3-setuptools python3-tabulate python3-tqdm
    python3-wheel rpm-build rpmlint ShellCheck systemd systemd-rpm-macros tar util-linux xfsprogs zsh'

is_root() {
    [ "$(id -u)" -eq 0 ]
}

fail() {
    echo "$*" >&2
    exit 1
}

# What cannot be rebuilt in a second lies here: the virtual environment and the sandbox images.
if [ -z "${FS_ROLLBACK_CACHE:-}" ]; then
    cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
    [ -n "$cache" ] ||
        fail 'HOME is not set: say where tools and images may be kept with FS_ROLLBACK_CACHE=DIR'
    FS_ROLLBACK_CACHE=$cache/fs-rollback
fi
export FS_ROLLBACK_CACHE

# Prints those of the packages that are not installed.
missing_packages() {
    for package in "$@"; do
        if command -v apt-get >/dev/null; then
            status=$(dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null) || status=
            [ "$status" = 'install ok installed' ] || echo "$package"
        else
            rpm --query --whatprovides "$package" >/dev/null 2>&1 || echo "$package"
        fi
    done
}

# Installs what the root tiers and the demo need from the distribution, and what is named in
# $more_packages. For root.
install_packages() {
    module_tools=
    has_btrfs || module_tools=kmod
    if command -v apt-get >/dev/null; then
        # shellcheck disable=SC2086 # a list of words, here and below
        missing=$(missing_packages $debian_packages $module_tools ${more_packages:-})
        [ -n "$missing" ] || return 0
        printf 'installing:\n%s\n' "$missing"
        apt-get update --quiet=2 --option DPkg::Lock::Timeout=600
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes \
            --option DPkg::Lock::Timeout=600 --no-install-recommends $missing
    elif command -v dnf >/dev/null; then
        # Written from Fedora's package lists; not run there so far.
        # shellcheck disable=SC2086
        missing=$(missing_packages $fedora_packages $module_tools)
        [ -n "$missing" ] || return 0
        printf 'installing:\n%s\n' "$missing"
        # shellcheck disable=SC2086
        dnf --assumeyes --quiet install --setopt=install_weak_deps=False $missing
    else
        fail 'neither apt-get nor dnf: only Debian, Fedora and their kin are known here'
    fi
}

has_btrfs() {
    grep -qw btrfs /proc/filesystems
}

# Says what to do where the kernel or the container forbids what the root tiers do.
check_kernel() {
    has_btrfs || modprobe btrfs 2>/dev/null ||
        fail 'this kernel has no btrfs: only tests/run unit can run here'
    [ -e /dev/loop-control ] || modprobe loop 2>/dev/null ||
        fail 'no loop devices here (a container without privileges?): run this on a machine'
}

# Makes the virtual environment with the pinned tools, or renews it when the pins have changed, and
# sets `venv`. It sees the distribution's dnf, rpm and btrfsutil, so it is made of the
# distribution's Python, whatever comes first in PATH.
make_venv() {
    requirements=${checkout:?}/tests/requirements.txt
    venv=$FS_ROLLBACK_CACHE/venv
    if cmp -s "$requirements" "$venv/requirements.txt" &&
        "$venv/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    if ! /usr/bin/python3 -c 'import btrfsutil, ensurepip' 2>/dev/null; then
        ! command -v apt-get >/dev/null ||
            fail 'This needs two packages. As root: apt-get install python3-btrfsutil python3-venv'
        fail 'This needs two packages. As root: dnf install python3 python3-btrfsutil'
    fi
    echo "making $venv"
    mkdir -p "$FS_ROLLBACK_CACHE"
    rm -rf "$venv"
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement "$requirements"
    # Last: an environment that was not finished is made again.
    cp "$requirements" "$venv/requirements.txt"
}
