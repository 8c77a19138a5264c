"""The Parquet files of records, read into arrays: a DataFrame, which costs more than to read it, is built at access."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

# kinds of dtype of the columns on which scores compute; of parquet files that are damaged or of another program
_KINDS = {
    "images": {"image": "iu", "n_true": "iu", "n_pred": "iu", "mpp": "f", "typed": "b", "pred_typed": "b"},
    "overlaps": {"image": "iu", "true_id": "iu", "true_type": "iu", "pred_id": "iu", "pred_type": "iu", "pixels": "iu"},
    "nuclei": {"image": "iu", "id": "iu", "type": "iu", "area": "iu", "match": "iu", "border": "b", "iou": "f"},
}
_KINDS["nuclei"] |= {"points": "b", "touching": "b", "x": "f", "y": "f", "d_um": "f", "neighbour_um": "f"}
_KINDS["images"] |= dict.fromkeys(("height", "width", "true_pixels", "pred_pixels", "both_pixels"), "iu")
_KINDS["images"] |= dict.fromkeys(("image_id", "tissue", "source"), "OUT")


class Stored(Mapping):
    """One table as it was read: a mapping of its columns, arrays as a DataFrame's columns convert to, a column of
    categories as pd.Categorical.

    Args:
        table: a pyarrow.Table.
    """

    def __init__(self, table):
        self._table = table
        self._columns = {name: _array(table.column(i)) for i, name in enumerate(table.column_names)}

    def __getitem__(self, name: str):
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def frame(self) -> pd.DataFrame:
        """The table as a DataFrame."""
        return self._table.to_pandas(use_threads=False)


def read(folder: Path, names: Iterable[str]) -> dict[str, Stored]:
    """The tables of these names, of <name>.parquet in a folder.

    Raises:
        ValueError: a table is absent or damaged, or a column that scores need is not there or of another kind.
    """
    import pyarrow.parquet as pq

    missing = [name for name in names if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise ValueError(f"'{folder}' holds no {missing[0]}.parquet, expected the records of a finished run")
    tables = {}
    for name in names:
        try:
            # pandas.read_parquet gives the same in twice the time; a thread that reads ahead is not worth its start
            with pq.ParquetFile(folder / f"{name}.parquet", pre_buffer=False) as file:
                table = tables[name] = Stored(file.read(use_threads=False))
        except Exception as error:  # pyarrow and pandas stumble over damaged bytes in any way
            raise ValueError(f"{name}.parquet cannot be read ({error!s:.200})") from error
        for column, kinds in _KINDS[name].items():
            kind = table[column].dtype.kind if column in table else "no such column"
            if kind not in kinds:
                raise ValueError(f"{name}.parquet is damaged: its column '{column}' is of kind {kind}")
    return tables


def _array(column):
    """A pyarrow.ChunkedArray as an array or pd.Categorical."""
    import pyarrow.types as types

    kind = column.type
    if column.num_chunks == 1 and not column.null_count:  # the same as below without building a Series
        if types.is_primitive(kind) or types.is_large_string(kind) or types.is_string(kind):
            return column.chunk(0).to_numpy(zero_copy_only=False)
        if types.is_dictionary(kind):
            values = column.chunk(0)
            return pd.Categorical.from_codes(values.indices, dtype=_dtype(*values.dictionary.to_pylist()))
    series = column.to_pandas()
    return series.array if isinstance(series.dtype, pd.CategoricalDtype) else np.asarray(series)


@functools.cache
def _dtype(*categories) -> pd.CategoricalDtype:
    """Of an unordered column; to make one takes as long as to read it."""
    return pd.CategoricalDtype(categories)
