"""Text, tables and names as macOS, Windows and spreadsheets write them, and the true reason of what is not read."""

import errno
import json
import os
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmark.data.files import archive, label_files, names, raster, text
from benchmark.data.sources.cellvit_layout import find
from benchmark.data.sources.folder import Folder
from benchmark.data.sources.pannuke import PanNuke
from benchmark.data.store.prepare import prepare
from benchmark.evaluation import foreign
from benchmark.evaluation.own_images import images_in
from benchmark.formats import type_names
from benchmark.formats.collection import collection
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.shared import shared

NFC, NFD = (unicodedata.normalize(form, "Lübeck é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_text_of_every_usual_encoding(tmp_path, encoding, newline):
    (tmp_path / "a.csv").write_bytes(newline.join(["file,tissue", "a,Lübeck é", ""]).encode(encoding))
    assert text.table(tmp_path / "a.csv") == [{"file": "a", "tissue": NFC}]


def test_what_is_no_text_is_said(tmp_path):
    for content in (b"\x81\x8d\x90", b"a\0b\0"):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.csv: expected text in UTF-8, found bytes of no known encoding"):
            text.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content",
    [
        "File ,source\nc0.png, p0\n",
        "file;source\nc0.png;p0\n",
        "sep=;\nfile;source\nc0.png;p0\n",
        "file\tsource\nc0.png\tp0\n",
        "file,source,,\nc0.png,p0,,\n,,,\n\n",
        '"file","source"\n"c0.png","p0"\n',
    ],
)
def test_tables_of_spreadsheets(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    assert text.table(tmp_path / "a.csv") == [{"file": "c0.png", "source": "p0"}]


@pytest.mark.parametrize("content", ["file,source\na,b,c\n", "file,source\na\n", "file,file\na,b\n", "", "\n,\n"])
def test_tables_that_lack_something_are_refused(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=r"complete it|each column once"):
        text.table(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("images\\c0.png", "c0"),
        ("/data/images/c0.PNG", "c0"),
        ("TCGA-A7-A13E.AB12", "TCGA-A7-A13E.AB12"),
        ("TCGA-A7-A13E.AB12.png", "TCGA-A7-A13E.AB12"),
        ("a.ome.tif", "a"),
        ("a.OME.TIFF", "a"),
        ("a.ome.png", "a.ome"),
        (f"{NFD}.png", NFC),
        (" a.png ", "a.png"),
    ],
)
def test_names_of_images(path, stem):
    assert names.stem(path if path != " a.png " else "a.png.png") == stem


def folder(root, stems, table=None):
    for name, array in (("images", np.zeros((16, 16, 3), np.uint8)), ("labels", np.eye(16, dtype=np.uint8))):
        (root / name).mkdir(parents=True)
        for stem in stems:
            Image.fromarray(array).save(root / name / f"{stem}.png")
    (root / "dataset.toml").write_bytes(
        b'\xef\xbb\xbfclasses = []\r\nmpp = 0.25\r\npatch = 16\r\ntissue = "L\xc3\xbc"\r\n'
    )
    if table:
        (root / "images.csv").write_bytes(table)
    return root


def ids(root, tmp_path) -> list[str]:
    return prepare(Folder(root), tmp_path / "cache", progress=False).folds[1].meta["image_ids"]


def test_a_folder_from_another_system(tmp_path):
    root = folder(
        tmp_path / "d",
        ["x.AB12", "y.AB12", NFD],
        f"file;source\nx.AB12;p\nimages\\y.AB12.png;q\n{NFC};r\n;\n".encode("cp1252"),
    )
    (root / "labels" / f"{NFD}.png").rename(root / "labels" / f"{NFC}.png")
    for hidden in ("images/._x.AB12.png", "labels/._x.AB12.png"):
        (root / hidden).write_bytes(b"\0\5\x16\7Mac OS X")
    assert sorted(ids(root, tmp_path)) == sorted(["x.AB12", "y.AB12", NFC])


def test_an_image_listed_twice_is_refused(tmp_path):
    root = folder(tmp_path / "d", ["a", "b", "c"], b"file,fold\na.png,1\nb,2\nc,3\na,2\n")
    with pytest.raises(InputError, match=r"images\.csv: expected a row for each image, found two for 'a'"):
        ids(root, tmp_path)


def test_ome_tiffs_meet_their_labels(tmp_path):
    root = folder(tmp_path / "d", ["a", "b", "c"])
    (root / "images/a.png").unlink()
    import tifffile

    tifffile.imwrite(root / "images/a.ome.tif", np.zeros((3, 16, 16), np.uint8)[0:1].repeat(3, 0).transpose(1, 2, 0))
    assert ids(root, tmp_path) == ["a", "b", "c"]


def test_predictions_meet_names_in_another_form(tmp_path):
    for name in ("true", "pred"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / f"{NFC if name == 'true' else NFD}.npy", np.eye(4, dtype=int))
    sides = [collection(tmp_path / name, type_names.TypeNames()) for name in ("true", "pred")]
    assert [true.name == pred.name for true, pred in foreign.paired(*sides)] == [True]
    assert foreign.assigned([NFD], "the set", sides[1])[0] is sides[1].images[0]


def test_classes_of_qupath_on_windows(tmp_path):
    (tmp_path / "classes.toml").write_text('classes = ["Épithélial"]\n', encoding="utf-16")
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}
    for name in ("Épithélial", unicodedata.normalize("NFD", "épithélial")):
        feature = {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}
        content = json.dumps([feature], ensure_ascii=False)
        (tmp_path / "a.geojson").write_bytes(content.encode("cp1252" if name[0] == "É" else "utf-8"))
        (image,) = collection(tmp_path / "a.geojson", type_names.read(tmp_path / "classes.toml").true).images
        assert image.read((8, 8)).types.tolist() == [1]


