"""Failing asserts of the public suites tell both sides."""

import pytest

pytest.register_assert_rewrite("onefold.testing.contracts")
