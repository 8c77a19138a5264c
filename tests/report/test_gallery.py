"""Which images are chosen, and what the page is told of their nuclei."""

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image

from benchmark.report.figures.gallery import HIT, MOST_MISSED, choose, matched
from benchmark.report.page.images import TYPES, browsed
from tests.support.chromium import panel


def test_an_image_is_chosen_for_its_missed_nuclei():
    """Image 3 has the most missed nuclei on average, image 1 the smallest; its score is neither best nor worst."""
    places = {"image": np.arange(7), "bPQ": [0.1, 0.5, 0.52, 0.4, 0.55, 0.9, 0.53], "n_true": 20}
    a = pd.DataFrame(places | {"n_paired": [19, 19, 19, 5, 19, 19, 19]})
    b = pd.DataFrame(places | {"n_paired": [4, 19, 19, 5, 19, 19, 19]})
    b.loc[2, "bPQ"] = 0.7
    nuclei = pd.DataFrame({"image": np.arange(7), "side": "true", "d_um": [9.0, 2, 9, 9, 9, 9, 9]})
    chosen = dict(choose({"a": a, "b": b}, nuclei, 1))
    assert chosen[MOST_MISSED] == 3 and chosen["smallest nuclei"] == 1
    assert chosen["best"] == 5 and chosen["worst"] == 0 and len(set(chosen.values())) == len(chosen)


def test_matched_nuclei_are_true_ones_with_a_partner():
    nuclei = pd.DataFrame(
        {
            "image": [0, 0, 0, 0, 1],
            "side": ["true", "true", "true", "pred", "true"],
            "id": [3, 1, 2, 1, 1],
            "match": [2, 1, 0, 1, 1],
        }
    )
    assert matched(nuclei, 0) == [1, 3]


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_ids_and_types_of_many_nuclei_come_through():
    """300 nuclei of one pixel, so that an id takes two bytes; types above what four bits hold are shown as untyped."""
    truth = np.arange(1, 301, dtype=np.int32).reshape(15, 20)
    image = panel("many", truth, {"a": list(range(1, 301))})
    image.true_types = image.types["a"] = np.resize(np.array([1, TYPES, TYPES + 1], np.uint8), 300)
    (content,) = browsed([image])["panels"]
    shown = pixels(content["truth"]).astype(int)
    assert (shown[..., 0] + 256 * shown[..., 1] == truth).all()
    assert shown[0, :3, 2].tolist() == [1, TYPES, 0]
    code = pixels(content["methods"]["a"]["code"])
    assert (code & 7 == HIT).all() and (code[0, :3] >> 4).tolist() == [1, TYPES, 0]
    assert content["methods"]["a"] | {"code": ""} == {
        "code": "",
        "matched": list(range(1, 301)),
        "extra": 0,
        "score": "bPQ 1.000",
    }
