"""JSON that is not as it should be: read where it is plain what is meant, else the true reason with its place."""

import json

import pytest

from benchmark.runtime.errors import InputError
from tests.support.foreign_files import corners, feature, labels, only, same


def features() -> list[dict]:
    return [feature([corners(labels()[0], k)], None) for k in (2, 7, 300)]


@pytest.mark.parametrize("end", ["\n", "\r\n\r\n"])
def test_one_feature_in_each_line_is_read(tmp_path, end):
    (tmp_path / "a.geojson").write_text(end.join(json.dumps(one) for one in features()) + end)
    same(only(tmp_path / "a.geojson"), labels()[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text[:-2] + ",]}", r"expected JSON, found something else in line 1, column \d+"),
        (lambda text: repr(json.loads(text)), r"line 1, column 2: .* \(it has single quotes, as Python prints"),
        (lambda text: "// nuclei\n" + text, "line 1, column 1"),
        (lambda text: text + "\n}", "line 2, column 1: Extra data"),
        (lambda text: text + "\n7\n[]", "line 2, column 1: Extra data"),
        (lambda text: text[: len(text) // 2], "truncated or corrupt"),
        (lambda text: text[:-1], "truncated or corrupt"),
        (lambda text: "", "truncated or corrupt"),
    ],
)
def test_what_is_no_json_is_called_what_it_is(tmp_path, change, sentence):
    text = json.dumps({"type": "FeatureCollection", "features": features()})
    (tmp_path / "a.geojson").write_text(change(text))
    with pytest.raises(InputError, match=sentence) as error:
        only(tmp_path / "a.geojson")
    assert ("download" in str(error.value)) == ("truncated" in sentence)


def test_a_name_twice_in_one_line_is_refused(tmp_path):
    lines = [json.dumps(one) for one in features()]
    (tmp_path / "a.geojson").write_text("\n".join([*lines, '{"type": 1, "type": 2}']))
    with pytest.raises(InputError, match="found 'type' twice in one object"):
        only(tmp_path / "a.geojson")
