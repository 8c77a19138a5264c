"""`predict`: nuclei in images of one's own."""

import contextlib
import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.counts import counted
from benchmark.runtime.errors import InputError

HELP = "Nuclei in images and whole slides of one's own: label maps or tables, GeoJSON for QuPath, overlays."
EXAMPLE = "--weights results/synthetic/cellvta@small/fold1-seed0 --images slide.svs --out found/"


def arguments(parser) -> None:
    parser.add_argument(
        "--weights", type=Path, help="a published file, or a run's folder or weights (not for classical)"
    )
    shared.method(parser, "method, or method@row,key=value (default: what the file says)")
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR|FILE",
        help="RGB: PNG, TIFF, JPEG or npy; slides: SVS, tiled TIFF, NDPI, SCN (extra [slides])",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--mpp", type=float, help="micrometres per pixel (default: what a TIFF or slide states; other images 0.25)"
    )
    parser.add_argument("--window", type=int, default=256, help="px that the network sees at once (default 256)")
    parser.add_argument("--margin", type=int, default=32, help="px of a window that only give context (default 32)")
    parser.add_argument("--batch", type=int, default=8, help="windows per forward pass (default 8)")
    parser.add_argument(
        "--precision", choices=("fp32", "auto", "bf16", "fp16"), default="fp32", help="number format (default fp32)"
    )
    parser.add_argument("--tile", type=int, default=1152, help="px of a slide that are decoded at once (default 1152)")
    parser.add_argument("--workers", type=int, default=4, help="processes that decode a slide, at most (default 4)")
    parser.add_argument("--everywhere", action="store_true", help="predict a slide's glass too, not tissue alone")
    shared.device(parser)


def run(options) -> int:
    from benchmark.data.files import slide
    from benchmark.data.files.names import unread
    from benchmark.evaluation.own_images import images_in, predict_files
    from benchmark.evaluation.settings import Settings
    from benchmark.evaluation.slides.predict import predict_slides
    from benchmark.runtime import distributed
    from benchmark.runtime.progress import Progress

    chosen = ("mpp", "window", "margin", "batch", "precision", "tile", "everywhere", "workers")
    settings = Settings(**{name: getattr(options, name) for name in chosen})
    settings.check("--")
    paths = images_in(options.images)
    slides, images, faults = _apart(paths)
    if beside := unread(options.images, slide.SUFFIXES):
        print(f"{options.images}: {beside}", file=sys.stderr)
    # both: a link to an image would be overwritten where it lies
    if options.out.resolve() in {folder for path in paths for folder in (path.parent.resolve(), path.resolve().parent)}:
        raise InputError(
            f"--out {options.out} is the folder of the images: overlays and label maps would overwrite them; "
            "name another folder."
        )
    device = distributed.resolve(options.device)
    method, classes, made_by = _method(options)
    there = options.out.exists()
    options.out.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        if images:
            show = Progress("predicted", "images")
            count += predict_files(method, images, options.out, classes, settings, device, show)
    except InputError as error:
        if not slides:
            if not there:
                with contextlib.suppress(OSError):  # holds what could be predicted
                    options.out.rmdir()
            raise
        faults.append(error)  # said again at the end, which slides that fail too keep from being reached
        print(error, file=sys.stderr)
    if slides:
        count += predict_slides(method, slides, options.out, classes, settings, device, made_by)
    if faults:
        raise faults[0]
    words = [counted(len(some), what) for some, what in ((images, "image"), (slides, "slide")) if some]
    print(f"{count} {'nucleus' if count == 1 else 'nuclei'} in {' and '.join(words)} -> {options.out}")
    return 0


def _apart(paths: list[Path]) -> tuple[list[Path], list[Path], list[InputError]]:
    """(slides, images, what is wrong with TIFFs whose headers do not say which of both they are).

    Raises:
        InputError: such a TIFF, where there are no slides: of images all headers are looked at before the first one is
            predicted.
    """
    from benchmark.data.files.slide import is_slide

    slides: list[Path] = []
    images: list[Path] = []
    faults = []
    for path in paths:
        try:
            (slides if is_slide(path) else images).append(path)
        except InputError as error:
            faults.append(error)
    if faults and not slides:
        raise faults[0]
    for error in faults:
        print(f"left out: {error}", file=sys.stderr)
    return slides, images, faults


def _method(options) -> tuple:
    """(the method with its weights, names of its types, what identifies it in results).

    Raises:
        InputError: nothing says which method is meant, or the file does not fit it.
    """
    from benchmark.methods import registry
    from benchmark.weights import class_list, fit
    from benchmark.weights.recognise import recognise

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
    if method.mpp != cls.mpp:
        print(f"{options.weights}: trained at {method.mpp:.4g} µm/px; the network sees all at that.", file=sys.stderr)
    classes, why = class_list.classes_of(facts) if facts else ((), "")
    classes = list(classes) if len(classes) == types else [f"type {k}" for k in range(1, types + 1)]
    for sentence in (why, fit.left_out(facts) if facts and facts.left_out else ""):
        if sentence:
            print(sentence, file=sys.stderr)
    made_by = {"method": str(spec), "version": cls.version, "weights": facts.sha256 if facts else None}
    # another package's code may change with its version; the results of our own methods keep their keys
    package = {"package": name} if (name := registry.package_of(spec.name)) else {}
    return method, classes, made_by | package | {"mpp": method.mpp}
