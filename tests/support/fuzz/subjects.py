"""One whole input of every format, the ways to damage it, and what reads it."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import scipy.io
import tifffile
import torch
from PIL import Image

from benchmark.cli import main
from benchmark.formats import type_names
from benchmark.formats.collection import collection
from benchmark.layers import weights_file
from benchmark.results import frames
from benchmark.results.raw_maps import StoredMaps
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import write_json
from benchmark.training import checkpoint
from benchmark.weights.recognise import recognise
from tests.support import foreign_files, tiny_data
from tests.support.fuzz import again, damage, published_sets
from tests.support.fuzz.damage import BYTES
from tests.support.fuzz.subject import Subject, anew, command, in_bytes

TYPES = 'classes = ["Neoplastic", "Inflammatory", "Dead"]\nmpp = 0.25\n[pred]\n1 = "Neoplastic"\n2 = "Dead"\n3 = ""\n'
DATASET = 'classes = ["a", "b"]\nmpp = 0.25\nname = "mine"\ntissue = "Colon"\npatch = 64\nfolds = 3\n'
DATASET += '[files]\ntable = "images.csv"\n'


def of_files(root: Path) -> list[Subject]:
    """Subjects whose files lie below `root`, a new folder; they are whole."""
    return [
        *_labels(root / "score"),
        *_images(root / "predict"),
        *_datasets(root),
        *published_sets.subjects(root / "published"),
        *_weights(root / "weights"),
        *_runs(root),
    ]


def _score(truth: Path, path: Path, types: Path) -> Callable[[], object]:
    """Scores a file; returns the exit code, or where that is 0 what was read of every image."""
    words = ("--types", types, "--protocol", "pannuke", "--vertices", "corners")
    score = command("score", "--true", truth, "--pred", path, *words)

    def read():
        if code := score():
            return code
        images = collection(path, type_names.read(types).pred, "corners").images
        return [(one.instances, one.types) for one in (image.read(foreign_files.SHAPE) for image in images)]

    return read


def _labels(folder: Path) -> list[Subject]:
    """Predictions in every format, scored against a plain truth."""
    folder.mkdir(parents=True)
    truth, types = folder / "truth.npz", folder / "classes.toml"
    instances, kinds = foreign_files.labels()
    np.savez(truth, instances=instances, types=kinds)
    types.write_text(TYPES)
    ids = np.unique(instances)[1:]
    of = [int(kinds[instances == k][0]) for k in ids]
    rings = [foreign_files.corners(instances, k) for k in ids]
    features = [foreign_files.feature([ring], foreign_files.CLASSES[k - 1]) for ring, k in zip(rings, of)]
    nuclei = {
        str(k): {"contour": ring, "type": kind, "bbox": [[1, 2], [3, 4]]} for k, ring, kind in zip(ids, rings, of)
    }
    cells = [{"bbox": [[1, 2], [3, 4]], "centroid": [1.0, 2.0], "contour": r, "type": k} for r, k in zip(rings, of)]
    coord = np.array([[[y for _, y in ring[:4]], [x for x, _ in ring[:4]]] for ring in rings], np.float64)
    stack = np.stack([instances] * 2)
    types_by_id = np.array([[k] for k in of])
    mat = {"inst_map": instances, "inst_type": types_by_id, "inst_uid": ids[:, None]}
    offsets = np.array([0, 3, 6])
    contents = {
        "npy a.npy": in_bytes(lambda f: np.save(f, instances)),
        "npy pair.npy": in_bytes(lambda f: np.save(f, np.stack([instances, kinds], -1))),
        "npz a.npz": in_bytes(lambda f: np.savez(f, instances=instances, types=kinds)),
        "npz packed.npz": in_bytes(
            lambda f: np.savez_compressed(
                f, instances=stack, types=np.array(of * 2), offsets=offsets, names=["a", "b"], mpp=0.25
            )
        ),
        "npz star.npz": in_bytes(lambda f: np.savez(f, coord=coord, prob=np.ones(3), class_id=np.array(of))),
        "mat a.mat": in_bytes(lambda f: scipy.io.savemat(f, mat)),
        "mat z.mat": in_bytes(lambda f: scipy.io.savemat(f, mat, do_compression=True)),
        "PNG a.png": in_bytes(lambda f: Image.fromarray(instances.astype(np.uint16)).save(f, "png")),
        "TIFF a.tif": in_bytes(lambda f: tifffile.imwrite(f, instances.astype(np.uint16))),
        "TIFF z.tif": in_bytes(lambda f: tifffile.imwrite(f, instances.astype(np.uint16), compression="zlib")),
        "TIFF p.tif": in_bytes(
            lambda f: Image.fromarray(instances.astype(np.uint8)).save(f, "tiff", compression="tiff_lzw")
        ),
        "JSON nuc.json": json.dumps({"mag": 40, "nuc": nuclei}).encode(),
        "JSON cells.json": json.dumps({"wsi_metadata": {}, "cells": cells}).encode(),
        "GeoJSON a.geojson": json.dumps({"type": "FeatureCollection", "features": features}).encode(),
        "gzip a.geojson.gz": gzip.compress(json.dumps({"type": "FeatureCollection", "features": features}).encode()),
    }
    dicts = {
        "a_seg.npy": {"masks": instances, "outlines": [[1, 2]], "filename": "a.png"},
        "cellvit.npy": {"inst_map": instances, "type_map": kinds},
    }
    contents |= {f"pickle {name}": in_bytes(lambda f, value=value: np.save(f, value)) for name, value in dicts.items()}
    json_ways = (damage.json_value,) * 12
    npy, png = (damage.npy_header,) * 6, (damage.png_chunk,) * 8
    zipped = (damage.in_zip(damage.flip), damage.in_zip(damage.npy_header), damage.in_zip(damage.truncate)) * 4
    ways = {"npy": npy, "npz": zipped, "PNG": png, "JSON": json_ways, "GeoJSON": json_ways, "pickle": npy[:2]}
    others = {"npy": again.npy, "npz": again.npz, "mat": again.mat, "PNG": again.png}
    others |= {"JSON": again.json_text, "GeoJSON": again.json_text, "gzip": again.gzipped}
    out = []
    for name, content in contents.items():
        kind, file = name.split()
        path, true = folder / kind / file, truth
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        others |= {"TIFF": again.tiff(content)} if kind == "TIFF" else {}
        others |= {"pickle": again.pickled(content, dicts[file])} if kind == "pickle" else {}
        if file == "packed.npz":
            true = folder / "stack.npz"
            np.savez(true, instances=stack, types=np.stack([kinds] * 2), names=["a", "b"])
        out.append(Subject(kind, path, (*BYTES, *ways.get(kind, ())), _score(true, path, types), others[kind]))
    toml = folder / "own.toml"
    toml.write_text(TYPES)
    return [
        *out,
        Subject(
            "TOML",
            toml,
            (*BYTES, *(damage.text_lines,) * 12),
            _score(truth, folder / "npz" / "a.npz", toml),
            again.toml,
        ),
    ]


def _images(folder: Path) -> list[Subject]:
    """Images of one's own, in which `predict` looks for nuclei."""
    folder.mkdir()
    pixels = tiny_data.fold_arrays(1)[0][0]
    contents = {
        "PNG a.png": in_bytes(lambda f: Image.fromarray(pixels).save(f, "png")),
        "TIFF a.tif": in_bytes(lambda f: tifffile.imwrite(f, pixels, photometric="rgb")),
        "TIFF j.tif": in_bytes(lambda f: Image.fromarray(pixels).save(f, "tiff", compression="jpeg")),
        "JPEG a.jpg": in_bytes(lambda f: Image.fromarray(pixels).save(f, "jpeg")),
        "npy a.npy": in_bytes(lambda f: np.save(f, pixels)),
    }
    ways = {"PNG": (damage.png_chunk,) * 8, "npy": (damage.npy_header,) * 6}
    others = {"PNG": again.png, "JPEG": again.jpeg, "npy": again.npy}
    out = []
    for name, content in contents.items():
        kind, file = name.split()
        path, results = folder / file, folder / f"out-{file}"
        path.write_bytes(content)
        others |= {"TIFF": again.tiff(content)} if kind == "TIFF" else {}
        read = anew(results, command("predict", "--method", "classical", "--images", path, "--out", results))
        out.append(Subject(kind, path, (*BYTES, *ways.get(kind, ())), read, others[kind], results))
    return out