def test_a_name_that_leads_to_two_classes_is_refused(tmp_path):
    (tmp_path / "c.toml").write_text('classes = ["a", "b"]\n[pred]\nTumor = "a"\ntumor = "b"\n')
    with pytest.raises(InputError, match="leads 'tumor' to two classes"):
        type_names.read(tmp_path / "c.toml")


def test_a_fold_twice_in_cellvits_layout(tmp_path):
    for parent in ("a", "b"):
        for name in ("images", "labels"):
            (tmp_path / parent / "fold1" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / parent / "fold1/images/1_0.png")
    with pytest.raises(InputError, match="hold the same fold"):
        find(tmp_path)


def test_the_true_reason_of_what_is_not_read(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d")
    path = tiny_data.zip_fold(root, 1)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as opened:
        starts = [info.header_offset + 8 for info in opened.infolist()]
        directory = opened.start_dir
    for start in starts:
        content[start] = 9  # Deflate64, as Windows packs more than 2 GB
        directory = content.index(b"PK\1\2", directory)
        content[directory + 10] = 9
        directory += 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"packed in a way that is not read here .*deflate64.*: unpack it"):
        prepare(PanNuke(root), tmp_path / "c", split=1, progress=False)
    for error, said in (
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read .Permission denied."),
        (RuntimeError("File 'x' is encrypted, password required"), "is encrypted"),
        (MemoryError(), "larger than the memory"),
        (EOFError("it ends"), "truncated or corrupt"),
    ):
        assert said.replace(".Permission denied.", "(Permission denied)") in str(archive.unreadable("x", error))


