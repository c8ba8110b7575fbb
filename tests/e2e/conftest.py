"""These tests use the whole stack."""

from tests.whole_stack import gyre

__all__ = ["gyre"]
