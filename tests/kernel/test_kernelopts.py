# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot entries whose options are variables of GRUB, as EL 8 writes them and EL 9 inherits them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.attached import command, off
from tests.kernel.boots import A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import GRUB_CFG

__all__ = ["make_boot"]  # the fixture of the tests below


def _options(boot: BootMachine) -> str:
    return f"root=UUID={boot.machine.uuid} ro rootflags=subvol=root crashkernel=auto quiet"


def _use_variables(boot: BootMachine, kernel: str, where: str) -> None:
    """Have the entry of a kernel leave its options to a variable, which is set `where`."""
    entry = boot.entry_of(kernel)
    lines = [line for line in entry.read_text().splitlines() if not line.startswith("options")]
    said = {"custom": "options $my_root ${my_rest} $tuned_params", "none": ""}
    lines.append(said.get(where, "options $kernelopts $tuned_params"))
    entry.write_text("\n".join(filter(None, lines)) + "\n")
    options = _options(boot)
    root, _, rest = options.partition(" ")
    values = {
        "grubenv": {"kernelopts": options},
        "custom": {"my_root": root, "my_rest": rest, "tuned_params": "isolcpus=1"},
    }
    boot.write_grubenv({"saved_entry": f"abc-{kernel}", **values.get(where, {})})
    text = {
        "grub.cfg": f'if [ -z "${{kernelopts}}" ]; then\n  set kernelopts="{options} "\nfi\n',
        "default": f'set default_kernelopts="{options}"\n',
        "none": f"set default_kernelopts='{options}'\n",
    }
    boot.write("grub2/grub.cfg", text.get(where, "") + GRUB_CFG)


@pytest.fixture(params=["grubenv", "grub.cfg", "default", "custom", "none"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _rootflags(entry: Path) -> list[str]:
    words = entry.read_text().split()
    return [word for word in words if word.startswith("rootflags=")]


def test_options_that_are_variables(make_boot: MakeBoot, where: str) -> None:
    boot = make_boot("ext4")
    _use_variables(boot, A, where)
    name, problems = boot.transact(boot.install_b)  # the new one has its options written out
    assert not problems
    # The menu's entry of the snapshot has them written out too, and boots its copy.
    ours = boot.place / f"loader/entries/{boot.ours()[0]}.conf"
    assert _rootflags(ours) == [f"rootflags=subvol=fs-snapshots/try_{name[4:]}"]
    text = ours.read_text()
    assert "crashkernel=auto" in text
    assert "$kernelopts" not in text
    assert ("$tuned_params" in text) == (where != "none")
    assert "isolcpus" not in text
    # The old kernel alone fits the snapshot: its entry is found.
    boot.remove_modules(A)
    _use_variables(boot, A, where)  # install_b made the environment block anew
    saved = boot.setting.read_bytes().replace(f"abc-{A}".encode(), f"abc-{B}".encode())
    boot.setting.write_bytes(saved)
    done(boot.root, "rollback", name, "--yes")
    assert boot.default_name() == f"abc-{A}"
    links = {x["name"]: x for x in fs_rollback(boot.root, "check", "--json").json["links"]}
    assert (links["command line"]["grade"], links["command line"]["text"]) == ("ok", "subvol=root")
    assert links["layout"]["grade"] == "ok"


def test_from_a_rescue_system(make_boot: MakeBoot) -> None:
    boot = make_boot("subvolume")
    _use_variables(boot, A, "grubenv")
    boot.transact()
    boot.unmount()
    with off(boot.machine) as device:
        links = {x["name"]: x for x in command(device, "check", "--json").json["links"]}
        assert links["command line"]["text"] == "subvol=root"
        assert command(device, "rollback", "--yes").code == 0


@pytest.mark.parametrize("where", ["grubenv", "grub.cfg"])
def test_with_boot_in_the_root(make_boot: MakeBoot, where: str) -> None:
    """The entry of a snapshot is made from the snapshot's own."""
    boot = make_boot("in the root")
    _use_variables(boot, A, where)
    name, problems = boot.transact()
    assert not problems
    ours = boot.place / f"loader/entries/{boot.ours()[0]}.conf"
    assert _rootflags(ours) == [f"rootflags=subvol=fs-snapshots/try_{name[4:]}"]
    done(boot.root, "rollback", name, "--yes")


def test_a_variable_that_nothing_sets(make_boot: MakeBoot) -> None:
    """What the entry boots cannot be known; fstab says enough, and kernels are told by name."""
    boot = make_boot("ext4")
    _use_variables(boot, A, "nowhere")
    name = boot.machine.take()
    links = {x["name"]: x for x in fs_rollback(boot.root, "check", "--json").json["links"]}
    assert "only in variables" in links["command line"]["text"]
    done(boot.root, "rollback", name, "--yes")
