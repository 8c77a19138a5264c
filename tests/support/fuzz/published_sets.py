"""Files of published data sets in their owners' layouts, prepared into an empty cache; class maps of such a set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from benchmark.data.sources import class_map
from tests.support import annotated_files, field_files, parquet_files, tiny_data
from tests.support.fuzz import again, damage
from tests.support.fuzz.damage import BYTES
from tests.support.fuzz.subject import Subject, anew, command

LINES, CHUNKS = (damage.text_lines,) * 12, (damage.png_chunk,) * 8
ELEMENTS, CELLS = (damage.xml_value,) * 16, (damage.parquet_cell,) * 16


def subjects(root: Path) -> list[Subject]:
    """Subjects whose files lie below `root`, a new folder."""
    root.mkdir()
    return [*_fields(root), *_tables(root), *_parquet(root), *_class_maps(root)]


def _prepared(dataset: str, root: Path, cache: Path) -> Callable[[], object]:
    return anew(cache, command("prepare", "--dataset", dataset, "--data-root", root, "--cache", cache))


def _fields(root: Path) -> list[Subject]:
    """CoNSeP, MoNuSeg and MoNuSAC."""
    cache = root / "cache"
    consep = field_files.consep(root / "consep", train=2, test=1, shape=(40, 48))
    monuseg = field_files.monuseg(root / "monuseg", shape=(40, 48))
    monusac = field_files.monusac(root / "monusac")
    (region,) = monusac.rglob("TCGA-2Z-A9JG*.xml")
    mask = monusac / "MoNuSAC ambiguous" / f"{region.stem}_mask.tif"
    mask.parent.mkdir()
    unclear = np.zeros((96, 80), np.uint8)
    unclear[:40, :40] = 255
    tifffile.imwrite(mask, unclear)
    return [
        Subject(kind, path, (*BYTES, *ways), _prepared(dataset, folder, cache), other, cache)
        for kind, dataset, folder, path, ways, other in (
            ("mat", "consep", consep, consep / "Train/Labels/train_1.mat", (), again.mat),
            ("PNG", "consep", consep, consep / "Test/Images/test_1.png", CHUNKS, again.png),
            ("XML", "monuseg", monuseg, next(monuseg.rglob("TCGA-A7-A13E*.xml")), ELEMENTS, again.xml),
            ("XML", "monusac", monusac, region, ELEMENTS, again.xml),
            ("TIFF", "monusac", monusac, mask, (), again.tiff(mask.read_bytes())),
        )
    ]


def _tables(root: Path) -> list[Subject]:
    """Lizard and NuCLS."""
    cache = root / "cache"
    lizard, nucls = annotated_files.lizard(root / "lizard"), annotated_files.nucls(root / "nucls")
    name = annotated_files.NUCLS[0]
    return [
        Subject(kind, path, (*BYTES, *ways), _prepared(dataset, folder, cache), other, cache)
        for kind, dataset, folder, path, ways, other in (
            ("mat", "lizard", lizard, lizard / "Lizard_Labels/Labels/glas_4.mat", (), again.mat),
            ("csv", "lizard", lizard, lizard / "Lizard_Labels/info.csv", LINES, again.csv_text),
            ("csv", "nucls", nucls, nucls / f"QC/csv/{name}.csv", LINES, again.csv_text),
            ("PNG", "nucls", nucls, nucls / f"QC/mask/{name}.png", CHUNKS, again.png),
        )
    ]


def _parquet(root: Path) -> list[Subject]:
    """PanNuke in both schemas, and a set of one's own."""
    cache, out = root / "cache", []
    images, masks_of, _ = tiny_data.fold_arrays(3, side=32)
    channels = masks_of[..., :5]
    masks, maps, own = root / "masks", root / "maps", root / "own"
    for fold in (1, 2, 3):
        parquet_files.as_masks(masks / f"fold{fold}.parquet", images, channels, [3, 5, 7])
    parquet_files.as_maps(maps / "all.parquet", images, channels, ["Breast", "Colon", "Kidney"], [1, 2, 3])
    patients = [f"TCGA-A7-A13{k}-01Z-00-DX1" for k in "ABC"]
    for part in ("train", "test"):
        parquet_files.as_masks(own / f"{part}.parquet", images, channels, [3, 5, 7], plain=True, patient=patients)
    for dataset, folder in (
        ("pannuke", masks),
        ("pannuke", maps),
        ("parquet@mpp=0.25,name=mine", own),
    ):
        path = sorted(folder.iterdir())[0]
        out.append(Subject("parquet", path, (*BYTES, *CELLS), _prepared(dataset, folder, cache), again.parquet, cache))
    return out


def _class_maps(root: Path) -> list[Subject]:
    """A class map of CoNSeP's types."""
    path, cache = root / "mine.toml", root / "cache"
    path.write_bytes((class_map.FOLDER / "consep-4.toml").read_bytes())
    read = _prepared(f"consep@classes={path}", root / "consep", cache)
    return [Subject("TOML", path, (*BYTES, *LINES), read, again.toml, cache)]
