"""Data sets of whole fields, written in the layouts of their owners: CoNSeP, MoNuSeg, MoNuSAC."""

from pathlib import Path

import numpy as np
import scipy.io
import tifffile
from PIL import Image

from benchmark.data.sources.synthetic import draw
from benchmark.formats.geojson import outlines


def field(seed: int, height: int = 96, width: int = 80):
    """image uint8 (H, W, 3), instances (H, W) of drawn nuclei and types 1..5 of each in ascending order of id."""
    sample = draw("Colon", seed, 0, size=max(height, width, 64))
    nuclei = sample.nuclei.crop(0, 0, height, width)
    return sample.image[:height, :width], nuclei.instances, nuclei.types


def consep(root: Path, train: int = 5, test: int = 3, shape=(96, 80)) -> Path:
    """CoNSeP with a few small images; ids have gaps, and types run to 7."""
    for side, n in (("Train", train), ("Test", test)):
        for name in ("Images", "Labels"):
            (root / side / name).mkdir(parents=True)
        for i in range(1, n + 1):
            image, instances, types = field(100 * (side == "Test") + i, *shape)
            types = (types + i) % 7 + 1
            consep_image(root / side, f"{side.lower()}_{i}", image, instances * 3, types)
    return root


def consep_image(folder: Path, stem: str, image, instances, types) -> None:
    """One image of CoNSeP: instances with any ids, types in ascending order of id."""
    Image.fromarray(image).save(folder / "Images" / f"{stem}.png")
    ids = np.unique(instances[instances > 0])
    table = np.zeros(int(instances.max(initial=0)) + 1, np.int32)
    table[ids] = types
    centroid = np.array([[x.mean(), y.mean()] for y, x in (np.nonzero(instances == k) for k in ids)]).reshape(-1, 2)
    content = {"inst_map": instances.astype(np.float64), "type_map": table[instances].astype(np.float64)}
    content |= {"inst_type": np.asarray(types, np.float64).reshape(-1, 1), "inst_centroid": centroid}
    scipy.io.savemat(folder / "Labels" / f"{stem}.mat", content)


def aperio_xml(regions: list, kinds: list[str] | None = None) -> str:
    """The XML of ImageScope: an Annotation for each kind in the order of `kinds`, one without a name for None.

    Args:
        regions: (K, 2) x, y vertices of each. kinds: the kind of each.
    """
    out = ['<Annotations MicronsPerPixel="0.252000">']
    for number, kind in enumerate(dict.fromkeys(kinds or [""]), 1):
        named = f'<Attribute Name="{kind}" Id="0" Value=""/>' if kind else ""
        out.append(f'<Annotation Id="{number}" Name="" Type="4"><Attributes>{named}</Attributes><Regions>')
        for k, ring in enumerate(regions):
            if not kinds or kinds[k] == kind:
                points = "".join(f'<Vertex X="{float(x)}" Y="{float(y)}"/>' for x, y in ring)
                out.append(f'<Region Id="{k + 1}"><Attributes/><Vertices>{points}</Vertices></Region>')
        out.append("</Regions><Plots/></Annotation>")
    return "\n".join([*out, "</Annotations>"])


def around(instances: np.ndarray) -> list[np.ndarray]:
    """The outline of each nucleus along the corners of its pixels, in ascending order of id; of the largest piece."""
    return [max(rings, key=_area) for rings in outlines(instances).values()]


def _area(ring) -> float:
    x, y = np.asarray(ring, float).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


MONUSEG_TRAIN = ("A7-A13E", "A7-A13F", "AR-A1AK", "B0-5711", "HE-7128", "G9-6336")


def monuseg(root: Path, shape=(96, 80)) -> Path:
    """MoNuSeg with six training images of as many patients and two test images."""
    training = root / "MoNuSeg 2018 Training Data"
    images, annotations = training / "Tissue Images", training / "Annotations"
    test = root / "MoNuSegTestData"
    for folder in (images, annotations, test):
        folder.mkdir(parents=True)
    for i, name in enumerate(MONUSEG_TRAIN):
        region_file(images, annotations, f"TCGA-{name}-01Z-00-DX1", *field(i, *shape)[:2])
    for i, name in enumerate(("2Z-A9J9", "44-2665")):
        region_file(test, test, f"TCGA-{name}-01A-01-TS1", *field(50 + i, *shape)[:2])
    return root


def region_file(images: Path, annotations: Path, stem: str, image, instances) -> None:
    """An image with the outlines of its nuclei."""
    tifffile.imwrite(images / f"{stem}.tif", image)
    (annotations / f"{stem}.xml").write_text(aperio_xml(around(instances)))


KINDS = ("Epithelial", "Lymphocyte", "Macrophage", "Neutrophil")


def monusac(root: Path) -> Path:
    """MoNuSAC with three training patients, two regions of one, and two test regions; sizes differ."""
    train, test = root / "MoNuSAC_images_and_annotations", root / "MoNuSAC Testing Data and Annotations"
    for part, regions in (
        (
            train,
            (("55-1594", 1, (96, 80)), ("55-1594", 2, (64, 120)), ("69-7760", 1, (80, 80)), ("B0-5711", 1, (74, 90))),
        ),
        (test, (("2Z-A9JG", 1, (96, 80)), ("2Z-A9JN", 1, (70, 100)))),
    ):
        for k, (patient, number, shape) in enumerate(regions):
            slide = f"TCGA-{patient}-01Z-00-DX1"
            (part / slide).mkdir(parents=True, exist_ok=True)
            image, instances, types = field(k + 200 * (part == test), *shape)
            rings = around(instances)
            kinds = [KINDS[t % 4] for t in types]
            tifffile.imwrite(part / slide / f"{slide}_{number}.tif", image)
            (part / slide / f"{slide}_{number}.svs").write_bytes(b"not read")
            (part / slide / f"{slide}_{number}.xml").write_text(aperio_xml(rings, kinds))
    return root
