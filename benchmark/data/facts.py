"""What is known of the published data sets: one TOML file each in the folder `facts` beside this module.

    title = "CoNSeP"
    licence = "research-use"           # its id, such as cc-by-nc-sa-4.0
    home = "https://…"                 # where to get it
    licence_name = "research use only" # in words
    images = {train = 27, test = 14}   # of each published part
    nuclei = 24319                     # as published
    types = 7                          # 0: none
    splits = "train / test"
    mpp = 0.25
    citation = "Graham et al. 2019, …"
    size_mb = 200                      # of the download
    hub = "owner/name"                 # on the Hugging Face hub

The first three are needed. A reader counts what it finds; these are figures to compare with.
"""

from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from benchmark.data.files import text
from benchmark.runtime.errors import InputError

FOLDER = Path(__file__).with_name("facts")


@dataclass(frozen=True)
class Facts:
    """See the module; what a file does not say is None or empty."""

    title: str
    licence: str
    home: str
    licence_name: str = ""
    images: dict[str, int] = field(default_factory=dict)
    nuclei: int | None = None
    types: int | None = None
    splits: str = ""
    mpp: float | None = None
    citation: str = ""
    size_mb: int | None = None
    hub: str = ""


def names() -> list[str]:
    """Data sets of which facts are known, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def of(name: str) -> Facts:
    """The facts of a registered data set.

    Raises:
        InputError: there are none, or their file lacks a key or has an unknown one.
    """
    path = FOLDER / f"{name}.toml"
    content = text.toml(path)
    known = [entry.name for entry in fields(Facts)]
    for key in (*(key for key in content if key not in known), *(key for key in known[:3] if not content.get(key))):
        raise InputError(f"{path}: expected {', '.join(known[:3])} and any of {', '.join(known[3:])}; see to '{key}'.")
    return Facts(**content)
