"""Text and tables as Windows, macOS and spreadsheets write them."""

import codecs
import csv
import io
import tomllib
from pathlib import Path

from benchmark.data.files import archive, names
from benchmark.data.files.archive import Member
from benchmark.runtime.errors import InputError

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read(path: Path | Member, most: int | None = None) -> str:
    """The text of a file in UTF-8, UTF-16 with its mark, or Windows-1252, without a mark at its head.

    Args:
        most: bytes that it may have, None for any number.

    Raises:
        InputError: unreadable, larger, or no text in one of these.
    """
    member = path if isinstance(path, Member) else Member(Path(path), "", (Path(path).name,))
    return decoded(member.read(most), member)


def decoded(content: bytes, where) -> str:
    """The text of bytes as `read` understands them; where: the file, for the sentence. Raises InputError as it does."""
    mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", "utf-8"))
    for each in (encoding, "cp1252"):
        try:
            text = content.removeprefix(mark).decode(each)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise InputError(f"{where}: expected text in UTF-8, found bytes of no known encoding; save it as UTF-8.")


def shallow(content, depth: int = 100):
    """`content`, values of lists and dicts. Raises RecursionError where they are nested more deeply than `depth`."""
    if isinstance(content, dict | list):
        if not depth:
            raise RecursionError("it is nested too deeply")
        for value in content.values() if isinstance(content, dict) else content:
            shallow(value, depth - 1)
    return content


def toml(path: Path) -> dict:
    """The content of a TOML file.

    Raises:
        InputError: as `read`, or no TOML; nested too deeply; a number too long.
    """
    content = read(path)
    try:
        return shallow(tomllib.loads(content))
    except RecursionError as error:
        raise InputError(f"{path} is not readable TOML (it is nested too deeply); correct it.") from error
    except Exception as error:  # tomllib passes on what int() and the like raise
        raise InputError(f"{path} is not readable TOML ({error}); correct it.") from error


def rows(path: Path | Member, most: int | None = None) -> list[list[str]]:
    """Rows of a table, header first: cells without blanks around them, empty rows left out.

    The cells are divided by what divides the header: commas, or semicolons or tabs, as spreadsheets of some countries
    write them.

    Args:
        most: as in `read`.

    Raises:
        InputError: as `read`, or no table.
    """
    text = read(path, most)
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep="):  # Excel's own remark
        first, text = rest.partition("\n")[0], rest
    divider = max(",;\t", key=first.count)
    with archive.reading(path):
        cells = list(csv.reader(io.StringIO(text), delimiter=divider))
    table = [[names.normal(cell) for cell in row] for row in cells]
    return [row for row in table if any(row)]


def whole(cell: str) -> int | None:
    """The whole number in a cell, None where it holds none; 3.0, as spreadsheets write 3, is one."""
    digits, _, zeros = cell.partition(".")
    return None if zeros.strip("0") else names.number(digits)


def table(path: Path | Member, most: int | None = None) -> list[dict[str, str]]:
    """Rows of a table as column -> cell; columns in small letters, empty ones without a name left out.

    Args:
        most: as in `read`.

    Raises:
        InputError: as `rows`; no header, a column twice, or a row with more or fewer cells than the header.
    """
    header, *body = rows(path, most) or [[]]
    columns = [name.lower() for name in header]
    while columns and not columns[-1]:
        columns.pop()
    if not columns or len(set(columns)) < len(columns):
        raise InputError(
            f"{path}: expected a header that names each column once, found {', '.join(columns) or 'none'}; "
            "correct its first line."
        )
    for number, row in enumerate(body, 1):
        if len(row) < len(columns) or any(row[len(columns) :]):
            raise InputError(
                f"{path}: expected {len(columns)} cells and a value in every column of every row, found {len(row)} "
                f"cells in row {number}; complete it."
            )
    return [dict(zip(columns, row)) for row in body]
