"""`reference`: keep the runs on the embedded data under docs/reference, renew the README's results and the ledger."""

import os
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import CHECKOUT

HELP = (
    "Keep the finished runs on the embedded data under docs/reference, renew the README's results from them, and add "
    "reproduced figures to the ledger."
)
EXAMPLE = "--only-claim"
CLAIMS = {  # folder of docs/reference -> experiment whose kept runs it holds, its heading on the page of the answers
    "claim": ("claim", "Drawn images"),
    "real": ("claim_real", "Real images: crops of CoNSeP and MoNuSeg, not PanNuke"),
}


def arguments(parser) -> None:
    shared.results(parser)
    shared.reports(parser, "where `make report` wrote")
    parser.add_argument("--out", type=Path, default=_own("docs/reference/embedded"), help="where they go")
    parser.add_argument("--readme", type=Path, default=_own("README.md"), help="file with the marks of the results")
    parser.add_argument(
        "--ledger", type=Path, default=_own("docs/reference/ledger.csv"), help="where reproduced figures go"
    )
    parser.add_argument(
        "--answers", type=Path, default=_own("docs/claim.md"), help="page with the marks of the claim's answers"
    )
    parser.add_argument(
        "--representations",
        type=Path,
        default=_own("docs/representations.md"),
        help="page with the marks of the gains by representation",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--only-ledger", action="store_true", help="add to the ledger, and do nothing else")
    only.add_argument("--only-claim", action="store_true", help="leave the runs on the embedded data as they are")


def _own(name: str) -> Path | None:
    """A file of the checkout, None where there is none."""
    return CHECKOUT and CHECKOUT / name


def run(options) -> int:
    pages = ("out", "readme", "ledger", "answers", "representations")
    if lacking := [name for name in pages if getattr(options, name) is None]:
        raise InputError(
            "`reference` renews documents of a checkout, and the current folder lies in none; go into one, or name "
            f"{' and '.join(f'--{name}' for name in lacking)}."
        )
    from benchmark.report.papers import ledger, paper
    from benchmark.results.collect import runs

    papers = [paper.find(name) for name in paper.names()]
    added = ledger.append(papers, runs(options.results), options.ledger)
    print(f"{added} new lines in {options.ledger}")
    if options.only_ledger:
        return 0
    if not options.only_claim:
        _embedded(options)
    _claim(options)
    _representations(options)
    return 0


def _embedded(options) -> None:
    """Keep the runs on the embedded data, and renew the README's results from them."""
    from benchmark.experiment.config import load
    from benchmark.report import readme

    kept = readme.keep(options.results, options.reports, options.out)
    methods = [f"{m}@small" for m in load("main").methods]
    readme.put(
        options.readme, readme.section(options.out, methods, os.path.relpath(options.out, options.readme.parent))
    )
    print(f"{len(kept)} runs kept in {options.out}; {options.readme} renewed")


def _claim(options) -> None:
    """Renew what follows from the kept runs of the claim: tables and figures, the README, the page of the answers."""
    from benchmark.experiment.config import load
    from benchmark.report import claim_answers, readme

    sections, short = [], ""
    for name, (experiment, heading) in CLAIMS.items():
        folder = options.out.parent / name
        if not (folder / "runs").is_dir():
            continue
        chosen = load(experiment)
        grid = shared.expected_methods(experiment, chosen.dataset), list(chosen.folds), list(chosen.seeds)
        claim_answers.renew(folder, *grid)
        if name == "claim" and (folder / "claim.csv").is_file():  # before the first pair there is nothing to show
            short = claim_answers.section(folder, *grid, os.path.relpath(folder, options.readme.parent), whole=False)
        link = os.path.relpath(folder, options.answers.parent)
        sections.append(f"### {heading}\n\n{claim_answers.section(folder, *grid, link, whole=True)}")
    # written when all are there: a damaged run of one stops all
    if short:
        readme.put(options.readme, short, claim_answers.MARKS)
    if sections:
        readme.put(options.answers, "\n\n".join(sections), claim_answers.MARKS)
        print(f"{len(sections)} sections of answers renewed in {options.answers}")


def _representations(options) -> None:
    """Renew the gains by representation, of the claim's kept runs and those beside them."""
    from benchmark.experiment.config import load
    from benchmark.report import readme
    from benchmark.report import representation_answers as page

    out = options.out.parent / page.NAME
    if not (out / "runs").is_dir():
        return
    chosen = load(page.NAME)
    grid = shared.expected_methods(page.NAME, chosen.dataset), list(chosen.folds), list(chosen.seeds)
    kept = [options.out.parent / "claim" / "runs", out / "runs"]
    text = page.renewed(kept, out, *grid, os.path.relpath(out, options.representations.parent))
    readme.put(options.representations, text, page.MARKS)
    print(f"gains by representation renewed in {options.representations}")
