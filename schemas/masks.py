"""What stands in texts in place of personal data and secrets: `<EMAIL_1>`, its kind and a number."""

import re

PLACEHOLDER = re.compile(r"<([A-Z]+)_([0-9]{1,9})>")