def _datasets(root: Path) -> list[Subject]:
    """Files of a data set, prepared into an empty cache."""
    folder, cache = root / "folder", root / "cache"
    rng = np.random.default_rng(0)
    for k in range(6):
        for part, array in (
            ("images", rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)),
            ("labels", foreign_files.labels()[0].astype(np.uint16)),
            ("types", (foreign_files.labels()[1] > 0).astype(np.uint8)),
        ):
            path = folder / part / f"c{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    (folder / "dataset.toml").write_text(DATASET)
    tiny_data.table(
        folder / "images.csv", ["file", "fold", "source"], [(f"c{k}.png", k % 3 + 1, f"s{k}") for k in range(6)]
    )
    read = anew(cache, command("prepare", "--dataset", "folder", "--data-root", folder, "--cache", cache))
    lines = (damage.text_lines,) * 12
    out = [
        Subject("TOML", folder / "dataset.toml", (*BYTES, *lines), read, again.toml, cache),
        Subject("csv", folder / "images.csv", (*BYTES, *lines), read, again.csv_text, cache),
        Subject("PNG", folder / "labels" / "c2.png", (*BYTES, *(damage.png_chunk,) * 8), read, again.png, cache),
    ]
    conic, packed = root / "conic", root / "conic.zip"
    conic.mkdir()
    images, masks, _ = tiny_data.fold_arrays(6, side=32)
    labels = np.stack([masks[..., :5].max(-1), (masks[..., :5] > 0).argmax(-1) + (masks[..., :5].max(-1) > 0)], -1)
    np.save(conic / "images.npy", np.pad(images, ((0, 0), (0, 224), (0, 224), (0, 0)), constant_values=255))
    np.save(conic / "labels.npy", np.pad(labels.astype(np.int32), ((0, 0), (0, 224), (0, 224), (0, 0))))
    (conic / "patch_info.csv").write_text("patch_info\n" + "".join(f"consep_{k}-0000\n" for k in range(6)))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(conic.iterdir()):
            archive.write(file, file.name)
    read = anew(cache, command("prepare", "--dataset", "conic", "--data-root", packed, "--cache", cache))
    inner = (damage.in_zip(damage.npy_header), damage.in_zip(damage.flip), damage.in_zip(damage.truncate))
    out.append(Subject("zip", packed, (*BYTES, *inner * 2), read, again.zipped, cache))
    cellvit, first = root / "pannuke", {}
    for fold in (1, 2, 3):
        for part in ("images", "labels"):
            (cellvit / f"fold{fold}" / part).mkdir(parents=True)
        rows = []
        for k in range(2):
            stem = f"{fold}_{k}"
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
                cellvit / f"fold{fold}/images/{stem}.png"
            )
            value = {
                "inst_map": masks[k, ..., :5].max(-1).astype(np.int32),
                "type_map": labels[k, ..., 1].astype(np.int32),
            }
            np.save(cellvit / f"fold{fold}/labels/{stem}.npy", value)
            first = value if (fold, k) == (1, 0) else first
            rows.append((f"{stem}.png", "Breast"))
        tiny_data.table(cellvit / f"fold{fold}/types.csv", ["img", "type"], rows)
    read = anew(cache, command("prepare", "--dataset", "pannuke", "--data-root", cellvit, "--cache", cache))
    types, labels = cellvit / "fold2" / "types.csv", cellvit / "fold1" / "labels" / "1_0.npy"
    out.append(Subject("csv", types, (*BYTES, *lines), read, again.csv_text, cache))
    other = again.pickled(labels.read_bytes(), first)
    out.append(Subject("pickle", labels, (*BYTES, damage.npy_header), read, other, cache))
    return out


