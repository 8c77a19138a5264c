"""Fetching a published data set from the Hugging Face hub, when the user asks for it and has accepted its licence."""

import errno
import shutil
from pathlib import Path

from benchmark.data import facts
from benchmark.runtime.errors import InputError, short

HUB = "https://huggingface.co/datasets"
PATTERNS = ["*.parquet", "README.md"]
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def fetch(name: str, root: Path, accept: str | None) -> None:
    """Download a data set into `root`, after its licence has been printed; what is there already is not fetched again.

    Args:
        name: registered name of the data set. accept: the id of the licence, which is the user's consent to it.

    Raises:
        InputError: no such data on the hub, a licence that is not accepted, no network, or a folder that cannot be
            written. Nothing is downloaded then.
    """
    known = facts.of(name) if name in facts.names() else None
    if known is None:
        raise InputError(f"Nothing is known of where to get '{name}': say where your data lie with DATA_ROOT=<folder>.")
    if not known.hub:
        raise InputError(f"{known.title}{_size(known)} is not on the Hugging Face hub: {_by_hand(known, root)}.")
    print(f"{known.title}: {known.citation}")
    print(f"licence: {known.licence_name or known.licence} ({known.licence}); {known.home}")
    print(f"from: {HUB}/{known.hub}{_size(known)}; into: {root}")
    if accept != known.licence:
        state = f"ACCEPT={short(accept)}" if accept else "no ACCEPT"
        raise InputError(
            f"{known.title} is downloaded once its licence is accepted, found {state}: read it and, if you agree, "
            f"repeat with ACCEPT={known.licence} (make prepare DATASET={name} DOWNLOAD=1 ACCEPT={known.licence})."
        )
    _download(known, root)


def _download(known: facts.Facts, root: Path) -> None:
    new = not root.exists()
    try:
        from huggingface_hub import snapshot_download

        snapshot_download(known.hub, repo_type="dataset", local_dir=str(root), allow_patterns=PATTERNS)
    except Exception as error:  # no network, no permission, no such file: each has its own class
        if new and root.is_dir() and not any(path.is_file() for path in root.rglob("*.parquet")):
            shutil.rmtree(root)
        if isinstance(error, OSError) and error.errno in _DISK:
            raise InputError(
                f"Writing the download of {known.title} into '{root}' failed ({error.strerror}): free some space or "
                "choose another folder with DATA_ROOT, then repeat the command, which goes on."
            ) from error
        reason = " ".join((str(error) or type(error).__name__).split("\n")[0].split())
        raise InputError(
            f"{known.title} cannot be had from the Hugging Face hub ({short(reason, 160)}): where there is a network, "
            f"repeat the command, or fetch the Parquet files of {HUB}/{known.hub}{_size(known)} by hand into '{root}', "
            f"or {_by_hand(known, root)}."
        ) from None


def _by_hand(known: facts.Facts, root: Path) -> str:
    """Where the published files are, and where they belong."""
    return f"get the published files from {known.home} (licence: {known.licence_name}) and put them into '{root}'"


def _size(known: facts.Facts) -> str:
    """How large it is: its megabytes, or where these are not known its images."""
    if known.size_mb:
        return f" ({known.size_mb} MB)"
    return f" ({sum(known.images.values())} images)" if known.images else ""
