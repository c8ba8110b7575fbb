"""What stands in texts in place of personal data and secrets: `<EMAIL_1>`, its kind and a number."""

import re

PLACEHOLDER = re.compile(r"<([A-Z]+)_([0-9]{1,9})>")
# New numbers go on after those that texts hold already, but for larger ones: no more than nine digits can be read.
MOST_TAKEN = 99_999_999
