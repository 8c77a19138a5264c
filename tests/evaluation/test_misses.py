"""What became of each true nucleus: every fate planted once."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei
from benchmark.evaluation.misses import FATES, WEAK, count, fates
from benchmark.methods import registry
from benchmark.postproc.hv import HVSettings
from benchmark.report.figures.misses import misses_figure
from benchmark.report.tables.misses import misses_table
from benchmark.results.raw_maps import StoredMaps, writing
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from tests.support.hv_maps import image
from tests.support.report_runs import read_csv


def scene() -> tuple[np.ndarray, ...]:
    """Eight squares of 10 px in a row: one per fate, "merged" twice, since it takes two."""
    truth = np.zeros((12, 96), np.int32)
    probability, decoded = np.zeros(truth.shape), np.zeros(truth.shape, np.int32)
    places = [slice(1 + 12 * k, 11 + 12 * k) for k in range(8)]
    for k, columns in enumerate(places):
        truth[1:11, columns] = k + 1
        probability[1:11, columns] = (0.9, 0.1, 0.4, 0.9, 0.9, 0.9, 0.9, 0.9)[k]
    decoded[1:11, places[0]] = 1  # found
    decoded[1:11, 49:71] = 2  # two nuclei in one
    decoded[1:5, places[6]] = 3  # cut in three: 40, 40 and 20 %
    decoded[5:9, places[6]] = 4
    decoded[9:11, places[6]] = 5
    decoded[1:7, places[7]] = 6  # holds 60 %, and much around it
    decoded[0, places[7]] = 6
    decoded[11, places[7]] = 6
    matched = np.arange(8) == 0
    return truth, probability, probability > 0.5, decoded, matched


def test_every_fate_is_told():
    names = [FATES[k] for k in fates(*scene())]
    assert names == [
        *("found", "not proposed", "below the threshold", "removed", "merged", "merged", "split", "other outline")
    ]


def test_a_weak_answer_is_one_from_its_lower_bound_on():
    truth, probability, proposed, decoded, matched = scene()
    probability[1:11, 13:23] = WEAK
    assert FATES[fates(truth, probability, proposed, decoded, matched)[1]] == "below the threshold"


def test_an_image_without_nuclei_has_no_fates():
    empty = np.zeros((8, 8), np.int32)
    assert len(fates(empty, np.zeros((8, 8)), empty > 0, empty, np.zeros(0, bool))) == 0


def maps_of(folder, change=lambda maps: maps, n=3) -> tuple[StoredMaps, list[Nuclei]]:
    truths = [image(i)[0] for i in range(n)]
    with writing(RunFolder(folder)) as put:
        for i in range(n):
            put(i, change(image(i)[1]))
    return StoredMaps(RunFolder(folder)), truths


def by_fate(frame) -> dict[str, int]:
    return {fate: int(n) for fate, n in frame.groupby("fate")["n"].sum().items() if n}


def test_perfect_maps_lose_small_nuclei_to_the_post_processing_alone(tmp_path):
    maps, truths = maps_of(tmp_path)
    plain = count(maps, truths, HVSettings.cellvit40())
    assert set(by_fate(plain)) == {"found", "removed"} and plain["n"].sum() == 27
    assert set(plain.loc[(plain["fate"] == "removed") & (plain["n"] > 0), "bin"]) == {"<4"}
    kept = count(maps, truths, HVSettings(opening=1, object_size=1, component_size=1, edge=1.0))
    assert by_fate(kept) == {"found": 27}, "without these steps nothing is lost"


def test_a_network_that_sees_nothing_proposes_nothing(tmp_path):
    maps, truths = maps_of(tmp_path, lambda maps: maps | {"np": np.stack([maps["np"][0] * 0 + 5, maps["np"][1] * 0])})
    assert by_fate(count(maps, truths, HVSettings.cellvit40())) == {"not proposed": 27}


def test_maps_of_tiles_and_of_another_family_are_refused(tmp_path):
    maps, truths = maps_of(tmp_path / "a", lambda maps: {k: np.stack([v] * 4) for k, v in maps.items() if v.ndim == 3})
    with pytest.raises(InputError, match="in tiles"):
        count(maps, truths, HVSettings.cellvit40())
    other, truths = maps_of(tmp_path / "b", lambda maps: {"np": maps["np"]})
    with pytest.raises(InputError, match="expected np and hv"):
        count(other, truths, HVSettings.cellvit40())


@pytest.mark.filterwarnings("error")
def test_table_and_figure_show_shares(tmp_path):
    maps, truths = maps_of(tmp_path / "run")
    frame = count(maps, truths, HVSettings.cellvit40())
    table = misses_table({"a": frame, "b": frame})
    assert [block.title for block in table.blocks] == ["a", "b"] and table.blocks[0].rows[0][2:] == list(FATES)
    small = table.blocks[0].rows[1]
    assert small[:2] == ["<4 µm", str(int(frame.loc[frame["bin"] == "<4", "n"].sum()))]
    assert sum(float(text.rstrip("%")) for text in small[2:]) == pytest.approx(100, abs=0.3)
    assert misses_figure({"a": frame, "b": frame}, tmp_path / "out")
    assert len(read_csv(tmp_path / "out" / "misses_by_size.csv")) == 2 * len(frame)
    assert (tmp_path / "out" / "misses_by_size.png").is_file()


def test_the_command_takes_runs_stored_before_instances_was_an_argument(tmp_path, monkeypatch):
    _, truths = maps_of(tmp_path / "run")
    arguments = registry.parse("cellvta@debug").arguments
    config = {"name": "cellvta", "arguments": {k: v for k, v in arguments.items() if k != "instances"}, "mpp": 0.25}
    stored = SimpleNamespace(folder=tmp_path / "run", id="a", config=config)
    monkeypatch.setattr("benchmark.results.collect.finished", lambda folder: stored)
    monkeypatch.setattr("benchmark.commands.postprocess.test_set", lambda options, run: truths)
    monkeypatch.setattr("benchmark.evaluation.decode_grid.Truths", lambda subset: subset)
    assert main(["misses", "--runs", str(tmp_path / "run"), "--reports", str(tmp_path)]) == 0
    assert (tmp_path / "misses/misses_by_size.csv").is_file()


def test_the_command_needs_kept_maps(tmp_path, capsys):
    assert main(["misses", "--runs", str(tmp_path)]) == 2
    assert "expected the folder of a finished run" in capsys.readouterr().err
