# PYTHON_ARGCOMPLETE_OK
"""`python -m benchmark COMMAND`, for the commands in `benchmark/commands`.

Exit codes: 0 done, 1 a cell failed or a reproduced figure is outside its tolerance, 2 bad input (one sentence on
stderr), 12 a cell's memory did not suffice, 130 interrupted, 141 output not read.
"""

import argparse
import gc
import os
import re
import sys

from benchmark import __version__, commands
from benchmark.runtime import threads
from benchmark.runtime.control_signs import guarded
from benchmark.runtime.errors import OUT_OF_MEMORY, InputError, OutOfMemory, near_miss, short
from benchmark.runtime.paths import IN_CHECKOUT, ROOT

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPU cannot do, the processor does


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that refuses a wrong option in one line, without the usage."""

    words: list[str] = []  # what it was called with

    def parse_known_args(self, args=None, namespace=None):
        self.words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def unknown(self, word: str) -> str:
        """The sentence on a word that stands for no option of this command."""
        hint = near_miss(word.partition("=")[0], self._option_string_actions, 0.7)
        name = self.prog.rpartition(" ")[2]
        return f"'{name}' does not know '{short(word)}'.{hint} `{self.prog} --help` lists what there is."

    def error(self, message: str):
        for word in self.words if "arguments are required" in message else ():
            # a misspelt option is why another is missing; argparse takes options that are cut short
            option = word.partition("=")[0]
            if option.startswith("--") and not any(known.startswith(option) for known in self._option_string_actions):
                self.exit(2, f"error: {self.unknown(word)}\n")
        refused = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        hint = near_miss(refused[1], re.findall(r"[\w-]+", refused[2])) if refused else ""
        self.exit(2, f"error: {message}.{hint} `{self.prog} --help` lists what there is.\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if "torch" not in sys.modules:  # which reads it when it is loaded
        threads.wait_gently()
    gc.set_threshold(50_000)  # importing torch makes millions of objects that stay; looking at them costs a second
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a table has signs that ASCII and Latin-1 lack
    with guarded():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    try:
        top = parser()
        if "_ARGCOMPLETE" in os.environ:
            _complete(top)
        words = sys.argv[1:] if arguments is None else arguments
        for word in words:
            _check_encodable(word)
        # overrides first: an option with several values would take those behind it for more of them
        overrides = [word for word in words if re.match(r"recipe\.[\w.]+=", word)]
        options, unknown = top.parse_known_args([word for word in words if word not in overrides])
        if hasattr(options, "overrides"):
            options.overrides = [*options.overrides, *overrides]
        else:
            unknown += overrides
        if unknown:
            raise InputError(_commands(top)[options.command].unknown(unknown[0]))
        code = options.function(options)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader (`… | head`) has had enough; nor must Python's own flush at the end complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except InputError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)  # names may hold line ends
        return OUT_OF_MEMORY if isinstance(error, OutOfMemory) else 2
    except OSError as error:
        where = error.filename or "a file"
        print(
            f"error: {where}: {error.strerror or error}; free space or choose another folder.",
            file=sys.stderr,
        )
        return 2
    except MemoryError as error:
        print(f"error: the memory does not suffice ({error}); use smaller or fewer images at once.", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "benchmark").partition(".")[0] == "benchmark":
            raise
        advice = f"go through make, or call {ROOT / '.venv/bin/python'} -m benchmark" if IN_CHECKOUT else "install it"
        print(
            f"error: the Python package '{error.name}' is not installed for {sys.executable}; {advice}.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def _complete(top: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line may go on, and end."""
    try:
        import argcomplete
    except ImportError:
        sys.exit(1)  # the shell asked; nothing must run
    argcomplete.autocomplete(top)


def _check_encodable(word: str) -> None:
    """Refuse what no name of a file can hold, before it is taken for one."""
    try:
        encoded = os.fsencode(word)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise InputError(f"the command line: {word!a} holds a character that no name of a file can hold; leave it out.")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = Parser(
        prog="python -m benchmark",
        description="Nuclei segmentation with frozen foundation models, measured fairly.",
        epilog="example: python -m benchmark ablation",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=__version__)
    sub = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands.names():
        module = commands.module(name)
        command = sub.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example: python -m benchmark {name} {module.EXAMPLE}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(command)
        command.set_defaults(function=module.run)
    return top


def _commands(top: argparse.ArgumentParser) -> dict[str, Parser]:
    """Name -> parser of each command."""
    (subparsers,) = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    return subparsers.choices
