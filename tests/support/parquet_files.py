"""Small Parquet files in the two schemas in which mirrors on the Hugging Face hub publish nuclei data sets."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmark.data.sources.pannuke import merge

CLASSES = ["Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial"]
TISSUES = [
    "Adrenal Gland", "Bile Duct", "Bladder", "Breast", "Cervix", "Colon", "Esophagus", "Head & Neck", "Kidney",
    "Liver", "Lung", "Ovarian", "Pancreatic", "Prostate", "Skin", "Stomach", "Testis", "Thyroid", "Uterus",
]  # fmt: skip
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(array: np.ndarray) -> bytes:
    """A PNG of an array: bool as 1 bit, uint8 (H, W) or (H, W, 3), uint16."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def picture(array: np.ndarray) -> dict:
    """A picture as the library `datasets` writes it."""
    return {"bytes": png(array), "path": None}


def features(**names) -> dict[bytes, bytes]:
    """Metadata of a schema with the names of columns' numbers; categories are lists."""
    label = {name: {"names": words, "_type": "ClassLabel"} for name, words in names.items()}
    if "categories" in label:
        label["categories"] = {"feature": label["categories"], "_type": "Sequence"}
    return {b"huggingface": json.dumps({"info": {"features": label}}).encode()}


def write(path: Path, columns: dict, schema: dict, metadata: dict | None = None, group: int = 2) -> Path:
    """Write a file of row groups of `group` rows. columns: name -> values. schema: name -> type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns, schema=pa.schema(list(schema.items()), metadata=metadata))
    pq.write_table(table, path, row_group_size=group)
    return path


def masks_of(channels: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """Masks bool (H, W) and their categories, of PanNuke's channels (H, W, 5); those of the last channel come first."""
    pairs = [
        (channels[..., c] == i, c) for c in reversed(range(channels.shape[2])) for i in np.unique(channels[..., c]) if i
    ]
    return [mask for mask, _ in pairs], [category for _, category in pairs]


def as_masks(path: Path, images, channels, tissues, named: bool = True, plain: bool = False, **more) -> Path:
    """image, instances, categories, tissue, as `RationAI/PanNuke` has them.

    Args:
        images: uint8 (N, H, W, 3). channels: (N, H, W, 5) ids. tissues: N numbers.
        named: whether the metadata say what the numbers are. plain: pictures as bytes, not in a struct.
        more: further columns of text.
    """
    kind = pa.binary() if plain else PICTURE
    one = png if plain else picture
    masks = [masks_of(each) for each in channels]
    columns = {
        "image": [one(image) for image in images],
        "instances": [[one(mask) for mask in each] for each, _ in masks],
        "categories": [categories for _, categories in masks],
        "tissue": tissues,
    }
    schema = {"image": kind, "instances": pa.list_(kind), "categories": pa.list_(pa.int64()), "tissue": pa.int64()}
    metadata = features(categories=CLASSES, tissue=TISSUES) if named else None
    return write(path, columns | more, schema | dict.fromkeys(more, pa.string()), metadata)


def as_maps(path: Path, images, channels, tissues, folds) -> Path:
    """id, image, inst, type, fold, tissue, as `csmp-hub/pannuke` has them. tissues: N names; folds: N numbers."""
    nuclei = [merge(each.astype(np.int64), 0.25) for each in channels]
    count: dict[int, int] = {}
    ids = []
    for fold in folds:
        ids.append(f"fold{fold}_{count.setdefault(fold, 0):05d}")
        count[fold] += 1
    columns = {
        "id": ids,
        "image": [png(image) for image in images],
        "inst": [png(each.instances.astype(np.uint16)) for each in nuclei],
        "type": [png(each.pixel_types().astype(np.uint8)) for each in nuclei],
        "fold": folds,
        "tissue": tissues,
    }
    kinds = [pa.string(), pa.binary(), pa.binary(), pa.binary(), pa.int64(), pa.string()]
    return write(path, columns, dict(zip(columns, kinds)))
