"""Describes which protections of the sandbox this system has and lacks, for `/health` and SANDBOX=required. Pure."""

from msgspec import Struct

from ytmp3.converter.sandbox.landlock import NETWORK_ABI
from ytmp3.converter.sandbox.protocol import Protections


class Report(Struct, frozen=True, kw_only=True):
    """The state of the sandbox."""

    present: str
    """The mechanisms that confine the child processes."""
    missing: tuple[str, ...]
    """What a compromised child process could do here. If there is any, SANDBOX=required prevents the start."""
    notes: tuple[str, ...]
    """What only a newer kernel restricts. This never prevents the start."""

    @property
    def text(self) -> str:
        """The whole report, in one line."""
        missing = (f"MISSING: {'; '.join(self.missing)}",) if self.missing else ()
        return "; ".join((self.present, *missing, *self.notes))


def report_of(protections: Protections, *, ffmpeg_is_script: bool) -> Report:
    """Return what is present and what is missing."""
    present, missing, notes = [], [], []
    if protections.landlock_abi:
        present.append(f"files by Landlock (ABI {protections.landlock_abi})")
    elif protections.has_mount_namespaces:
        present.append("files by mount namespaces")
    else:
        missing.append(
            "this system has no Landlock (Linux 5.13) and refuses mount namespaces, so yt-dlp, deno and ffmpeg could "
            "read and change all files of the service"
        )
    if protections.has_seccomp:
        present.append("system calls by seccomp")
    else:
        missing.append(
            "this kernel has no seccomp filters, so ffmpeg and deno are not kept from the network, and no child "
            "process from signals to the service"
        )
    if ffmpeg_is_script:
        missing.append("FFMPEG_PATH is a script, so it can read all files of the service and start programs")
    if protections.landlock_abi < NETWORK_ABI:
        notes.append("TCP ports are not restricted (needs Landlock's ABI 4, Linux 6.7)")
    return Report(present=", ".join(present) or "no sandbox", missing=tuple(missing), notes=tuple(notes))
