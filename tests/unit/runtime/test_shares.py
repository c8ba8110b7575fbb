import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from services.runtime.shares import FEWEST, Share, chance_of_fall

SHARES = st.integers(FEWEST, 200).flatmap(lambda of: st.builds(Share, st.integers(0, of), st.just(of)))


@given(SHARES)
def test_the_interval_is_wilsons(share: Share) -> None:
    wanted = binomtest(share.right, share.of).proportion_ci(method="wilson")
    assert share.interval == pytest.approx((wanted.low, wanted.high), abs=1e-6)


@given(SHARES, SHARES)
def test_the_chance_of_a_fall_is_that_of_fishers_exact_test(before: Share, latest: Share) -> None:
    table = [[latest.right, latest.of - latest.right], [before.right, before.of - before.right]]
    assert chance_of_fall(before, latest) == pytest.approx(fisher_exact(table, "less").pvalue, abs=1e-9)


def test_of_too_few_nothing_is_said() -> None:
    assert chance_of_fall(Share(19, FEWEST - 1), Share(0, 50)) is None
    assert chance_of_fall(Share(100, 100), Share(0, FEWEST - 1)) is None


def test_of_nothing_nothing_is_known() -> None:
    assert (Share(0, 0).value, Share(0, 0).interval) == (0.0, (0.0, 1.0))
