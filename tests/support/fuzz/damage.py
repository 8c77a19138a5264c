"""Ways to damage an input: bytes, members of a zip, headers, values of JSON, lines of text."""

import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, random.Random], bytes]

EXTREMES = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\xff" * 8,
    b"\xff" * 7 + b"\x7f",
    b"\0\0\0\x01",
]
NUMBERS = (b"0", b"-1", b"99999999999", b"1" * 400, b"1e400", b"9223372036854775808", b"0.5", b"NaN", b"()")
DEEP = '"<deep>"'  # takes the place of brackets that json.dumps would not write
TOKENS = ("", "-1", "1e999", "nan", "true", "[]", "{}", '"x"', '""', "9" * 5000, "[" * 3000, "[" * 3000 + "]" * 3000)


def flip(content: bytes, rng: random.Random) -> bytes:
    """One to eight bits, half of the time within the first 256 bytes."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 8) if out else 0):
        out[rng.randrange(_end(out, rng))] ^= 1 << rng.randrange(8)
    return bytes(out)


def extreme(content: bytes, rng: random.Random) -> bytes:
    """A number of 4 or 8 bytes becomes 0, the largest or the smallest."""
    value, at = rng.choice(EXTREMES), rng.randrange(_end(content, rng) or 1)
    return content[:at] + value + content[at + len(value) :]


def digits(content: bytes, rng: random.Random) -> bytes:
    """A number in digits becomes another, without regard to its length."""
    places = list(re.finditer(rb"\d+", content[:20_000]))
    if not places:
        return flip(content, rng)
    place = rng.choice(places)
    return content[: place.start()] + rng.choice(NUMBERS) + content[place.end() :]


def truncate(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: rng.randrange(len(content) or 1)]


def splice(content: bytes, rng: random.Random) -> bytes:
    """A piece stands in another place too, is missing, or is random."""
    start, at = rng.randrange(len(content) or 1), rng.randrange(len(content) or 1)
    piece = content[start : start + rng.randint(1, 200)]
    piece = rng.choice((piece, b"", rng.randbytes(20), piece * 50))
    return content[:at] + piece + content[at + rng.choice((0, len(piece), 40)) :]


def empty(content: bytes, rng: random.Random) -> bytes:
    """Nothing, or one byte."""
    return rng.choice((b"", b"\0", b"\n", content[:1]))


BYTES: tuple[Damage, ...] = (flip, flip, extreme, extreme, digits, truncate, splice, empty)


def text_lines(content: bytes, rng: random.Random) -> bytes:
    """Of lines such as `key = value` or `a,b`: one value replaced, one line twice, missing, or joined to itself."""
    lines = content.decode().splitlines()
    k = rng.randrange(len(lines))
    token = rng.choice(TOKENS)
    what = rng.randrange(6)
    if what < 3:
        parts = re.split(r"([=,]\s*)", lines[k])
        parts[rng.randrange(len(parts))] = token
        lines[k] = "".join(parts)
    elif what == 3:
        lines.insert(rng.randrange(len(lines)), lines[k])
    elif what == 4:
        lines[k] = rng.choice(
            ('"' + lines[k], lines[k] * 20_000, ".".join("a" * 3000) + " = 1", "[a" + ".a" * 2000 + "]")
        )
    else:
        del lines[k]
    return "\n".join(lines).encode()


def json_value(content: bytes, rng: random.Random) -> bytes:
    """One value of a JSON replaced, removed, or its key written twice."""
    holder = [json.loads(content)]
    places = list(_places(holder))
    where, key = rng.choice(places)
    values = (None, True, -1, 0, 1e308, 10**400, float("nan"), "", "x", "9" * 9000, [], {}, [[]], {"a": {}}, "<deep>")
    what = rng.randrange(5)
    if what < 3:
        where[key] = rng.choice(values)
    elif what == 3 and where is not holder:
        del where[key]
    else:
        where[key] = [where[key]] * rng.choice((1, 2, 50))
    text = json.dumps(holder[0])
    if rng.random() < 0.1 and ": " in text:
        name = rng.choice(re.findall(r'"[^"]*": ', text) or ['"a": '])
        text = text.replace(name, f"{name}1, {name}", 1)
    depth = rng.choice((500, 100_000))
    return text.replace(DEEP, "[" * depth + "]" * depth).encode()


def npy_header(content: bytes, rng: random.Random) -> bytes:
    """Another shape, dtype or order in a header that is whole otherwise."""
    start = 10 + int.from_bytes(content[8:10], "little")
    head = content[10:start].decode("latin1").rstrip()
    shapes = ("(10**12,)", "(99999999999, 1)", "(-1, 5)", "(4, 0)", "()", "(1.5, 2)", "('a',)", "[3, 4]", "5", "None")
    shapes += (f"({2**63}, 1)", f"({2**40}, {2**40})", "(" * 150 + ")" * 150, "(True, 3)", "(3, 4, 0, 9999999999)")
    kinds = (
        "'|O'",
        "'<f16'",
        "'<c8'",
        "'|V12'",
        "'<M8[s]'",
        "'<U99999999'",
        "[('a', '<i4')]",
        "'<i3'",
        "4",
        "''",
        "'|S0'",
    )
    what = rng.randrange(4)
    if what == 0:
        head = re.sub(r"'shape': \(.*?\)", lambda _: f"'shape': {rng.choice(shapes)}", head)
    elif what == 1:
        head = re.sub(r"'descr': '.*?'", lambda _: f"'descr': {rng.choice(kinds)}", head)
    elif what == 2:
        head = re.sub(r"'fortran_order': \w+", f"'fortran_order': {rng.choice(('True', '7', 'None', '[]'))}", head)
    else:
        head = digits(
            rng.choice((head, head + "'''", head + "\n  (", "{" * 200, head[:-1])).encode("latin1"), rng
        ).decode("latin1")
    packed = (head + "\n").encode("latin1")
    version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = struct.pack("<H" if version[0] == 1 else "<I", len(packed))
    return content[:6] + version + size + packed + content[start:]


def in_zip(inner: Damage) -> Damage:
    """A member damaged by `inner` under a right checksum, missing, twice, or under another name."""

    def damage(content: bytes, rng: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        k = rng.randrange(len(members))
        name, value = members[k]
        what = rng.randrange(8)
        if what < 5:
            members[k] = name, inner(value, rng) if value else b"x"
        elif what == 5:
            del members[k]
        elif what == 6:
            members[k] = rng.choice((name + "/", "../" + name, "", name.upper())), value
        else:
            members.append(members[k])
        out = io.BytesIO()
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w") as archive:  # of a name twice
            for name, value in members:
                with archive.open(zipfile.ZipInfo(name), "w") as member:
                    member.write(value)
        return out.getvalue()

    return damage


def png_chunk(content: bytes, rng: random.Random) -> bytes:
    """A chunk with other values under a right checksum."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    k = rng.randrange(len(chunks))
    kind, data = chunks[k]
    chunks[k] = kind, rng.choice((flip, extreme, truncate))(data, rng)
    if rng.random() < 0.2:
        chunks.insert(k, (rng.choice((b"tEXt", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL")), rng.randbytes(9)))
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + b"".join(packed)


def safetensors_header(content: bytes, rng: random.Random) -> bytes:
    """Another value in the header, whose length is right."""
    size = int.from_bytes(content[:8], "little")
    head = json_value(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(head)) + head + content[8 + size :]


def parquet_column(content: bytes, rng: random.Random) -> bytes:
    """A whole parquet file with a column of other values or types, without one, or without rows."""
    import pandas as pd

    table = pd.read_parquet(io.BytesIO(content))
    column = rng.choice(list(table.columns))
    values = (np.nan, -1, 2**62, 1e308, "x", None, True, [[1]], "9" * 99)
    what = rng.randrange(4)
    if what == 0:
        del table[column]
    elif what == 1:
        table[column] = pd.Series([rng.choice(values)] * len(table), table.index)
    elif what == 2:
        table = table.iloc[: rng.choice((0, 1))]
    else:
        table[column] = table[column].astype(str)
    out = io.BytesIO()
    table.to_parquet(out)
    return out.getvalue()


def xml_value(content: bytes, rng: random.Random) -> bytes:
    """A value of an XML replaced, an element missing, twice or called otherwise, or a document type with entities."""
    text = content.decode()
    token = rng.choice((*TOKENS, "1e9", "-7.5", "\u0663", "&deep;", "<", "x" * 9000)).replace('"', "&quot;")
    what = rng.randrange(5)
    if what < 2:
        place = rng.choice(list(re.finditer(r'(?<==")[^"]*(?=")', text)))
        text = text[: place.start()] + token + text[place.end() :]
    elif what < 4:
        place = rng.choice(list(re.finditer(r"<[^>]*>", text)))
        text = (
            text[: place.start()] + rng.choice(("", place[0] * 2, f"<{token}>", place[0] * 9000)) + text[place.end() :]
        )
    else:
        kinds = ('<!ENTITY deep "1">', '<!ENTITY deep SYSTEM "file:///etc/hostname">')
        text = f"<!DOCTYPE Annotations [{rng.choice(kinds)}]>" + text.replace('X="', 'X="&deep;', 1)
    return text.encode()


def parquet_cell(content: bytes, rng: random.Random) -> bytes:
    """A whole parquet file in which a cell is another, or a column of another type, missing, or empty."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    column = rng.randrange(table.num_columns)
    name, values = table.column_names[column], table.column(column).to_pylist()
    kind = table.schema.field(column).type
    what = rng.randrange(8)
    if what < 4:
        row = rng.randrange(len(values))
        values[row] = _other(values[row], rng)
        table = table.set_column(column, name, pa.array(values, kind))
    elif what == 4:
        kind = rng.choice((pa.string(), pa.int64(), pa.float64(), pa.binary(), pa.list_(pa.int8())))
        table = table.set_column(column, name, pa.nulls(len(values), kind))
    elif what == 5:
        table = table.remove_column(column)
    elif what == 6:
        table = table.slice(0, rng.choice((0, 1)))
    else:
        table = table.replace_schema_metadata({b"huggingface": rng.choice((b"{}", b"[", b'{"info": {"features": 1}}'))})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _other(value, rng: random.Random):
    """Another value of the same type, or none."""
    if value is None or rng.random() < 0.15:
        return None
    if isinstance(value, dict):
        key = rng.choice(list(value))
        return value | {key: _other(value[key], rng)}
    if isinstance(value, list):
        k = rng.randrange(len(value) or 1)
        changed = [_other(each, rng) if i == k else each for i, each in enumerate(value)]
        return rng.choice(([], value[:-1], value + value[:1], changed, changed))
    if isinstance(value, bytes):
        return rng.choice((flip, png_chunk, truncate, empty))(value, rng)
    if isinstance(value, str):
        return rng.choice(("", "x", "\0", "9" * 5000, "\n"))
    return rng.choice((-1, 0, 2**31, 2**62, 77))


def _places(holder) -> list:
    """(container, key) of every value within."""
    out = []
    for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        out.append((holder, key))
        if isinstance(value, dict | list):
            out += _places(value)
    return out


def _end(content, rng: random.Random) -> int:
    return min(len(content), 256) if rng.random() < 0.5 else len(content)