def test_a_zip_with_windows_separators(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d")
    with zipfile.ZipFile(root / "fold_1.zip", "w") as packed:
        for path in (root / "Fold 1").rglob("*.npy"):
            info = zipfile.ZipInfo("x")
            info.filename = str(path.relative_to(root)).replace("/", "\\")
            packed.writestr(info, path.read_bytes())
    found = archive.find(root / "fold_1.zip", {"masks.npy"}).members
    assert [member.below for member in found] == [("fold_1", "Fold 1", "masks", "fold1", "masks.npy")]


def test_fortran_order_is_read_as_a_whole(tmp_path):
    labels = np.arange(24).reshape(3, 8)
    np.save(tmp_path / "a.npy", np.asfortranarray(labels))
    np.savez(tmp_path / "b.npz", instances=np.asfortranarray(labels))
    np.savez(tmp_path / "c.npz", instances=np.asfortranarray(np.stack([labels] * 5)))
    for name in ("a.npy", "b.npz", "c.npz"):
        found = collection(tmp_path / name, type_names.TypeNames()).images[-1].read(None).instances
        assert np.array_equal(found, labels), name
    np.save(tmp_path / "a.npy", np.asfortranarray(np.full((3, 4, 3), 7, np.uint8)))
    assert label_files.image(tmp_path / "a.npy").shape == (3, 4, 3)


def test_a_png_of_more_than_179_megapixels_is_looked_at(tmp_path):
    Image.new("1", (13_500, 13_500)).save(tmp_path / "a.png")
    assert raster.shape(tmp_path / "a.png") == (13_500, 13_500)
    head = (tmp_path / "a.png").read_bytes()[:200]
    (tmp_path / "a.png").write_bytes(head)
    with pytest.raises(InputError, match="it ends before its pixels"):
        raster.shape(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["dotted", "empty-row", "windows"])
def test_tables_of_the_reference_data(tmp_path, name):
    assert len(ids(shared(f"faults/images-csv/{name}"), tmp_path)) == 3


def test_files_of_the_reference_data(tmp_path):
    with pytest.raises(InputError, match="found two for 'c0'"):
        ids(shared("faults/images-csv/twice"), tmp_path)
    assert len(ids(shared("faults/called-truncated/folder"), tmp_path)) == 3
    with pytest.raises(InputError, match="deflate64"):
        prepare(PanNuke(shared("faults/called-truncated/pannuke")), tmp_path / "cache", progress=False)
    names_of = type_names.read(shared("faults/called-truncated/classes.toml")).pred
    (image,) = collection(shared("faults/called-truncated/qupath_windows.geojson"), names_of).images
    assert image.read((96, 96)).types.any()
    (image,) = collection(shared("faults/fortran-order/true/a.npy"), names_of).images
    assert image.read(None).instances.any()


def test_capitals_do_not_part_an_image_from_what_belongs_to_it(tmp_path):
    """One rule everywhere: labels, types, tables, predictions and the words of a split."""
    instances = np.zeros((32, 32), np.uint16)
    instances[4:12, 4:12] = 1
    for k, (image, label, kind) in enumerate((("A1.PNG", "a1.png", "A1.Png"), ("b", "B", "b"), ("c", "c", "C"))):
        for folder, name, array in (
            ("images", image, np.full((32, 32, 3), 9 + k, np.uint8)),
            ("labels", label, instances),
            ("types", kind, (instances > 0).astype(np.uint8)),
        ):
            path = tmp_path / folder / (name if "." in name else f"{name}.png")
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path, "png")
    (tmp_path / "dataset.toml").write_text('classes = ["x"]\nmpp = 0.25\npatch = 32\n')
    (tmp_path / "images.csv").write_text("file,fold\na1.png,Train\nB,VAL\nc,test\n")
    prepared = prepare(Folder(tmp_path), tmp_path / "cache", progress=False)
    assert [prepared.folds[k].meta["image_ids"] for k in (1, 2, 3)] == [["A1"], ["b"], ["c"]]
    found = collection(tmp_path / "labels", type_names.TypeNames())
    true = collection(tmp_path / "types", type_names.TypeNames())
    assert [(a.name, b.name) for a, b in foreign.paired(true, found)] == [("A1", "a1"), ("C", "c"), ("b", "B")]


def test_names_that_differ_by_capitals_alone_are_refused(tmp_path):
    assert (names.twice(["a", "b", NFC, NFD.upper()]), names.twice(["a", "b"])) == (NFD.upper(), None)
    for name in ("a.png", "A.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    for read in (
        lambda: collection(tmp_path, type_names.TypeNames()),
        lambda: label_files.by_stem(tmp_path, (".png",)),
        lambda: images_in(tmp_path),
    ):
        with pytest.raises(InputError, match=r"expected one file per image|two images are called"):
            read()


def test_arrays_of_a_data_set_in_other_capitals(tmp_path):
    (tmp_path / "Images.NPY").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("X/LABELS.npy", b"")
    listing = archive.find(tmp_path, {"images.npy", "labels.npy"})
    assert sorted(member.name for member in listing.members) == ["images.npy", "labels.npy"]


@pytest.mark.parametrize("word", ["²", "9" * 5000, "-1", "1.0", "x", ""])
def test_what_is_no_whole_number(word):
    assert names.number(word) is None and names.number("007") == 7


def test_words_of_classes_toml_that_are_no_numbers_are_words(tmp_path):
    """A key of 5,000 digits, or a superscript, was a traceback."""
    for word in ("9" * 5000, "²"):
        (tmp_path / "classes.toml").write_text(f'classes = ["a"]\n[pred]\n"{word}" = "a"\n', encoding="utf-8")
        side = type_names.read(tmp_path / "classes.toml").pred
        assert side.id_of(word, "here") == 1
        assert side.ids(np.array([0]), "here").tolist() == [0]


def test_a_root_that_is_a_whole_disk_is_refused(tmp_path, monkeypatch):
    """`--data-root /` looked through everything for minutes."""
    monkeypatch.setattr(archive, "FOLDERS", 5)
    for k in range(5):
        (tmp_path / str(k)).mkdir()
    with pytest.raises(InputError, match=r"holds more than 5 folders within a depth of 2; name the folder"):
        list(archive.walk(tmp_path, 2))
    (tmp_path / "4").rmdir()
    assert len(list(archive.walk(tmp_path, 2))) == 5


def test_a_name_that_no_text_can_hold_is_refused(tmp_path):
    """A UnicodeEncodeError where names are hashed or written: in `predict` when all was predicted."""
    path = tmp_path / os.fsdecode(b"Gewebe \xe4.png")
    try:
        path.write_bytes(b"")
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    for read in (names.listing, label_files.by_stem):
        with pytest.raises(InputError, match=r"expected names in UTF-8, found 'Gewebe \\udce4.png'; rename it"):
            read(tmp_path, (".png",))
