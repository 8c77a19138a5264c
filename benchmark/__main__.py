# PYTHON_ARGCOMPLETE_OK
from benchmark.cli import main

raise SystemExit(main())