def _weights(folder: Path) -> list[Subject]:
    """Files of weights: recognised, read as an encoder's and as a checkpoint."""
    folder.mkdir()
    state = {"conv0./.weight": torch.ones(64, 3, 7, 7), "decoder.tp.u0.conv.weight": torch.ones(6, 64, 1, 1)}
    state["decoder.np.u3.conva.weight"] = torch.ones(2, 2, 3, 3, dtype=torch.float16)
    plain = {"arch": "CellViT", "config": {"data.num_nuclei_classes": 6, "logdir": "/log"}, "model_state_dict": state}
    place = {"place": {"epoch": 1}, "model": state, "rng": torch.zeros(4, dtype=torch.uint8)}
    former = {"_use_new_zipfile_serialization": False}
    contents = {
        "published.pth": (in_bytes(lambda f: torch.save(plain, f)), recognise),
        "old.pth": (
            in_bytes(lambda f: torch.save({"desc": state}, f, **former)),
            recognise,
        ),
        "encoder.pth": (in_bytes(lambda f: torch.save({"teacher": state}, f)), weights_file.read_file),
        "last.pth": (in_bytes(lambda f: torch.save(place, f)), checkpoint.load),
        "own.safetensors": (safetensors.torch.save(state), recognise),
        "encoder.safetensors": (safetensors.torch.save(state), weights_file.read_file),
    }
    pickled = (damage.in_zip(damage.flip), damage.in_zip(damage.extreme), damage.in_zip(damage.splice)) * 3
    out = []
    for name, (content, reader) in contents.items():
        path = folder / name
        path.write_bytes(content)
        kind = path.suffix[1:]
        ways = (damage.safetensors_header,) * 8 if kind == "safetensors" else () if name == "old.pth" else pickled
        other = again.old_pth if name == "old.pth" else {"pth": again.zipped, "safetensors": again.safetensors}[kind]
        out.append(Subject(kind, path, (*BYTES, *ways), lambda reader=reader, path=path: reader(path), other))
    words = ("predict", "--weights", folder / "published.pth", "--images", folder / "none.png", "--out", folder / "out")
    return [*out, Subject("pth", folder / "published.pth", (*BYTES, *pickled), command(*words), again.zipped)]


