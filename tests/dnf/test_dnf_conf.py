# SPDX-License-Identifier: GPL-2.0-or-later
"""What `status` and `check` say of the plugin against what real dnf does with the same files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import libdnf.conf

from fs_rollback.core.packages import dnf_conf
from tests.sandbox.machine import Sandbox

_PLUGIN_CONF = "/etc/dnf/plugins/fs-snapshot.conf"
_DNF_CONF = "/etc/dnf/dnf.conf"
_PIECES = (
    b"[main]", b"[main] # x", b"[other]", b"[main]x", b"[main]xy", b"[]", b"[main", b" [main]",
    b"enabled", b"enabled = 0", b"enabled=1", b"enabled = 1 # c", b"enabled = 'no'",
    b'enabled="1"', b"enabled =", b"enabled=\r", b"enabled= \r", b"enabled = \t\r ", b"  x",
    b"\tyes", b"  ", b"\t", b"", b"# c", b"; c", b" # c", b"=1", b" enabled=1", b"enabled = On\r",
    b"enabled\t=\tTRUE", b"Enabled=0", b"a=b=c", b'a="', b"[ main ]", b"\xe9=1", b"#\xe9",
    b"\xef\xbb\xbf", b"\xef\xbb\xbf[main]", b"[main]\xef\xbb\xbf", b"\r", b"\0", b"enabled=0;",
)  # fmt: skip


def _as_libdnf_does(path: Path) -> object:
    parser = libdnf.conf.ConfigParser()
    try:
        parser.readFileName(str(path))
    except Exception as error:  # noqa: BLE001 - SWIG's
        return str(error).replace("IniParser: ", "")
    if not (parser.has_section("main") and parser.has_option("main", "enabled")):
        return None
    value = parser.getValue("main", "enabled")
    try:
        return value, parser.getboolean("main", "enabled")
    except (ValueError, TypeError):  # the latter where it is no UTF-8
        return value, None


def _as_we_do(data: bytes) -> object:
    try:
        found = dnf_conf.main_section(data).get("enabled")
    except dnf_conf.DnfConfError as error:
        return f"{error} at line {error.line}"
    return found and (found.value, found.boolean())


def test_files_are_read_as_libdnf_reads_them(tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "plugin.conf"
    for _ in range(5_000):
        data = b"[main]\n" if chance.random() < 0.7 else b""
        for line in chance.choices(_PIECES, k=chance.randint(1, 6)):
            data += line + chance.choice((b"\n", b"\n", b"\r\n", b""))
        path.write_bytes(data)
        assert _as_we_do(data) == _as_libdnf_does(path), data


# Instead of a file.
_ABSENT, _DIRECTORY, _DANGLING = b"\0absent", b"\0directory", b"\0dangling"


def _plugin_conf(*lines: bytes) -> dict[str, bytes]:
    return {_PLUGIN_CONF: b"[main]\n" + b"\n".join(lines) + b"\n"}


def _dnf_conf(*lines: bytes) -> dict[str, bytes]:
    return {_DNF_CONF: b"[main]\n" + b"\n".join(lines) + b"\n"}


_MARK = b"\xef\xbb\xbf"
_CASES = {
    "as installed": ({}, "on", ""),
    "yes": (_plugin_conf(b"enabled = Yes"), "on", ""),
    "off": (_plugin_conf(b"# \xe9", b"enabled = off\r"), "off", "fs-snapshot.conf line 3"),
    "a mark, and off": ({_PLUGIN_CONF: _MARK + b"[main]\nenabled=0"}, "off", "line 2"),
    "a comment behind it": (_plugin_conf(b"enabled = 1 # on"), "broken", "line 2: enabled cannot"),
    "no equals sign": (_plugin_conf(b"enabled"), "broken", "line 2: Missing '='"),
    "no section": ({_PLUGIN_CONF: b"enabled = 0\n"}, "broken", "line 1: Missing section header"),
    "another section": ({_PLUGIN_CONF: b"[Main]\nenabled = 0\n"}, "on", ""),
    "twice": (_plugin_conf(b"enabled = x", b"enabled = 0"), "off", "line 3"),
    "no UTF-8": (_plugin_conf(b"enabled = \xe9"), "broken", "line 2: enabled cannot be"),
    "no plugins": (_dnf_conf(b"plugins=False"), "off", "all dnf plugins are switched off in"),
    "no boolean": (_dnf_conf(b"plugins = 0 # none"), "on", ""),
    "dnf.conf": (_dnf_conf(b"plugins"), "broken", "/etc/dnf/dnf.conf line 2: Missing '='"),
    "dnf.conf, no UTF-8": (_dnf_conf(b"proxy = \xe9"), "broken", "/etc/dnf/dnf.conf line 2"),
    "elsewhere": (_dnf_conf(b"pluginpath=/opt/plugins"), "off", "line 2 names another directory"),
    "no file": ({_PLUGIN_CONF: _ABSENT, _DNF_CONF: _ABSENT}, "on", ""),
    "a directory": ({_PLUGIN_CONF: _DIRECTORY}, "on", ""),
    "links to nowhere": ({_PLUGIN_CONF: _DANGLING, _DNF_CONF: _DANGLING}, "on", ""),
    "dnf.conf is a directory": ({_DNF_CONF: _DIRECTORY}, "broken", "/etc/dnf/dnf.conf"),
    "no directories": (_dnf_conf(b"pluginconfpath ="), "on", ""),
    "no paths": (_dnf_conf(b"pluginpath ="), "off", "line 2 names another directory"),
    "a boolean with a return": (_plugin_conf(b"enabled = \r"), "broken", "line 2"),
    "nothing": (_plugin_conf(b"enabled ="), "broken", "line 2: enabled cannot be ''"),
    "in quotes": (_plugin_conf(b"enabled = 'No'"), "off", "line 2"),
    "over two lines": (_plugin_conf(b"enabled = 1", b"  # on"), "broken", "line 2"),
    "configured elsewhere": (
        {**_dnf_conf(b"pluginconfpath = /etc/dnf/plugins,/opt"),
         "/opt/fs-snapshot.conf": b"[main]\nenabled = no\n"},
        "off",
        "/opt/fs-snapshot.conf line 2",
    ),
}  # fmt: skip


# Reads (path, hex) pairs, a list of them a line; answers with dnf's exit code and output, and ours.
_ASK = """
import io, json, os, sys
import dnf.cli.main
from fs_rollback.system.machine import host
from fs_rollback.system.packages import dnf4_state
for line in sys.stdin:
    for path, data in map(lambda pair: (pair[0], bytes.fromhex(pair[1])), json.loads(line)):
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)
        if data == b"\\0directory":
            os.mkdir(path)
        elif data == b"\\0dangling":
            os.symlink("/nowhere", path)
        elif data != b"\\0absent":
            with open(path, "wb") as file:
                file.write(data)
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(writable, number)
        code = 1
        try:
            code = dnf.cli.main.main(["-v", "--disablerepo=*", "repolist"])
        except SystemExit as end:
            code = end.code
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with host.opened() as machine:
        state, problem, _ = dnf4_state.look(machine.root_fd)
    print(json.dumps([code, said, state.value, problem]), flush=True)
