"""Secrets in texts: keys, tokens and passwords, by their form and by what the text calls them. Pure.

All patterns take time linear in the text.
"""

import re
from collections.abc import Iterator

# Matches, in bytes, wherever there could be one.
SECRET_HINT = (
    rb"akia|asia|aiza|gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-age|[rs]k_live_|[rs]k_test_|sk-|xox[abeoprs]-|eyj"
    rb"|-----begin |(pass(word|wd|phrase|code)|pwd|secret|token|key)[\\\"'`*]{0,6}( ?[:=]| is )"
    rb"|(bearer|basic) [\w.~+/-]{16}|://[^\s/@]+@"
)
# Keys and tokens by the form that their issuers give them, in lower case as all that is read here.
_ISSUED = re.compile(
    r"(?:(?<![\w-])|(?<=\\[nrt]))(?:"
    r"a(?:kia|sia)[0-9a-z]{16}"  # Amazon
    r"|aiza[\w-]{35}"  # Google
    r"|gh[pousr]_[0-9a-z]{36,}+|github_pat_\w{22,}+"
    r"|glpat-[\w-]{20,}+"  # GitLab
    r"|hf_[a-z]{34,}+"  # Hugging Face
    r"|npm_[0-9a-z]{36}|pypi-age[\w-]{50,}+"
    r"|[rs]k_(?:live|test)_[0-9a-z]{16,}+"  # Stripe
    r"|sk-(?=[a-z_-]*[0-9])[\w-]{20,}+"  # OpenAI, Anthropic and others after them
    r"|xox[abeoprs]-[0-9a-z-]{10,}+"  # Slack
    # JSON Web Tokens (RFC 7519), whose first two parts begin with {", and the beginning of one where the text ends.
    r"|eyj(?=[\w-]*[0-9])[\w-]{8,}+(?:\.eyj[\w-]{8,}+(?:\.[\w-]*+|\Z)|\.?\Z)"
    r")(?![\w-])"
)
# Private keys as text (RFC 7468); one that has no end yet goes to the end of the text.
_PRIVATE_KEY = re.compile(
    r"-{5}begin (?:[a-z0-9]+ ){0,4}private key(?: block)?-{5}.*?(?:-{5}end [a-z0-9 ]{0,40}-{5}|\Z)", re.DOTALL
)
# What the text calls a secret. Without both letters and digits it could be any word or number.
_NAMED_SECRET = re.compile(
    r"(?:pass(?:word|wd|phrase|code)|(?<![a-z])pwd|secret|token|(?:api|access|auth|private)[ _-]?key)"
    r"(?:\\?[\"'`*]){0,3}(?: ?(?::|=|=>|:=) ?| is )(?:\\?[\"'`*]){0,3}"
    r"([^\s\"'`<>,;]{8,}+)"
)
_AUTHORIZATION = re.compile(r"(?<![a-z])(?:bearer|basic) ([\w.~+/-]{16,}+=*)")
_IN_ADDRESS = re.compile(r"://[^\s/:@]{0,64}:([^\s/@]{1,128})@")


def find_secrets(text: str) -> Iterator[tuple[int, int]]:
    """Yield where secrets are, (start, end), in a text in lower case."""
    for pattern in (_ISSUED, _PRIVATE_KEY):
        for match in pattern.finditer(text):
            yield match.span()
    for pattern in (_AUTHORIZATION, _IN_ADDRESS):
        for match in pattern.finditer(text):
            yield match.span(1)
    for match in _NAMED_SECRET.finditer(text):
        value = match.group(1).rstrip(".!?)]}\\")  # of the sentence or the string around it
        if re.search("[0-9]", value) and re.search(r"[^\W\d_]", value):
            yield match.start(1), match.start(1) + len(value)
