"""`predict`: nuclei in images of one's own."""

import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Label maps, GeoJSON for QuPath and overlays of images of one's own."
EXAMPLE = "--weights results/synthetic/cellvta@small/fold1-seed0/weights.safetensors --images tiles/ --out found/"


def arguments(parser) -> None:
    parser.add_argument("--weights", type=Path, help="a published file or the weights of a run (not for classical)")
    shared.method(parser, "method, or method@row,key=value (default: what the file says)")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR|FILE", help="RGB: PNG, TIFF, JPEG or npy")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--mpp", type=float, default=0.25, help="micrometres per pixel of the images (default 0.25)")
    parser.add_argument("--window", type=int, default=256, help="px that the network sees at once (default 256)")
    parser.add_argument("--margin", type=int, default=32, help="px of a window that only give context (default 32)")
    shared.device(parser)


def run(options) -> int:
    from benchmark.data.files.names import unread
    from benchmark.evaluation.own_images import check_settings, images_in, predict_files
    from benchmark.methods import registry
    from benchmark.runtime import distributed
    from benchmark.runtime.progress import Progress
    from benchmark.weights import class_list, fit
    from benchmark.weights.recognise import recognise

    check_settings(options.mpp, options.window, options.margin, "--")
    paths = images_in(options.images)
    if beside := unread(options.images):
        print(f"{options.images}: {beside}", file=sys.stderr)
    if options.out.resolve() in {path.resolve().parent for path in paths}:
        raise InputError(
            f"--out {options.out} is the folder of the images: overlays and label maps would overwrite them; "
            "name another folder."
        )
    facts = recognise(options.weights)[1] if options.weights else None
    if facts is None and options.method is None:
        raise InputError("--weights is missing; expected a file of weights, or --method classical, which needs none.")
    if facts and facts.method is None and options.method is None:
        raise InputError(f"{options.weights} does not say its method: {fit.APART}, or give --method method@row.")
    name = options.method or (f"{facts.method}@{facts.row}" if facts.row else facts.method)
    spec = registry.parse(name, "paper")
    cls = registry.method_class(spec.name)
    if cls.trainable and facts is None:
        raise InputError(f"{spec} is a network; give its weights with --weights.")
    types, tissues = (facts.classes or 0, facts.tissues or 0) if facts else (0, 0)
    method = registry.build(spec, types, tissues)
    if facts:
        fit.load_official(method, options.weights)
    names, why = class_list.classes_of(facts) if facts else ((), "")
    names = names if len(names) == types else tuple(f"type {k}" for k in range(1, types + 1))
    for sentence in (why, fit.left_out(facts) if facts and facts.left_out else ""):
        if sentence:
            print(sentence, file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    device = distributed.resolve(options.device)
    show = Progress("predicted", "images")
    count = predict_files(
        method, paths, options.out, list(names), options.mpp, device, show, window=options.window, margin=options.margin
    )
    print(f"{count} nuclei in {len(paths)} images -> {options.out}")
    return 0