"""


def test_the_answer_is_what_dnf_does(sandbox: Sandbox) -> None:
    usual = {name: sandbox.path(name).read_bytes() for name in (_PLUGIN_CONF, _DNF_CONF)}
    sandbox.run(["mkdir", "-p", "/opt"])
    asked = "".join(
        json.dumps([(name, data.hex()) for name, data in {**usual, **files}.items()]) + "\n"
        for files, _, _ in _CASES.values()
    )
    answers = sandbox.run(["python3", "-c", _ASK], input=asked).stdout.splitlines()
    for (what, (_, state, said)), line in zip(_CASES.items(), answers):
        code, printed, ours, problem = json.loads(line)
        loaded = next((ln for ln in printed.splitlines() if "Loaded plugins" in ln), "")
        dnf_does = "on" if "fs-snapshot" in loaded else "off"
        assert ("broken" if code else dnf_does) == state, (what, printed)
        assert (ours, said in problem, bool(problem)) == (state, True, state != "on"), what
    assert len(answers) == len(_CASES)


def test_status_and_check_tell_it(sandbox: Sandbox) -> None:
    conf = sandbox.path(_PLUGIN_CONF)
    for data, state, said in (
        (b"[main]\nenabled = 1 # on\n", "broken", "every dnf command fails: "),
        (b"\xef\xbb\xbf[main]\nenabled = 0\n", "off", "is switched off in "),
        (b"[main]\nenabled = 1\n", "on", ""),
    ):
        conf.write_bytes(data)
        status = json.loads(sandbox.run(["fs-rollback", "status", "--json"], check=False).stdout)
        assert status["plugin"] == state
        assert any(said in line for line in status["attention"]) == (state != "on") or not said
        links = json.loads(sandbox.run(["fs-rollback", "check", "--json"], check=False).stdout)
        (link,) = (found for found in links["links"] if found["name"] == "plugin")
        assert (link["grade"] == "ok") == (state == "on")
        assert said in link["text"]
        assert not said or f"{_PLUGIN_CONF} line 2" in link["text"]
