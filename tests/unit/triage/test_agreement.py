"""How far experts agree, held to worked examples of the literature and to known libraries."""

from collections.abc import Mapping, Sequence

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from services.triage.domain.agreement import (
    MINIMUM_ITEMS,
    Agreement,
    TaskAgreement,
    agreement,
    cohens_kappa,
    krippendorffs_alpha,
)


def of(raters: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Ratings by item, of rows by rater in which a `.` is a missing value."""
    items = range(max(map(len, raters.values())))
    return {str(n): {rater: row[n] for rater, row in raters.items() if row[n] != "."} for n in items}


def table(counts: Sequence[Sequence[int]]) -> dict[str, dict[str, str]]:
    """Ratings of two, by how often one's value (rows) met the other's (columns)."""
    cells = [(i, j) for i, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]
    return of({"ana": [str(i) for i, _ in cells], "bo": [str(j) for _, j in cells]})


def test_kappa_of_fleiss_cohen_and_everitt() -> None:
    # "Large sample standard errors of kappa and weighted kappa", Psychological Bulletin 72 (1969): .429 of 200 items.
    found = cohens_kappa(table([[106, 10, 4], [22, 28, 10], [2, 12, 6]]), "ana", "bo")
    assert found.items == 200
    assert found.value == pytest.approx(0.429, abs=5e-4)
    # The standard error there, of a normal interval, is .0537.
    assert found.low == pytest.approx(0.429 - 1.96 * 0.0537, abs=0.02)
    assert found.high == pytest.approx(0.429 + 1.96 * 0.0537, abs=0.02)


# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): its data with missing values, .743 if nominal.
FOUR_OBSERVERS = {"a": "123321412...", "b": "1233224125.3", "c": ".3332342251.", "d": "12332441251."}


def test_alpha_of_four_observers_with_missing_values() -> None:
    found = krippendorffs_alpha(of(FOUR_OBSERVERS), minimum_items=11)
    assert (found.items, found.value) == (11, pytest.approx(0.743, abs=5e-4))


def test_alpha_of_two_observers_of_ten_yes_or_no_questions() -> None:
    # Ibid.: 14 values are no, 6 yes, and of four pairs the values differ: .095.
    found = krippendorffs_alpha(of({"meg": "0000010000", "owen": "0000011111"}), minimum_items=10)
    assert found.value == pytest.approx(0.095, abs=5e-4)


RATINGS = st.integers(2, 4).flatmap(
    lambda raters: st.lists(st.lists(st.sampled_from("abc."), min_size=raters, max_size=raters), min_size=2)
)


@given(RATINGS)
def test_alpha_is_that_of_the_krippendorff_package(rows: list[list[str]]) -> None:
    ratings = of({str(n): "".join(column) for n, column in enumerate(zip(*rows, strict=True))})
    counts = [[row.count(value) for value in "abc"] for row in rows]
    given_values = {value for row in rows if len(row) - row.count(".") > 1 for value in row} - {"."}
    assume(len(given_values) > 1)
    wanted = krippendorff.alpha(value_counts=np.array(counts), level_of_measurement="nominal")
    assert krippendorffs_alpha(ratings, minimum_items=1).value == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    one, other = zip(*pairs, strict=True)
    assume(len({*one, *other}) > 1)
    wanted = cohen_kappa_score(one, other)
    assert cohens_kappa(of({"ana": one, "bo": other}), "ana", "bo", minimum_items=1).value == pytest.approx(
        wanted, abs=1e-9
    )


def test_of_too_few_items_there_is_no_number() -> None:
    few, enough = ("ab" * MINIMUM_ITEMS)[: MINIMUM_ITEMS - 1], ("ab" * MINIMUM_ITEMS)[:MINIMUM_ITEMS]
    assert krippendorffs_alpha(of({"ana": few, "bo": few})) == Agreement(MINIMUM_ITEMS - 1)
    assert krippendorffs_alpha(of({"ana": enough, "bo": enough})).value == 1
    assert krippendorffs_alpha({}) == Agreement(0)


def test_where_chance_alone_would_agree_there_is_no_number() -> None:
    assert krippendorffs_alpha(of({"ana": "a" * 50, "bo": "a" * 50})) == Agreement(50)
    assert cohens_kappa(of({"ana": "a" * 50, "bo": "a" * 50}), "ana", "bo") == Agreement(50)


def test_full_agreement_on_few_items_is_not_certain() -> None:
    found = krippendorffs_alpha(of({"ana": "ab" * 10, "bo": "ab" * 10}))
    assert (found.value, found.high) == (1, 1)
    # Of 20 items without a difference, up to one in six might have had one (Clopper and Pearson): .168 of .513.
    assert found.low == pytest.approx(1 - (1 - 0.025 ** (1 / 20)) / (1 - 19 / 39), abs=1e-9)


def test_more_items_make_it_surer() -> None:
    def width(times: int) -> float:
        found = cohens_kappa(table([[20 * times, 5 * times], [10 * times, 15 * times]]), "ana", "bo")
        assert found.value == pytest.approx(0.4)
        assert found.low is not None
        assert found.high is not None
        assert found.low < 0.4 < found.high
        return found.high - found.low

    assert width(100) == pytest.approx(width(1) / 10, rel=0.2)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    # Two who know the answer 80 times of 100 and else guess, of two values: kappa is .8 * .8 = .64.
    chance = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        truth = chance.integers(0, 2, 80)
        said = [np.where(chance.random(80) < 0.8, truth, chance.integers(0, 2, 80)) for _ in range(2)]
        found = cohens_kappa(of({"ana": list(map(str, said[0])), "bo": list(map(str, said[1]))}), "ana", "bo")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.64 <= found.high
    assert 0.90 <= held / 300 <= 0.99


def test_a_task_has_the_agreement_of_all_of_each_expert_and_of_each_two() -> None:
    both = ("confirmed", "corrected")
    ratings = {str(n): {"ana": both[n % 2], "bo": both[n % 2]} for n in range(40)}
    # cy judges what ana has judged, and is right half the time; bo and cy have nothing in common.
    ratings |= {str(n): {"ana": both[n % 2], "cy": both[n // 2 % 2]} for n in range(40, 80)}
    found = agreement(ratings)
    assert found.pairs.keys() == {("ana", "bo"), ("ana", "cy")}
    assert found.pairs["ana", "bo"].value == 1
    assert found.pairs["ana", "cy"].value == pytest.approx(0)
    assert found.experts.keys() == {"ana", "bo", "cy"}
    assert found.experts["bo"].value == 1
    assert found.experts["ana"] == found.all_experts
    assert found.all_experts.items == 80
    cy, ana = found.experts["cy"].value, found.experts["ana"].value
    assert cy is not None
    assert ana is not None
    assert cy < ana < 1


def test_where_nobody_judged_what_others_did_there_is_nothing_to_compare() -> None:
    assert agreement({}) == TaskAgreement(Agreement(0), {}, {})


def test_of_a_great_many_guesses_hardly_more_agree_than_by_chance() -> None:
    chance = np.random.default_rng(1)
    values = chance.choice(["confirmed", "corrected", "unsafe"], (20_000, 5))
    ratings = {str(n): dict(zip("abcde", row, strict=True)) for n, row in enumerate(values)}
    found = krippendorffs_alpha(ratings)
    assert found.low is not None
    assert found.high is not None
    assert -0.02 < found.low < 0 < found.high < 0.02
