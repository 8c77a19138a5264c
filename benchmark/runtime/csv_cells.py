"""Text in csv files: what a spreadsheet would take for a formula is marked as text."""

import re

from benchmark.runtime.control_signs import visible

SIGNS = "=+\\-@\t＝＋－＠"  # with which a formula begins: OWASP, "CSV Injection"
# at the start of a cell, or of what another separator than the comma would make one
FORMULA = re.compile(rf"(^|[;\t\n])( *)(?=[{SIGNS}])")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)


def csv_cell(value):
    """`value` as it may stand in a csv file that is opened in a spreadsheet; quoting is left to the csv writer.

    Text that begins like a formula, spaces aside, gets an apostrophe before it, as OWASP advises: a spreadsheet then
    shows the text and runs nothing. Numbers, also those written as text, stay as they are. Ends of lines become "\\n",
    because csv writers leave a lone carriage return unquoted and it begins a new row; other control signs are spelt
    out. A program that reads the file takes away an apostrophe that stands before one of these signs.
    """
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    return FORMULA.sub(r"\1'\2", visible(value.replace("\r\n", "\n").replace("\r", "\n")))
