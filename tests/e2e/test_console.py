"""The console's overview, of what the whole stack has on record."""

import re

import httpx
import pytest

from embedded.environment import console_password_file, person
from tests.whole_stack import WholeStack, wait_for

pytestmark = pytest.mark.timeout(600)  # the first test starts the stack


def test_the_overview_has_the_numbers_that_are_on_record_and_shows_their_query(gyre: WholeStack) -> None:
    gyre.ask("Hello")
    url = f"http://{gyre.stack.settings.address('GYRE_TRIAGE_CONSOLE_PORT')}"
    with httpx.Client(base_url=url, timeout=60, follow_redirects=True) as console:
        password = console_password_file(gyre.stack.settings).read_text().strip()
        assert console.post("/sign-in", data={"name": person(), "password": password}).status_code == 200

        def agrees() -> bool:
            page = console.get("/overview", params={"span": "day"})
            shown = re.search(r'<a class="figure"[^>]*>([\d,]+)</a>', page.text)
            if shown is None:  # a busy machine may take longer than the page waits
                return False
            (recorded,) = gyre.rows("SELECT count() AS requests FROM gyre.interactions WHERE state = 'finished'")
            return 0 < recorded["requests"] == int(shown[1].replace(",", ""))

        wait_for(agrees, seconds=60)
        query = console.get("/overview/queries/totals", params={"span": "day"})
        assert "FROM gyre.minutes" in query.text
        assert "<th>requests</th>" in query.text
