# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine is laid out, and what in it says so, as Fedora and Oracle Linux write it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import PurePosixPath

MACHINE_ID = "7d1f0c0e5b3c4f5ab2b0c7f6f2f2b9a1"

# The console is the first serial port. A panic ends the machine, which then is seen to be lost;
# without `quiet` writing the kernel's messages to a serial port is a second of each boot.
# On a busy host the emulated timer is late, and the kernel's check of it would panic.
_CONSOLE = "console=ttyS0 panic=-1 no_timer_check mitigations=off quiet"


class Root(enum.Enum):
    """Where the root is, and what names it."""

    TOP_LEVEL = "top-level"  # a converted ext4: nothing names it
    DEFAULT = "default"  # the default subvolume; nothing names it
    NAMED = "named"  # Fedora: the command line and fstab name it
    ORACLE = "oracle"  # Oracle Linux: the default subvolume, and named as well

    @property
    def subvolume(self) -> str:
        """The path of the root subvolume from the top level; empty for the top level itself."""
        return {Root.TOP_LEVEL: "", Root.DEFAULT: "install"}.get(self, "root")

    @property
    def is_named(self) -> bool:
        """Whether the command line and fstab name the root subvolume."""
        return self in (Root.NAMED, Root.ORACLE)

    @property
    def is_default(self) -> bool:
        """Whether the root subvolume was made the default one."""
        return self in (Root.DEFAULT, Root.ORACLE)


class Boot(enum.Enum):
    """Where kernels and boot entries are: on an ESP for systemd-boot, else for GRUB."""

    IN_ROOT = "boot-in-root"
    SUBVOLUME = "boot-subvolume"  # a subvolume `boot` beside the root
    EXT4 = "boot-ext4"
    ESP = "esp"


@dataclass(frozen=True)
class Uuids:
    """The names of a machine's filesystems in root= and fstab; empty for one it does not have."""

    root: str
    boot: str = ""
    esp: str = ""


