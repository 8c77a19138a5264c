"""Whether locks of files hold in a folder: on a shared file system without them two machines would run one cell."""

import subprocess
import sys
from pathlib import Path

import filelock

from benchmark.runtime.errors import InputError

MOUNTS = Path("/proc/mounts")
_TRY = """
import filelock, sys
try:
    filelock.FileLock(sys.argv[1]).acquire(timeout=0)
except filelock.Timeout:
    sys.exit(3)
"""


def check_locks(folder: Path) -> None:
    """Refuse a folder in which a lock of one process does not stop another, as far as one machine can tell.

    Raises:
        InputError: locks are refused, have no effect, or hold on one machine alone, as its mount options say.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    advice = "mount it with locks (NFS without nolock and local_lock, Lustre with flock), or choose another folder"
    if option := _local_only(folder):
        raise InputError(f"{folder}: locks hold on one machine alone there (mounted with {option}); {advice}.")
    path = folder / ".lock-check"
    try:
        with filelock.FileLock(path):
            other = subprocess.run([sys.executable, "-c", _TRY, str(path)], capture_output=True)
    except (OSError, NotImplementedError) as error:
        raise InputError(f"{folder}: the file system refuses to lock files ({error}); {advice}.") from error
    finally:
        path.unlink(missing_ok=True)
    if other.returncode not in (0, 3):
        reason = (other.stderr.decode(errors="replace").strip().splitlines() or ["no reason"])[-1][:200]
        raise InputError(f"{folder}: whether locks hold there could not be tried ({reason}).")
    if other.returncode != 3:
        raise InputError(f"{folder}: a file that one process has locked was locked by another too; {advice}.")


def _local_only(folder: Path) -> str:
    """The mount option, or kind, that keeps locks of a network file system on this machine, "" for none."""
    try:
        lines = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    parents = {str(parent) for parent in (folder.resolve(), *folder.resolve().parents)}
    mounts = [(words[1].replace("\\040", " "), words[2], words[3].split(",")) for words in lines if len(words) > 3]
    inside = [mount for mount in mounts if mount[0] in parents]
    if not inside:
        return ""
    _, kind, options = max(reversed(inside), key=lambda mount: len(mount[0]))  # of those at one path the last one
    if kind == "fuse.sshfs":
        return kind
    local = {"nolock", "local_lock=all", "local_lock=flock", "localflock", "nobrl"}
    shared = kind.startswith(("nfs", "lustre", "cifs", "smb"))
    return next((option for option in options if option in local), "") if shared else ""
