"""What users' files say otherwise than expected is understood and said, or refused before memory is taken for it."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmark.data.files import archive, checks, names, text
from benchmark.data.sources.conic import CoNIC
from benchmark.data.sources.folder import Folder
from benchmark.data.sources.pannuke import PanNuke
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data


def folder(root, table="", settings="", count=4):
    """A data set of images of 16 x 16 pixels with a nucleus each."""
    labels = np.zeros((16, 16), np.uint8)
    labels[4:9, 4:9] = 1
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (16, 16), (i, 9, 9)).save(root / "images" / f"c{i}.png")
        Image.fromarray(labels).save(root / "labels" / f"c{i}.png")
    (root / "dataset.toml").write_text(f"classes = []\nmpp = 0.25\npatch = 16\n{settings}", encoding="utf-8")
    if table:
        (root / "images.csv").write_text(table, encoding="utf-8")
    return root


def write(path, change):
    np.save(path, change(np.load(path)))


def member(root, name):
    return next((root / "Fold 1").rglob(name))


@pytest.mark.parametrize("high", [1.1, 2.0])
def test_a_float_image_that_is_scaled_is_refused(high):
    image = np.random.default_rng(0).random((8, 8, 3)) * high
    image[0, 0, 0] = high
    with pytest.raises(InputError, match=r"here: expected values in 0\.\.255, found a float image .* by 255"):
        checks.rgb(image, "here")


def test_whole_values_of_a_float_image_are_taken():
    """A dark image of 0, 1 and 2 is no scaled one."""
    image = np.random.default_rng(0).integers(0, 3, (8, 8, 3)).astype(np.float32)
    image[0, 0] = 2
    assert (checks.rgb(image, "here") == image).all()


def test_rounded_images_are_said_once(tmp_path, capsys):
    root = tiny_data.pannuke(tmp_path / "p", dtype=np.float64)
    prepare(PanNuke(root), tmp_path / "cache", progress=False)
    assert not capsys.readouterr().err
    for fold in (1, 2, 3):
        write(next((root / f"Fold {fold}").rglob("images.npy")), lambda x: np.minimum(x + 0.25, 255))
    prepare(PanNuke(root), tmp_path / "cache", split=1, progress=False)
    err = capsys.readouterr().err
    assert err.count("have fractions and are rounded to whole numbers (and 4 more such)") == 3  # a line a fold
    assert "images.npy, image 0: the values of the image" in err


def test_tissues_and_sources_that_differ_by_capitals_are_one(tmp_path, capsys):
    """One patient spelt p1 and P1 stood on both sides of a split."""
    rows = ["c0.png,p1,Colon", "c1.png,P1,colon", "c2.png,e\u0301, COLON ", "c3.png,\u00e9,Lung"]
    source = Folder(folder(tmp_path / "d", "file,source,tissue\n" + "\n".join(rows)))
    assert source.tissues == ("Colon", "Lung")
    samples = [sample.nuclei for sample in source.samples(1)]
    assert [one.tissue for one in samples] == ["Colon", "Colon", "Colon", "Lung"]
    assert [one.source for one in samples] == ["p1", "p1", "\u00e9", "\u00e9"]
    prepare(source, tmp_path / "cache")
    err = capsys.readouterr().err
    assert "folder: tissues that differ by capitals, blanks or form alone are one: 'COLON', 'colon' as 'Colon'." in err
    assert err.count("sources that differ by capitals") == 1 and "'P1' as 'p1'" in err


def test_a_source_in_two_folds_is_one_in_any_spelling(tmp_path):
    rows = ["c0.png,p1,1", "c1.png,P1,2", "c2.png,p2,3", "c3.png,p3,1"]
    with pytest.raises(InputError, match="each source in one fold, found 'p1' in folds 1 and 2"):
        Folder(folder(tmp_path / "d", "file,source,fold\n" + "\n".join(rows))).folds()


def test_names_that_are_spelt_in_one_way_are_left_alone():
    words = ["b", "a", "b", "", "\u00c4"]
    assert names.one_spelling(words) == (words, "")


def test_whole_numbers_of_spreadsheets(tmp_path):
    """A column that a spreadsheet takes for decimal numbers: 1.0 is 1."""
    assert [text.whole(cell) for cell in ("3.0", "3.", "3", "3.00", "3.5", "", ".0", "x", "-1.0")] == [
        *(3, 3, 3, 3),
        *(None, None, None, None, None),
    ]
    rows = "".join(f"c{i}.png,{fold}\n" for i, fold in enumerate(("1.0", "2.0", "3.0", "1")))
    assert Folder(folder(tmp_path / "d", "file,fold\n" + rows)).folds() == [1, 2, 3]
    root = tiny_data.pannuke(tmp_path / "p", n=3)
    origin = [(f"{i}.0", f"s{i}", "4-class") for i in (2, 0, 1)]
    tiny_data.table(root / "provenance_fold1.csv", ["index", "source_image", "types_real"], origin)
    assert [sample.nuclei.source for sample in PanNuke(root).samples(1)] == ["s0", "s1", "s2"]


def test_paths_of_windows_in_dataset_toml(tmp_path):
    root = folder(tmp_path / "d", settings='[files]\nimages = ".\\\\sub\\\\pictures"\nlabels = "labels"\n')
    (root / "sub").mkdir()
    (root / "images").rename(root / "sub" / "pictures")
    assert Folder(root).count(1) == 4


def test_pictures_that_are_not_read_are_said(tmp_path, capsys):
    root = folder(tmp_path / "d")
    for name in ("x.bmp", "y.BMP", "scan.svs", "notes.txt", ".hidden.bmp"):
        (root / "images" / name).write_bytes(b"x")
    prepare(Folder(root), tmp_path / "cache")
    assert "images: 3 pictures are not read (.bmp: 2, .svs: 1); save them as PNG or TIFF" in capsys.readouterr().err


def test_a_flipped_bit_in_a_zip_is_told_as_what_it_is(tmp_path):
    """Its checksum is looked at before a strange value is blamed on the labels."""
    root = tiny_data.pannuke(tmp_path / "d", mask_dtype=np.float64)
    path = root / "fold_1.zip"
    with zipfile.ZipFile(path, "w") as packed:  # stored, as a flipped bit in Deflate fails for itself
        for file in sorted((root / "Fold 1").rglob("*.npy")):
            packed.write(file, str(file.relative_to(root)))
    content = bytearray(path.read_bytes())
    at = content.index(np.float64(7).tobytes()) + 6
    content[at] ^= 1
    path.write_bytes(content)
    for file in sorted((root / "Fold 1").rglob("*.npy")):
        file.unlink()
    with pytest.raises(InputError, match=r"masks\.npy cannot be read \(Bad CRC-32"):
        prepare(PanNuke(root), tmp_path / "cache", split=1, progress=False)
    with pytest.raises(InputError, match="a wrong value"), archive.judging():
        raise InputError("a wrong value")


def bounded(source, match):
    """Refused by what the headers say: no more memory than a few megabytes is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=match):
            source.identity(1)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def zeros(path, header, size):
    """An .npy member of zeros that promises an array and holds it, in a zip of a thousandth of its size."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed, packed.open(header.pop("name"), "w") as stream:
        np.lib.format.write_array_header_1_0(stream, header | {"fortran_order": False})
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))


def without(root, name):
    """Fold 1 as a zip that lacks a file."""
    member(root, name).unlink()
    return tiny_data.zip_fold(root, 1)


def test_long_names_of_tissues_take_no_memory(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", n=1)
    path = without(root, "types.npy")
    header = {"name": "Fold 1/images/fold1/types.npy", "descr": f"<U{8 << 20}", "shape": (1,)}
    zeros(path, header, 32 << 20)
    bounded(PanNuke(root), r"types\.npy: expected numbers or words of at most 4096 characters")


def test_long_tables_take_no_memory(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", n=1)
    path = tiny_data.zip_fold(root, 1)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("Fold 1/provenance.csv", "index,types_real\n" + " " * (30 << 20))
    bounded(PanNuke(root), r"provenance\.csv: expected a small file of at most 8192 bytes, found 31457297")
    root = tiny_data.conic(tmp_path / "c")
    with open(root / "counts.csv", "a") as stream:
        stream.write(" " * (30 << 20))
    bounded(CoNIC(root), r"counts\.csv: expected a small file")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: np.zeros((1, 8, 2049, 3), np.uint8), r"images of at most 2048 x 2048 pixels, found shape"),
        (lambda x: x.astype("S4"), r"images\.npy: expected numbers in 0\.\.255, found dtype \|S4"),
    ],
)
def test_images_of_a_stack_are_judged_by_their_header(tmp_path, change, match):
    root = tiny_data.pannuke(tmp_path / "d", n=1)
    write(member(root, "images.npy"), change)
    bounded(PanNuke(root), match)


def test_ids_of_a_stack_are_judged_by_their_header(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", n=1)
    write(member(root, "masks.npy"), lambda x: x.astype("S4"))
    bounded(PanNuke(root), r"masks\.npy: expected integer ids, found dtype \|S4")
    root = tiny_data.conic(tmp_path / "c")
    write(root / "labels.npy", lambda x: x.astype("S4"))
    bounded(CoNIC(root), r"labels\.npy: expected integer ids, found dtype \|S4")


def test_names_of_tissues_as_bytes_of_any_encoding(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", n=2)
    np.save(member(root, "types.npy"), np.array(["é".encode(), "é".encode("cp1252")]))
    assert [sample.nuclei.tissue for sample in PanNuke(root).samples(1)] == ["é", "é"]