@dataclass(frozen=True)
class Design:
    """What kind of machine it shall be.

    `subvolumes` are mounted by fstab, each at the place of its name: `home` on /home. `nested` are
    paths in the root that are subvolumes inside it. With `selinux` it enforces Debian's policy.
    """

    root: Root
    boot: Boot
    subvolumes: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    machine_id: str = MACHINE_ID
    selinux: bool = False

    @property
    def name(self) -> str:
        """A name for tests and files."""
        more = [*self.subvolumes, *(PurePosixPath(path).name for path in self.nested)]
        return "-".join([self.root.value, self.boot.value, *more])

    @property
    def all_subvolumes(self) -> tuple[str, ...]:
        """The subvolumes of the top level that fstab mounts, /boot's among them."""
        return (*self.subvolumes, *(("boot",) if self.boot is Boot.SUBVOLUME else ()))

    @property
    def boot_mount(self) -> str:
        """Where the filesystem with kernels and entries is mounted; empty: it is the root."""
        return {Boot.IN_ROOT: "", Boot.ESP: "/boot/efi"}.get(self.boot, "/boot")

    @property
    def entries(self) -> str:
        """The directory of the boot entries in the running machine."""
        return f"{self.boot_mount or '/boot'}/loader/entries"

    @property
    def seen_by_loader(self) -> str:
        """What the loader has for /boot: a path in its filesystem, for btrfs from the top level."""
        inside = f"/{self.root.subvolume}" if self.root.subvolume else ""
        return {Boot.IN_ROOT: f"{inside}/boot", Boot.SUBVOLUME: "/boot"}.get(self.boot, "")

    def kernel_files(self, version: str) -> tuple[str, str]:
        """Return the paths of a kernel and its initramfs in the running machine."""
        if self.boot is Boot.ESP:
            directory = f"/boot/efi/{self.machine_id}/{version}"
            return f"{directory}/linux", f"{directory}/initrd"
        return f"/boot/vmlinuz-{version}", f"/boot/initramfs-{version}.img"

    def path_for_loader(self, path: str) -> str:
        """Return how the loader names a file that the running machine has below /boot."""
        if self.boot is Boot.ESP:
            return "/" + str(PurePosixPath(path).relative_to("/boot/efi"))
        return f"{self.seen_by_loader}/{PurePosixPath(path).relative_to('/boot')}"

    @property
    def root_arguments(self) -> tuple[str, ...]:
        """What the command line says of the root beside its name."""
        return (f"rootflags=subvol={self.root.subvolume}",) if self.root.is_named else ()

    def root_device(self, uuids: Uuids) -> str:
        """Return how the command line and fstab name the root's filesystem."""
        return f"UUID={uuids.root}"

    def options(self, uuids: Uuids) -> str:
        """Return what follows the kernel's name on its command line."""
        root = f"root={self.root_device(uuids)}"
        enforcing = ["security=selinux", "selinux=1", "enforcing=1"] if self.selinux else []
        return " ".join([root, "ro", *self.root_arguments, *enforcing, _CONSOLE])

    def entry(self, version: str, uuids: Uuids) -> str:
        """Return the boot entry of a kernel, with the lines that Fedora's kernel-install writes."""
        kernel, initramfs = map(self.path_for_loader, self.kernel_files(version))
        lines = [f"title Fedora Linux ({version}) 41 (Test)", f"version {version}"]
        if self.boot is Boot.ESP:
            lines += [f"machine-id {self.machine_id}", "sort-key fedora"]
            lines += [f"options {self.options(uuids)}", f"linux {kernel}", f"initrd {initramfs}"]
        else:
            lines += [f"linux {kernel}", f"initrd {initramfs} $tuned_initrd"]
            lines += [f"options {self.options(uuids)} $tuned_params", "grub_users $grub_users"]
            lines += ["grub_arg --unrestricted", "grub_class fedora"]
        return "\n".join(lines) + "\n"

    def entry_id(self, version: str) -> str:
        """Return the name of a kernel's boot entry, without its .conf."""
        return f"{self.machine_id}-{version}"

    def files(self, version: str, uuids: Uuids) -> dict[str, str]:
        """Return the text files that make a base system this machine, by path from its root.

        Those of the loader are among them, for the kernel `version`.
        """
        files = {
            f"{self.entries.lstrip('/')}/{self.entry_id(version)}.conf": self.entry(version, uuids),
            "etc/fstab": self._fstab(uuids),
            "etc/kernel/cmdline": self.options(uuids) + "\n",
            "etc/machine-id": self.machine_id + "\n",
            "etc/os-release": _OS_RELEASE,
        }
        if self.boot is Boot.ESP:
            files["boot/efi/loader/loader.conf"] = "#timeout 3\n#console-mode keep\ntimeout 0\n"
        else:
            files["boot/grub2/grubenv"] = _grubenv(self.entry_id(version), self.seen_by_loader)
            files["boot/grub2/grub.cfg"] = _GRUB_CFG.format(blscfg=self._blscfg())
            files["etc/default/grub"] = self._default_grub()
        return files

    def _fstab(self, uuids: Uuids) -> str:
        """Return a table as Anaconda writes it, aligned and with its comment."""
        root = f"subvol={self.root.subvolume}" if self.root.is_named else "defaults"
        lines = [(uuids.root, "/", "btrfs", root)]
        lines += [(uuids.root, f"/{s}", "btrfs", f"subvol={s}") for s in self.all_subvolumes]
        if self.boot is Boot.EXT4:
            lines.append((uuids.boot, "/boot", "ext4", "defaults"))
        if self.boot is Boot.ESP:
            options = "umask=0077,shortname=winnt"
            lines.append((uuids.esp, "/boot/efi", "vfat", options))
        return _FSTAB_HEADER + "".join(
            _fstab_line(f"UUID={uuid}", point, fstype, options, 2 if fstype == "vfat" else 0)
            for uuid, point, fstype, options in lines
        )

    def _blscfg(self) -> str:
        """Return the command that reads the entries; Fedora's is told where by blsdir in grubenv.

        That of GRUB 2.14 looks in /loader/entries unless it is told here.
        """
        entries = f"{self.seen_by_loader}/loader/entries"
        return f"blscfg --path {entries}" if self.seen_by_loader else "blscfg"

    def _default_grub(self) -> str:
        command_line = " ".join([*self.root_arguments, _CONSOLE])
        return _DEFAULT_GRUB.format(command_line=command_line)


@dataclass(frozen=True)
class Ext4Design(Design):
    """A machine whose root is ext4, for a conversion to btrfs; its kernels start with dracut.

    With `lvm` the root is a logical volume, as the installers of EL make it. With `systemd` the
    initramfs has it, as Fedora's and EL's have; without it dracut's own scripts do the work.
    """

    root: Root = Root.TOP_LEVEL  # what it is once it is converted
    boot: Boot = Boot.IN_ROOT
    lvm: bool = False
    systemd: bool = True

    @property
    def name(self) -> str:
        """A name for tests and files."""
        kinds = ["ext4", "lvm" if self.lvm else "plain", self.boot.value]
        return "-".join([*kinds, "systemd" if self.systemd else "shell"])

    @property
    def root_arguments(self) -> tuple[str, ...]:
        """What the command line says of the root beside its name."""
        return (f"rd.lvm.lv={VOLUME_GROUP}/{LOGICAL_VOLUME}",) if self.lvm else ()

    def root_device(self, uuids: Uuids) -> str:
        """Return how the command line and fstab name the root's filesystem."""
        mapped = f"/dev/mapper/{VOLUME_GROUP}-{LOGICAL_VOLUME}"
        return mapped if self.lvm else super().root_device(uuids)

    def files(self, version: str, uuids: Uuids) -> dict[str, str]:
        """Return the text files that make a base system this machine, by path from its root."""
        dracut = _DRACUT_CONF.format(without="" if self.systemd else _DRACUT_SYSTEMD)
        return {
            **super().files(version, uuids),
            "etc/dracut.conf.d/vm.conf": dracut + (_DRACUT_LVM if self.lvm else ""),
            "etc/systemd/system/systemd-udev-trigger.service.d/vm.conf": _TRIGGER,
            "etc/systemd/system.conf.d/vm.conf": _PATIENCE,
        }

    def _fstab(self, uuids: Uuids) -> str:
        table = _FSTAB_HEADER
        table += _fstab_line(self.root_device(uuids), "/", "ext4", "errors=remount-ro", 1)
        if self.boot is Boot.EXT4:
            table += _fstab_line(f"UUID={uuids.boot}", "/boot", "ext4", "defaults", 2)
        return table


