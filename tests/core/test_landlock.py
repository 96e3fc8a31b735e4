"""What is asked of each ABI of Landlock, and which rights a profile becomes."""

import struct

import pytest

from ytmp3.converter.sandbox.landlock import file_rules, rights_of, ruleset_attributes
from ytmp3.converter.sandbox.protocol import Profile, Protections
from ytmp3.converter.sandbox.report import report_of


@pytest.mark.parametrize(
    ("abi", "rights", "size"), [(1, 13, 8), (2, 14, 8), (3, 15, 8), (4, 15, 16), (5, 16, 16), (6, 16, 24), (7, 16, 24)]
)
def test_a_kernel_is_asked_for_all_that_it_knows_and_for_nothing_else(abi: int, rights: int, size: int) -> None:
    assert rights_of(abi) == (1 << rights) - 1
    attributes = ruleset_attributes(abi)
    assert len(attributes) == size
    assert struct.unpack(f"{size // 8}Q", attributes) == ((1 << rights) - 1, 0b11, 0b11)[: size // 8]


def test_a_profile_becomes_rules_for_its_paths_only() -> None:
    profile = Profile(programs=("/ffmpeg",), readable=("/lib",), writable=("/scratch",), devices=("/dev/null",))
    rules = dict(file_rules(profile))
    assert list(rules) == ["/ffmpeg", "/lib", "/scratch", "/dev/null"]
    executes = {path for path, rights in rules.items() if rights & 1}
    writes = {path for path, rights in rules.items() if rights & 2}
    creates = {path for path, rights in rules.items() if rights & (1 << 8)}
    makes_links_or_devices = {path for path, rights in rules.items() if rights & 0b1_1110_0100_0000 & ~(1 << 8)}
    assert (executes, writes, creates) == ({"/ffmpeg"}, {"/scratch", "/dev/null"}, {"/scratch"})
    assert not makes_links_or_devices
    assert list(file_rules(Profile())) == []


def test_what_is_missing_is_told_apart_from_what_only_a_newer_kernel_has() -> None:
    complete = report_of(Protections(landlock_abi=7, has_seccomp=True), ffmpeg_is_script=False)
    assert complete.text == "files by Landlock (ABI 7), system calls by seccomp"
    older = report_of(Protections(landlock_abi=3, has_seccomp=True), ffmpeg_is_script=False)
    assert (older.missing, len(older.notes)) == ((), 1)
    mounts = report_of(Protections(has_mount_namespaces=True, has_seccomp=True), ffmpeg_is_script=False)
    assert mounts.text.startswith("files by mount namespaces, system calls by seccomp; TCP ports")
    nothing = report_of(Protections(), ffmpeg_is_script=True)
    assert len(nothing.missing) == 3
    assert nothing.text.startswith("no sandbox; MISSING: this system has no Landlock")
