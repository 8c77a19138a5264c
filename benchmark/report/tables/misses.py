"""The table of missed nuclei: what became of the true nuclei of each size, run by run."""

import pandas as pd

from benchmark.report.render.table import Block, Table

NOTE = (
    "A nucleus is found with an IoU above 0.5, so each stage must leave more than half of it. Not proposed: less than "
    "half of it has a probability of nucleus of 0.2; below the threshold: it has, but not the decoder's; removed: it "
    "is above the threshold and less than half of it lies in decoded nuclei (opening, smallest sizes); merged: it "
    "shares a decoded nucleus with another; split: no decoded nucleus holds half of it."
)


def misses_table(counted: dict[str, pd.DataFrame]) -> Table:
    """Shares of the true nuclei of each size by fate.

    Args:
        counted: a run's name -> its frame of `evaluation.misses.count`: bin, fate, n.
    """
    table = Table("misses", "What became of the true nuclei, by size (equivalent diameter)", [NOTE])
    for name, frame in counted.items():
        fates = list(dict.fromkeys(frame["fate"]))
        rows = [["size", "true nuclei", *fates]]
        for size, of_bin in frame.groupby("bin", sort=False):
            total = int(of_bin["n"].sum())
            shares = [f"{n / total:.1%}" if total else "–" for n in of_bin["n"]]
            rows.append([f"{size} µm", str(total), *shares])
        table.blocks.append(Block(rows, title=name))
        table.records += [{"run": name} | record for record in frame.to_dict("records")]
    return table
