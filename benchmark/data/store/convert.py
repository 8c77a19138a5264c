"""Writing a raw fold into the layout of `benchmark.data.store.fold`, resumable after a kill."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Sample
from benchmark.data.source import Source
from benchmark.data.store.fold import CachedFold, content_hash, starts_of
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic, sweep, write_json

VERSION = 1
CHUNK = 64
CHUNK_WHOLE = 8  # of images that may differ in size: whole fields, of megapixels each


class WriteError(InputError):
    """Writing failed; what was written before may be used again."""


def convert(source: Source, fold: int, folder: Path, identity: dict, report: Callable[[int, int], None]) -> CachedFold:
    """Convert a raw fold into `folder`, going on where an earlier call was interrupted.

    Args:
        folder: final place; `<folder>.partial` is used meanwhile. The caller holds its lock.
        identity: recorded in meta.json.
        report: called with (images done, images in all) after each chunk.

    Raises:
        InputError: the source's data are bad (nothing is kept), or writing failed (whole chunks are kept).
    """
    partial = folder.with_name(folder.name + ".partial")
    n, size = source.count(fold), CHUNK_WHOLE if source.varies else CHUNK
    if n == 0:
        raise InputError(f"Fold {fold} of dataset '{source.name}' holds no images; expected at least one.")
    with writing(partial):
        (partial / "chunks").mkdir(parents=True, exist_ok=True)
    done = -(-n // size) if (partial / "meta.json").exists() else 0
    while done * size < n and _journal(partial, done).exists():
        done += 1
    report(min(done * size, n), n)
    samples = source.samples(fold, done * size) if done * size < n else iter(())
    try:
        for chunk in range(done, -(-n // size)):
            batch = list(islice(samples, min(size, n - chunk * size)))
            if len(batch) < min(size, n - chunk * size):
                raise InputError(
                    f"Fold {fold} of '{source.name}' ended after {chunk * size + len(batch)} of {n} images; its "
                    "files changed meanwhile, or `count` and `samples` disagree: repeat the command."
                )
            shape = None if source.varies else _shape(partial, batch)
            _check(batch, shape, source, fold)
            with writing(partial):
                _append(partial, chunk, n, batch, shape)
            report(min((chunk + 1) * size, n), n)
    except WriteError:
        raise
    except InputError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        if hasattr(samples, "close"):
            samples.close()
    with writing(partial):
        _finish(partial, n, fold, source, identity)
        shutil.rmtree(partial / "chunks", ignore_errors=True)
        sweep(partial)
        os.replace(partial, folder)
    return CachedFold(folder)


@contextlib.contextmanager
def writing(path: Path):
    """Turns a failed write into one sentence; the chunks written before it stay and are used again."""
    try:
        yield
    except OSError as error:
        advice = (
            "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable or choose another"
        )
        raise WriteError(
            f"Writing the prepared data at '{path}' failed ({error.strerror or error}): expected a "
            f"folder with room to write; {advice}, then repeat the command, which goes on after the "
            "last whole chunk."
        ) from error


def _journal(partial: Path, chunk: int) -> Path:
    return partial / "chunks" / f"{chunk:06d}.npz"


def _shape(partial: Path, batch: list[Sample]) -> tuple[int, int]:
    """Height and width of the fold: those of its first image."""
    if not _journal(partial, 0).exists():
        return batch[0].image.shape[:2]
    with np.load(_journal(partial, 0), allow_pickle=False) as journal:
        return journal["type_maps"].shape[1:]


def _check(batch: list[Sample], of_fold: tuple[int, int] | None, source: Source, fold: int) -> None:
    for sample in batch:
        nuclei = sample.nuclei
        shape = of_fold or nuclei.instances.shape
        title = f"Image '{nuclei.image_id}' of fold {fold} of '{source.name}'"
        if sample.image.shape != (*shape, 3) or nuclei.instances.shape != shape:
            raise InputError(
                f"{title}: expected image and labels of {shape[0]}x{shape[1]} as the first image has, found "
                f"{sample.image.shape[:2]} and {nuclei.instances.shape}; cut all images to one size."
            )
        if nuclei.types.max(initial=0) > len(source.classes):
            raise InputError(
                f"{title}: expected types 0..{len(source.classes)}, found {nuclei.types.max()}; name all classes."
            )
        most = np.iinfo(_dtype(of_fold)).max
        if len(nuclei) > most:
            raise InputError(
                f"{title}: expected at most {most} nuclei, found {len(nuclei)}; cut the image into smaller ones."
            )


def _dtype(shape: tuple[int, int] | None):
    # uint16 can overflow only where almost every pixel is a nucleus of its own.
    return np.uint16 if shape and shape[0] * shape[1] <= 1 << 16 else np.int32


def _append(partial: Path, chunk: int, n: int, batch: list[Sample], shape: tuple[int, int] | None) -> None:
    """Write a chunk: stacks of images of one shape, or, where `shape` is None, the pixels of one after the other."""
    nuclei = [s.nuclei for s in batch]
    mixed = [i for i, one in enumerate(nuclei) if one.type_map is not None]
    images, maps = [s.image for s in batch], [nuclei[i].type_map for i in mixed]
    instances = _joined([one.instances for one in nuclei], shape).astype(_dtype(shape))
    # images before this chunk, or their pixels
    first = chunk * CHUNK if shape else int(starts_of(_shapes(partial, chunk))[-1])
    _write_rows(partial / "images.npy", first if shape else 3 * first, n if shape else 0, _joined(images, shape))
    _write_rows(partial / "instances.npy", first, n if shape else 0, instances)
    own = {} if shape else {"shapes": np.array([one.instances.shape for one in nuclei], np.int32)}
    if any(one.ignore is not None for one in nuclei):
        none = [np.zeros(one.instances.shape, bool) for one in nuclei]
        own["ignore"] = _joined(
            [blank if one.ignore is None else one.ignore for one, blank in zip(nuclei, none)], shape
        )
    names = {
        "tissues": [one.tissue for one in nuclei],
        "image_ids": [one.image_id for one in nuclei],
        "sources": [one.source for one in nuclei],
        "mpp": nuclei[0].mpp,
    }
    with atomic(_journal(partial, chunk)) as stream:
        np.savez_compressed(
            stream,
            types=np.concatenate([one.types for one in nuclei]).astype(np.uint8),
            lengths=np.array([len(one) for one in nuclei], np.int64),
            typed=np.array([one.typed for one in nuclei], bool),
            mixed=np.array(mixed, np.int64) + chunk * (CHUNK if shape else CHUNK_WHOLE),
            type_maps=_joined(maps, shape) if maps else np.zeros((0, *(shape or ())), np.uint8),
            names=np.frombuffer(json.dumps(names).encode(), np.uint8),
            **own,
        )


def _joined(arrays: list[np.ndarray], shape: tuple[int, int] | None) -> np.ndarray:
    """Arrays of one shape as a stack; without one, the values of all in one dimension."""
    return np.stack(arrays) if shape else np.concatenate([array.ravel() for array in arrays])


def _shapes(partial: Path, chunks: int) -> np.ndarray:
    """int32 (N, 2): shapes of the images of the first chunks, as their journals have them."""
    shapes = [np.zeros((0, 2), np.int32)]
    for chunk in range(chunks):
        with np.load(_journal(partial, chunk), allow_pickle=False) as journal:
            shapes.append(journal["shapes"])
    return np.concatenate(shapes)


def _write_rows(path: Path, start: int, n: int, rows: np.ndarray) -> None:
    """Write rows at their place in an .npy of n rows, dropping what a killed process left behind them.

    n: 0 where it is not known yet; `_set_length` then says it.
    """
    header = _header(rows.dtype, (n, *rows.shape[1:]))
    with open(path, "r+b" if start else "wb") as stream:
        if start:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_1_0(stream)
        else:
            np.lib.format.write_array_header_1_0(stream, header)
        stream.seek(stream.tell() + start * rows[0].nbytes)
        stream.truncate()
        stream.write(memoryview(np.ascontiguousarray(rows)).cast("B"))
        stream.flush()
        os.fsync(stream.fileno())


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> dict:
    return {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}


def _set_length(path: Path, n: int, dtype) -> None:
    """Say in the header of a one-dimensional .npy how many values it has; numpy leaves room for any number."""
    with open(path, "r+b") as stream:
        np.lib.format.write_array_header_1_0(stream, _header(np.dtype(dtype), (n,)))


def _finish(partial: Path, n: int, fold: int, source: Source, identity: dict) -> None:
    if (partial / "meta.json").exists():
        return
    names: dict[str, list] = {"tissues": [], "image_ids": [], "sources": []}
    types, lengths, typed, mixed, type_maps = [], [], [], [], []
    chunks = -(-n // (CHUNK_WHOLE if source.varies else CHUNK))
    for chunk in range(chunks):
        with np.load(_journal(partial, chunk), allow_pickle=False) as journal:
            words = json.loads(journal["names"].tobytes())
            for key in names:
                names[key] += words[key]
            types.append(journal["types"])
            lengths.append(journal["lengths"])
            typed += journal["typed"].tolist()
            mixed += journal["mixed"].tolist()
            type_maps.append(journal["type_maps"])
    arrays = {
        "types": np.concatenate(types),
        "offsets": np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
    }
    if mixed:
        arrays["type_maps"] = np.concatenate(type_maps)
    if source.varies:
        arrays["shapes"] = _shapes(partial, chunks)
        pixels = int(starts_of(arrays["shapes"])[-1])
        _set_length(partial / "images.npy", 3 * pixels, np.uint8)
        _set_length(partial / "instances.npy", pixels, _dtype(None))
    if ignored := _ignored(partial, chunks):
        arrays["ignore"] = np.concatenate(ignored)
    for name, array in arrays.items():
        with atomic(partial / f"{name}.npy") as stream:
            np.save(stream, array, allow_pickle=False)
    files = sorted(["images.npy", "instances.npy", *(f"{name}.npy" for name in arrays)])
    meta = names | {"typed": typed, "type_map_images": mixed, "n": n, "mpp": words["mpp"], "fold": fold}
    hashes = {name: _hash(partial / name) for name in files}
    content = content_hash(meta | {"hashes": hashes})
    sizes = {name: (partial / name).stat().st_size for name in files}
    origin = {"version": VERSION, "dataset": source.name, "identity": identity}
    write_json(partial / "meta.json", meta | origin | {"sizes": sizes, "hashes": hashes, "content": content})


def _ignored(partial: Path, chunks: int) -> list[np.ndarray]:
    """Ambiguous regions of each chunk's images as they are joined; nothing where no image of the fold has any."""
    regions: list[np.ndarray | None] = []
    for chunk in range(chunks):
        with np.load(_journal(partial, chunk), allow_pickle=False) as journal:
            regions.append(journal["ignore"] if "ignore" in journal else None)
    if all(region is None for region in regions):
        return []
    blank = []
    instances = np.load(partial / "instances.npy", mmap_mode="r", allow_pickle=False)
    starts = starts_of(_shapes(partial, chunks)) if instances.ndim == 1 else np.arange(len(instances) + 1)
    size = CHUNK_WHOLE if instances.ndim == 1 else CHUNK
    for chunk, region in enumerate(regions):
        first, last = (starts[min(k * size, len(starts) - 1)] for k in (chunk, chunk + 1))
        blank.append(np.zeros(instances[first:last].shape, bool) if region is None else region)
    return blank


def _hash(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
