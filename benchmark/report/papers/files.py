"""The official files of a paper: where they are published, and which of them are there."""

from pathlib import Path

from benchmark.report.papers.paper import OfficialFile, Paper
from benchmark.report.render.table import Block, Table

Present = list[tuple[str, int | None, str]]  # row, split and name of each file that was found


def files_table(paper: Paper, present: Present, others: list[tuple[str, str]], searched: bool = True) -> Table:
    """A line per official file, with the names of those found for it.

    Args:
        present: the files found.
        others: (name, why it is none of the paper's) of what else lies in the folder.
        searched: whether a folder was looked at at all.
    """
    head = ["method", "split", "file", "published at", "licence", "size"]
    lines = [[*head, "found"] if searched else head]
    for file in paper.files:
        names = ", ".join(_names(file, present))
        line = [f"{paper.method}@{file.row}", "not known" if file.split is None else str(file.split), file.name]
        line += [file.published_at, file.licence, file.size]
        lines.append([*line, names or "missing"] if searched else line)
    slots = {(file.row, file.split) for file in paper.files}
    unlisted = [name for row, split, name in present if (row, split) not in slots]
    notes = [
        f"{name}: its split is not known; it has no place of its own among the published files." for name in unlisted
    ]
    notes += [f"{name} is not used: {why.rstrip('.')}." for name, why in others]
    if not searched:
        notes += [f"Side by side only, without a verdict: {' '.join(paper.reservation.split())}."] * bool(
            paper.reservation
        )
        notes += list(paper.remarks)
    title = f"{paper.name}: {paper.title}, protocol `{paper.protocol}`, official files"
    return Table("files", title, notes, [Block(lines, left=len(lines[0]))])


def lacking(paper: Paper, splits: tuple[int, ...], present: Present, folder: Path) -> list[str]:
    """In words, the files of these splits that were not found: which, where published, licence, size."""
    files = [file for file in paper.files if not _names(file, present) and file.split in (None, *splits)]
    # those that one can get first
    return [_missing(paper, file, folder) for file in sorted(files, key=lambda file: not _published(file))]


def _missing(paper: Paper, file: OfficialFile, folder: Path) -> str:
    split = f", split {file.split}" if file.split else ""
    where = f"published at {file.published_at}" if _published(file) else file.published_at
    return (
        f"missing in {folder}: {paper.method}@{file.row}{split} (file {file.name}; {where}; licence {file.licence}; "
        f"size {file.size})"
    )


def _published(file: OfficialFile) -> bool:
    return not file.published_at.startswith("not ")


def _names(file: OfficialFile, present: Present) -> list[str]:
    return [name for row, split, name in present if (row, split) == (file.row, file.split)]
