"""Helpers are in `tests.support`; their assertions explain themselves as those of tests do."""

import pytest

pytest.register_assert_rewrite("tests.support")
