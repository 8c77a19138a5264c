"""`import`: the predictions of a foreign tool as a run of their own, so that `make table` shows them as a row."""

import re
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Score a foreign tool's predictions of a dataset's test fold and store them as a run for `table`."
EXAMPLE = "--name mytool --pred predictions/ --dataset pannuke --data-root /data/pannuke --fold 1"


def arguments(parser) -> None:
    parser.add_argument("--name", required=True, help="what the tables call the tool: letters, digits, _ . -")
    parser.add_argument("--pred", type=Path, required=True, metavar="DIR|FILE", help="predictions, named by image id")
    shared.dataset(parser)
    shared.fold(parser)
    parser.add_argument("--seed", type=int, default=0, help="for several runs of the same tool (default 0)")
    parser.add_argument("--types", type=Path, metavar="FILE", help="classes.toml: what the files call the classes")
    shared.class_map(parser)
    shared.results(parser)
    shared.cache(parser)
    shared.reading(parser)


def run(options) -> int:
    from benchmark.data.files.class_names import read_map
    from benchmark.data.registry import dataset, results_name
    from benchmark.data.store.prepare import prepare
    from benchmark.evaluation import imported, known_classes
    from benchmark.evaluation.scoring import worded
    from benchmark.formats import type_names
    from benchmark.formats.collection import collection
    from benchmark.results.run_folder import RunFolder, check_results, predictions_of
    from benchmark.results.run_id import RunId

    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", options.name):
        raise InputError(f"--name is '{options.name}'; expected letters, digits, '_', '.' and '-', such as 'mytool'.")
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}; expected a whole number of at least 0.")
    check_results(options.results)
    source = dataset(options.dataset, options.data_root)
    label = results_name(options.dataset, source)
    identity = RunId(label, options.name, options.fold, options.seed, "imported")
    path = predictions_of(options.pred)
    settings = type_names.read(options.types, tuple(source.classes), options.types_outside == "ignore")
    names, remark = known_classes.predicted(settings.pred, path, read_map(options.classes))
    if not (options.types or options.classes or known_classes.classes_beside(path)):
        known_classes.say_by_number(f"the dataset {label}", tuple(source.classes), path)
    pred = collection(path, names, options.vertices)
    data = prepare(source, options.cache, options.fold)
    folder = RunFolder(identity.folder(options.results))
    scores = imported.store(identity, folder, data, pred, options.missing, remark)
    print(f"{identity}: {worded(scores['cellvit']['bPQ'])} (cellvit protocol) -> {folder}")
    return 0
