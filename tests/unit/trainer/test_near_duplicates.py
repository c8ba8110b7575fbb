"""Requests that are nearly the same are found, and stay on one side of the split for good."""

import hashlib
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.dataset.near_duplicates import NEAR, clusters, near, words
from services.trainer.dataset.rows import Split
from services.trainer.dataset.splits import split

LONG = "Please find me a {} in the south of town that is open late on Sundays and takes cards"
# Requests of few words, so that they come near one another in every way: alone, in chains, in clusters.
TEXTS = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=30)


def _near(*texts: str) -> bool:
    return bool(near({str(number): text for number, text in enumerate(texts)})["0"])


@pytest.mark.parametrize(
    "other",
    [
        LONG.format("bakery"),
        LONG.format("baker's"),
        LONG.format("bakery").upper() + "!",
        "Please, find me a bakery in the south of town that's open late on Sundays and takes cards",
    ],
)
def test_another_word_case_or_mark_makes_no_other_request(other: str) -> None:
    assert _near(LONG.format("bakery"), other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is order 7?", "Where is order 8?"),
        ("What is 5 - 3?", "What is 5 + 3?"),
        ("Find flats under 1.5 million", "Find flats under 15 million"),
        ("Can you find me a comedy in Leeds?", "Can you find me a thriller in York?"),
        ("?!", "..."),
    ],
)
def test_what_is_asked_for_makes_another_request(one: str, other: str) -> None:
    assert not _near(one, other)


def test_scripts_without_spaces_are_compared_sign_by_sign() -> None:
    assert _near("我想在上海预订一家便宜的酒店", "我想在上海预订一家便宜的酒店吗")
    assert not _near("我想在上海预订一家便宜的酒店", "明天北京的天气怎么样")


def test_a_template_does_not_make_all_that_is_filled_into_it_one_request() -> None:
    template = "We keep five queues for our tickets. Say to which of them this one belongs, and why: order {} is late"
    texts = {str(number): template.format(number) for number in range(100)}
    assert len(clusters(near(texts))) == 100
    texts["again"] = template.format(7).upper()
    assert {"7", "again"} in map(set, clusters(near(texts)))


@given(TEXTS)
def test_every_near_pair_is_found_and_no_other(texts: list[str]) -> None:
    named = {str(number): text for number, text in enumerate(texts[:10])}  # so few that no pair of words is common
    found = near(named)
    for one, other in combinations(named, 2):
        a, b = (set(pairwise(w)) or {w} for w in (words(named[one]), words(named[other])))
        assert (other in found[one]) == (one in found[other]) == (len(a & b) >= NEAR * len(a | b))


@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from([0.2, 0.5]))
def test_no_request_to_train_on_is_ever_near_to_a_held_out_one(batches: list[list[str]], share: float) -> None:
    assigned: dict[str, Split] = {}
    seen: dict[str, str] = {}
    for batch in batches:
        new = {hashlib.sha256(text.encode()).hexdigest(): text for text in batch}
        seen |= new
        for present in (new, seen):  # requests go, and come back
            neighbours = near(present)
            sides = split(neighbours, assigned, share)
            held_out = {key for key, side in sides.items() if side == "holdout"}
            assert not [key for key, side in sides.items() if side == "train" and neighbours[key] & held_out]
            assert {key for key in present if assigned.get(key) == "holdout"} <= held_out, "the hold-out never moves"
            assert all(assigned.get(key, side) == side for key, side in sides.items())
            assigned = sides | assigned


def test_new_requests_follow_those_they_are_near_to_and_a_bridge_is_left_out() -> None:
    neighbours = {
        "held": {"near-held", "bridge"},
        "trained": {"near-trained", "bridge"},
        "bridge": {"held", "trained"},
        "near-held": {"held", "behind"},
        "near-trained": {"trained"},
        "behind": {"near-held"},
    }
    sides = split(neighbours, {"held": "holdout", "trained": "train"}, holdout_share=0.5)
    assert sides == {
        "held": "holdout",
        "near-held": "holdout",
        "behind": "holdout",
        "trained": "train",
        "near-trained": "train",
    }


def test_what_was_trained_on_beside_a_near_held_out_request_is_trained_on_no_more() -> None:
    neighbours = {"held": {"trained"}, "trained": {"held"}}
    assert split(neighbours, {"held": "holdout", "trained": "train"}, holdout_share=0.5) == {"held": "holdout"}