def _runs(root: Path) -> list[Subject]:
    """Files of a finished run, looked at by the commands that show runs."""
    results, cache = root / "results", root / "run-cache"
    grid = ("--dataset", tiny_data.TINY, "--preset", "debug", "--results", results, "--cache", cache)
    if main([str(word) for word in ("run", "--method", "classical", "--fold", 1, "--device", "cpu", *grid)]):
        raise RuntimeError("the run that is to be damaged failed")
    (run,) = [path.parent for path in results.rglob("metrics.json")]
    table = command("table", "--results", results, "--reports", root / "reports", "--dataset", tiny_data.TINY)
    status = command("status", "--methods", "classical", "--folds", 1, "--seeds", 0, *grid)
    sheet = command(
        *("contact-sheet", "--dataset", tiny_data.TINY, "--cache", cache, "--count", 1),
        *("--run", run, "--out", root / "sheet.png"),
    )
    values = (damage.json_value,) * 12
    out = [
        Subject("run", run / f"{name}.json", (*BYTES, *values), read, None)
        for name in ("config", "metrics", "provenance", "cost")
        for read in (table, status, lambda: frames.load(run))
        if (run / f"{name}.json").exists()
    ]
    out.append(Subject("run", run / "provenance.json", (*BYTES, *values), sheet, None, root / "sheet.png"))
    npz = (damage.in_zip(damage.npy_header), damage.in_zip(damage.flip), damage.in_zip(damage.truncate)) * 3
    out.append(Subject("run", RunFolder(run).predictions, (*BYTES, *npz), sheet, None, root / "sheet.png"))
    columns = (damage.parquet_column,) * 8
    for path in sorted(run.rglob("*.parquet")):
        out.append(Subject("parquet", path, (*BYTES, *columns), lambda: frames.load(results), None))
        out.append(Subject("parquet", path, (*BYTES, *columns), table, None))
    kept = root / "kept"
    kept.mkdir()
    write_json(kept / "config.json", {})
    np.savez(kept / "maps-0.npz", **{f"{name}/{k}": np.ones((2, 8, 8), np.float16) for name in "ab" for k in range(2)})
    (path,) = RunFolder(kept).all_raw_maps
    maps = lambda: [StoredMaps(RunFolder(kept)).read(k) for k in range(2)]  # noqa: E731
    out.append(Subject("npz", path, (*BYTES, *npz), maps, again.npz))
    return out
