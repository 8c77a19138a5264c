"""Preparation: resumable, exact, locked, instant the second time, and clear about whatever is wrong."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from benchmark.data.nuclei import Sample
from benchmark.data.sources.by_source import deal
from benchmark.data.sources.pannuke import PanNuke
from benchmark.data.store import convert
from benchmark.data.store import fold as cache
from benchmark.data.store.patches import starts
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.tiny_data import Drawn

KILLED = """
import sys
from benchmark.data.store.prepare import prepare
from tests.support.tiny_data import Drawn
prepare(Drawn(200, pause=0.01), sys.argv[1], progress=False)
"""


def test_round_trip(tmp_path):
    data = prepare(Drawn(130), tmp_path, progress=False)
    fold = data.folds[1]
    for i, sample in enumerate(Drawn(130).samples(1)):
        found = fold[i]
        assert np.array_equal(found.image, sample.image) and found.image.flags.writeable
        for key in ("instances", "types"):
            value, expected = getattr(found.nuclei, key), getattr(sample.nuclei, key)
            assert np.array_equal(value, expected) and value.dtype == expected.dtype
        for key in ("mpp", "tissue", "image_id", "source", "typed", "scores"):
            assert getattr(found.nuclei, key) == getattr(sample.nuclei, key)
        assert (found.nuclei.type_map is None) == (sample.nuclei.type_map is None)
        assert np.array_equal(found.nuclei.pixel_types(), sample.nuclei.pixel_types())
    assert fold.meta["type_map_images"] == [3, 53, 103]
    assert fold._images.dtype == np.uint8 and fold._instances.dtype == np.uint16
    assert isinstance(fold._images, np.memmap)


def test_subset_is_a_sequence_and_can_be_pickled(tmp_path):
    train = prepare(Drawn(130), tmp_path, progress=False).subset(1, "train")
    assert len(train) == 44 and train[-1].nuclei.image_id == "i129" == train[np.int64(43)].nuclei.image_id
    assert [s.nuclei.image_id for s in train] == train.image_ids
    assert train.counts.shape == (44, 2) and train.counts.dtype.kind == "i"
    counted = [np.bincount(s.nuclei.types, minlength=3)[1:].tolist() for s in train]
    assert train.counts.tolist() == counted
    with pytest.raises(IndexError):
        train[44]
    _ = train[0], train.counts
    blob = pickle.dumps(train)
    assert len(blob) < 50_000, "a worker must not receive the data themselves"
    again = pickle.loads(blob)
    assert np.array_equal(again[7].image, train[7].image)


def test_interrupted_goes_on_and_gives_identical_bytes(tmp_path):
    prepare(Drawn(200), tmp_path / "whole", progress=False)
    for stop in (3, 64, 150):
        with pytest.raises(KeyboardInterrupt):
            prepare(Drawn(200, stop), tmp_path / "broken", progress=False)
        assert not list((tmp_path / "broken").glob("*/meta.json"))
    last = Drawn(200)
    prepare(last, tmp_path / "broken", progress=False)
    assert last.drawn[0] == 128, "whole chunks are not drawn again"
    assert tiny_data.file_bytes(tmp_path / "whole") == tiny_data.file_bytes(tmp_path / "broken")


def test_killed_goes_on_and_gives_identical_bytes(tmp_path):
    prepare(Drawn(200), tmp_path / "whole", progress=False)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "broken")])
    end = time.monotonic() + 60
    while not list((tmp_path / "broken").glob("*.partial/chunks/000001.npz")) and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # What a kill in the midst of a write leaves behind its last whole chunk.
    partial = next((tmp_path / "broken").glob("*.partial"))
    with open(partial / "images.npy", "ab") as stream:
        stream.write(b"half a chunk")
    last = Drawn(200)
    prepare(last, tmp_path / "broken", progress=False)
    assert last.drawn[0] >= 128
    assert tiny_data.file_bytes(tmp_path / "whole") == tiny_data.file_bytes(tmp_path / "broken")


def test_second_call_converts_nothing(tmp_path):
    first = prepare(Drawn(70), tmp_path, progress=False)
    again = Drawn(70)
    data = prepare(again, tmp_path, progress=False)
    assert again.drawn == [] and data.fingerprint(1) == first.fingerprint(1)


def test_split_converts_only_what_it_needs(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", n=2)

    class Two(PanNuke):
        def split(self, k, sources):
            split = super().split(k, sources)
            return type(split)(split.train, split.train, split.val)

    assert sorted(prepare(Two(root), tmp_path / "c", split=1, progress=False).folds) == [1, 2]


def test_damaged_cache_is_made_again(tmp_path, capsys):
    prepare(Drawn(20), tmp_path, progress=False)
    whole = tiny_data.file_bytes(tmp_path)
    with open(next(tmp_path.glob("*/instances.npy")), "r+b") as stream:
        stream.truncate(500)
    prepare(Drawn(20), tmp_path, progress=False)
    assert "damaged" in capsys.readouterr().err
    assert tiny_data.file_bytes(tmp_path) == whole
    with pytest.raises(ValueError, match="not a complete"):
        cache.CachedFold(tmp_path)


def test_changed_bytes_are_seen_wherever_data_are_read(tmp_path, capsys):
    prepare(Drawn(20), tmp_path, progress=False)
    whole = tiny_data.file_bytes(tmp_path)
    with open(next(tmp_path.glob("*/images.npy")), "r+b") as stream:
        stream.seek(5000)
        stream.write(bytes([~stream.read(1)[0] & 255]))
    prepare(Drawn(20), tmp_path, progress=False, verify=False)  # as a grid does, whose cells look themselves
    assert tiny_data.file_bytes(tmp_path) != whole
    prepare(Drawn(20), tmp_path, progress=False)
    assert "damaged and is prepared again" in capsys.readouterr().err
    assert tiny_data.file_bytes(tmp_path) == whole
    (folder,) = tmp_path.glob("drawn*")
    fold = cache.CachedFold(folder)
    shutil.rmtree(folder)
    assert fold.damaged(), "no crash where another process is about to prepare it again"


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("mpp", lambda value: 0.65),
        ("image_ids", lambda value: [*value[1:], value[0]]),
        ("tissues", lambda value: ["another", *value[1:]]),
        ("sources", lambda value: ["another", *value[1:]]),
        ("typed", lambda value: [not value[0], *value[1:]]),
    ],
)
def test_a_changed_meta_is_seen_at_once(tmp_path, capsys, key, change):
    """Resolution, ids, tissues and sources decide results as the pixels do; an edited mpp gave the same fingerprint."""
    before = prepare(Drawn(20), tmp_path, progress=False).fingerprint(1)
    whole = tiny_data.file_bytes(tmp_path)
    (path,) = tmp_path.glob("*/meta.json")
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {key: change(meta[key])}))
    with pytest.raises(ValueError, match="its content has another hash"):
        cache.CachedFold(path.parent)
    assert prepare(Drawn(20), tmp_path, progress=False).fingerprint(1) == before
    assert "damaged and is prepared again" in capsys.readouterr().err and tiny_data.file_bytes(tmp_path) == whole


def test_two_processes_share_the_work(tmp_path):
    begin = time.monotonic()
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    others = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in others] == [0, 0]
    prepare(Drawn(200), tmp_path / "alone", progress=False)
    folder = next(p for p in tmp_path.iterdir() if p.name.startswith("drawn"))
    assert tiny_data.file_bytes(folder) == tiny_data.file_bytes(next((tmp_path / "alone").glob("drawn*")))
    assert time.monotonic() - begin < 60


def test_progress_and_remarks_go_to_stderr(tmp_path, capsys):
    prepare(Drawn(100), tmp_path / "a", progress=True)
    said = capsys.readouterr()
    assert said.out == "" and "drawn fold 1: prepared 100/100 images" in said.err
    assert "15 of 100 images are untyped" in said.err and "'Brain' (50)" in said.err
    shared = "sources s0, s1, s10, s11, s12 and 20 more stand on the sides val and test; the split is taken as it is."
    assert shared in said.err, "of every split where none is asked for"
    prepare(Drawn(100), tmp_path / "a", split=1)
    assert shared in capsys.readouterr().err
    prepare(Drawn(100), tmp_path / "a", split=1, remark=False)
    assert capsys.readouterr().err == ""
    prepare(Drawn(100), tmp_path / "b", progress=False)
    assert capsys.readouterr().err == ""


def test_failing_write_is_one_sentence_and_counts_as_nothing(tmp_path, monkeypatch):
    real = convert._write_rows

    def full(path, start, n, rows):
        if start:
            with open(path, "ab") as stream:
                stream.write(b"a little")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, start, n, rows)

    monkeypatch.setattr(convert, "_write_rows", full)
    with pytest.raises(InputError, match=r"failed \(No space left on device\).*free some space"):
        prepare(Drawn(100), tmp_path / "c", progress=False)
    assert not list((tmp_path / "c").glob("*/meta.json"))
    monkeypatch.undo()
    prepare(Drawn(100), tmp_path / "c", progress=False)
    prepare(Drawn(100), tmp_path / "d", progress=False)
    assert tiny_data.file_bytes(tmp_path / "c") == tiny_data.file_bytes(tmp_path / "d")


def test_file_where_the_cache_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="A file stands at"):
        prepare(Drawn(5), tmp_path / "file", progress=False)
    with pytest.raises(InputError, match="Writing the prepared data"):
        prepare(Drawn(5), tmp_path / "file" / "below", progress=False)
    prepare(Drawn(5), tmp_path / "c", progress=False)
    folder = next(p for p in (tmp_path / "c").iterdir() if p.is_dir())
    folder.rename(tmp_path / "elsewhere")
    folder.write_text("x")
    with pytest.raises(InputError, match="A file stands at"):
        prepare(Drawn(5), tmp_path / "c", progress=False)


def test_sources_that_break_their_word(tmp_path):
    class Short(Drawn):
        def count(self, fold):
            return 90

    class Ragged(Drawn):
        def samples(self, fold, start=0):
            for i, sample in enumerate(super().samples(fold, start)):
                image = sample.image[:8] if i == 70 else sample.image
                yield type(sample)(image, sample.nuclei)

    with pytest.raises(InputError, match="ended after 80 of 90"):
        prepare(Short(80), tmp_path, progress=False)
    with pytest.raises(InputError, match=r"'i70'.* expected image and labels of 16x16"):
        prepare(Ragged(80), tmp_path, progress=False)
    with pytest.raises(InputError, match="holds no images"):
        prepare(Drawn(0), tmp_path, progress=False)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == [], "nothing half-written stays"
    with pytest.raises(InputError, match=r"splits \[1\], found FOLD=4"):
        prepare(Drawn(5), tmp_path, split=4, progress=False)
    with pytest.raises(InputError, match="train, val, test, found 'tset'"):
        prepare(Drawn(5), tmp_path, progress=False).subset(1, "tset")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_fold_is_never_held_in_memory(tmp_path, zipped):
    images, masks, tissues = tiny_data.fold_arrays(400, side=64)
    tiny_data.extracted(tmp_path, 1, images.astype(np.float64), masks.astype(np.float64), tissues)
    raw = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    if zipped:
        tiny_data.zip_fold(tmp_path, 1)
    tracemalloc.start()
    prepare(PanNuke(tmp_path), tmp_path / "c", progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raw > 100e6 and peak < 12e6


def test_importable_without_torch():
    code = "import sys; from benchmark.data.store.prepare import Prepared, prepare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_deal_keeps_sources_whole_and_ignores_order():
    rng = np.random.default_rng(0)
    sources = [f"s{i}" for i in range(40) for _ in range(rng.integers(1, 9))]
    parts = deal(sources, [0.7, 0.1, 0.2])
    names = [{sources[i] for i in part} for part in parts]
    assert sorted(np.concatenate(parts)) == list(range(len(sources)))
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert np.allclose([len(p) / len(sources) for p in parts], [0.7, 0.1, 0.2], atol=0.02)
    order = rng.permutation(len(sources))
    again = deal([sources[i] for i in order], [0.7, 0.1, 0.2])
    assert [{sources[order[i]] for i in part} for part in again] == names
    assert all(len(part) == 1 for part in deal(["a", "b", "c"], [0.7, 0.1, 0.2]))
    assert [len(part) for part in deal([], [1, 1])] == [0, 0]


def test_half_written_files_of_a_killed_conversion_are_removed(tmp_path):
    """They went with the folder when it took its final name."""
    prepare(Drawn(20), tmp_path / "whole", progress=False)
    prepare(Drawn(20), tmp_path / "broken", progress=False)
    (folder,) = (tmp_path / "broken").glob("drawn*")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.move(folder, partial)  # as it lies when a process is killed right before the last rename
    (partial / ".offsets.npy.1.tmp").write_bytes(b"x")
    prepare(Drawn(20), tmp_path / "broken", progress=False)
    assert tiny_data.file_bytes(tmp_path / "broken") == tiny_data.file_bytes(tmp_path / "whole")


class OfAnySize(Drawn):
    """Images that differ in size, some with types by pixel and some with ambiguous regions."""

    varies, name = True, "sizes"

    def samples(self, fold, start=0):
        for i, sample in enumerate(super().samples(fold, start), start):
            sides = 5 + i % 7, 16 - i % 5
            nuclei = sample.nuclei.crop(0, 0, *sides)
            if i % 11 == 5:
                nuclei = replace(nuclei, ignore=np.arange(sides[0] * sides[1]).reshape(sides) % (i + 2) == 1)
            yield Sample(sample.image[: sides[0], : sides[1]], nuclei)


def test_images_that_differ_in_size_are_kept_whole(tmp_path):
    fold = prepare(OfAnySize(21), tmp_path, progress=False).folds[1]
    for i, expected in enumerate(OfAnySize(21).samples(1)):
        nuclei, true = fold[i].nuclei, expected.nuclei
        assert fold.shape(i) == true.instances.shape and np.array_equal(fold[i].image, expected.image)
        assert np.array_equal(nuclei.instances, true.instances) and nuclei.instances.dtype == np.int32
        assert np.array_equal(nuclei.pixel_types(), true.pixel_types())
        assert (nuclei.type_map is None) == (true.type_map is None) and (nuclei.ignore is None) == (i % 11 != 5)
        assert true.ignore is None or np.array_equal(nuclei.ignore, true.ignore)
    assert np.load(fold.folder / "images.npy").shape == (3 * sum(h * w for h, w in map(fold.shape, range(21))),)


@pytest.mark.parametrize("stop", [1, 8, 17])
def test_an_interrupted_conversion_of_any_sizes_goes_on_and_gives_identical_bytes(tmp_path, stop):
    with pytest.raises(KeyboardInterrupt):
        prepare(OfAnySize(21, stop=stop), tmp_path / "a", progress=False)
    prepare(OfAnySize(21), tmp_path / "a", progress=False)
    prepare(OfAnySize(21), tmp_path / "b", progress=False)
    assert tiny_data.file_bytes(tmp_path / "a") == tiny_data.file_bytes(tmp_path / "b")


@pytest.mark.parametrize(
    ("length", "side", "expected"), [(1000, 256, [0, 248, 496, 744]), (256, 256, [0]), (90, 256, [0])]
)
def test_patches_cover_an_axis_evenly(length, side, expected):
    assert starts(length, side) == expected