def _fstab_line(device: str, point: str, fstype: str, options: str, check: int) -> str:
    return f"{device} {point:<23} {fstype:<7} {options:<15} 0 {check}\n"


# Anaconda names them after the distribution.
VOLUME_GROUP, LOGICAL_VOLUME = "fedora", "root"

# A run of dracut starts 2200 processes, which is minutes under emulation: what no machine here
# needs is not even looked for. The root's filesystem and what that is on it finds by itself.
_DRACUT_CONF = """\
hostonly="yes"
hostonly_cmdline="no"
compress="cat"
do_strip="no"
do_hardlink="no"
early_microcode="no"
add_drivers+=" virtio_blk virtio_pci "
omit_dracutmodules+=" \
bash biosdevname bluetooth busybox caps cio_ignore console-setup convertfs crypt-gpg \
crypt-loop dasd dasd_mod dbus dbus-broker dbus-daemon dcssblk debug dmraid drm ecryptfs fido2 \
fips fips-crypto-policies fstab-sys hwdb i18n integrity kernel-modules-extra lunmask lvmmerge \
lvmthinpool-monitor masterkey memstrack modsign multipath numlock nvdimm overlay-root \
overlayfs pcmcia pcsc pkcs11 plymouth pollcdrom ppcmac qemu rescue resume rngd securityfs \
selinux syslog systemd-ac-power systemd-battery-check systemd-bsod systemd-coredump \
systemd-creds systemd-cryptsetup systemd-emergency systemd-hostnamed systemd-integritysetup \
systemd-ldconfig systemd-modules-load systemd-pcrphase systemd-portabled systemd-pstore \
systemd-repart systemd-resolved systemd-sysctl systemd-sysext systemd-timedated \
systemd-timesyncd systemd-veritysetup terminfo tpm2-tss usrmount virtfs virtiofs warpclock \
watchdog watchdog-modules zipl {without}"
"""
# Where dracut is run, on the host, there is a filesystem in a file, and no volume to be found.
_DRACUT_LVM = 'add_dracutmodules+=" lvm "\n'
# In place of what prepare.sh writes: dracut copies it, and the disks come with their drivers.
_TRIGGER = """\
[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=pci --subsystem-match=virtio \\
    --subsystem-match=block
"""
# An emulated machine on a host with much else to do: 90 s are not enough for a mount.
_PATIENCE = """\
[Manager]
DefaultTimeoutStartSec=600
DefaultDeviceTimeoutSec=600
"""
_DRACUT_SYSTEMD = "dracut-systemd systemd systemd-initrd "

_FSTAB_HEADER = """
#
# /etc/fstab
# Created by anaconda on Mon Nov 23 13:29:57 2026
#
# Accessible filesystems, by reference, are maintained under '/dev/disk/'.
# See man pages fstab(5), findfs(8), mount(8) and/or blkid(8) for more info.
#
"""

# kernel-install takes the title and the sort-key of an entry from it.
_OS_RELEASE = """\
NAME="Fedora Linux"
VERSION="41 (Test)"
ID=fedora
VERSION_ID=41
PRETTY_NAME="Fedora Linux 41 (Test)"
"""

_DEFAULT_GRUB = """\
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR="$(sed 's, release .*$,,g' /etc/system-release)"
GRUB_DEFAULT=saved
GRUB_DISABLE_SUBMENU=true
GRUB_CMDLINE_LINUX="{command_line}"
GRUB_DISABLE_RECOVERY="true"
GRUB_ENABLE_BLSCFG=true
"""

# What of Fedora's grub.cfg decides which entry boots.
_GRUB_CFG = """\
set pager=1
load_env
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${{saved_entry}}"
fi
set timeout=0
{blscfg}
"""

_GRUBENV_BYTES = 1024  # GRUB_ENVBLK_SIZE: the whole file is one block


def _grubenv(saved_entry: str, boot: str) -> str:
    """Return an environment block; `boot` is the loader's path of /boot, empty if that is all."""
    lines = ["# GRUB Environment Block", f"saved_entry={saved_entry}", "boot_success=0"]
    if boot:
        # blscfg looks in /loader/entries of its filesystem unless it is told another place.
        lines.append(f"blsdir={boot}/loader/entries")
    text = "\n".join(lines) + "\n"
    return text + "#" * (_GRUBENV_BYTES - len(text))
