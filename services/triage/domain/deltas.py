"""The difference between what the model said and what was wanted."""

from difflib import SequenceMatcher

from schemas.events import Edit

# Beyond this product of lengths, difflib (quadratic at worst) would hold up the process for longer than 0.1 s.
EXACT_CELLS = 1_000_000


def delta(said: str, wanted: str) -> tuple[tuple[Edit, ...], float]:
    """Return the edits that turn one text into another, in order, and how far apart the two are.

    The distance is 1 - 2M/T, with M characters matched of T in both texts (difflib's `ratio`): 0 the same, 1 nothing in
    common. Texts too long to be compared in time become one edit between their common start and end.

    Args:
        said: What the model answered; the edits' positions are characters of it.
        wanted: What should have been answered.
    """
    start = _common(said, wanted)
    rest_said, rest_wanted = said[start:], wanted[start:]
    end = _common(rest_said[::-1], rest_wanted[::-1])
    middle_said, middle_wanted = rest_said[: len(rest_said) - end], rest_wanted[: len(rest_wanted) - end]
    matched = start + end
    edits: list[Edit] = []
    if len(middle_said) * len(middle_wanted) <= EXACT_CELLS:
        matcher = SequenceMatcher(None, middle_said, middle_wanted, autojunk=False)
        for kind, i, j, k, m in matcher.get_opcodes():
            if kind == "equal":
                matched += j - i
            else:
                edits.append(Edit(start=start + i, end=start + j, text=middle_wanted[k:m]))
    else:
        edits.append(Edit(start=start, end=start + len(middle_said), text=middle_wanted))
    total = len(said) + len(wanted)
    return tuple(edits), 1 - 2 * matched / total if total else 0.0


def _common(one: str, other: str) -> int:
    """Count the characters that two texts begin with alike."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def apply(said: str, edits: tuple[Edit, ...]) -> str:
    """Return a text with edits made to it: what `delta` took apart, put together again."""
    parts, position = [], 0
    for edit in edits:
        parts += [said[position : edit.start], edit.text]
        position = edit.end
    return "".join([*parts, said[position:]])
