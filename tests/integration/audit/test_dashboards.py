"""Every query of Grafana's dashboards runs, as the read-only analyst, on what is on record."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.runtime.clickhouse import ClickHouse

GRAFANA = Path(__file__).parents[3] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
# As the plugin writes its macros out, from the story's day to the next, and one value for each variable.
SUBSTITUTES = {
    r"\$__timeFilter\((\w+)\)": r"\1 >= toDateTime('2026-05-04 00:00:00') AND \1 <= toDateTime('2026-05-05 00:00:00')",
    r"\$__dateFilter\((\w+)\)": r"\1 >= toDate('2026-05-04') AND \1 <= toDate('2026-05-05')",
    r"\$__timeInterval\((\w+)\)": r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
    r"\$\{tenant:singlequote\}": "'customer-care'",
}
# What the story has nothing of: policies, and what is written when all is not well or by other services.
MAY_BE_EMPTY = {"Policies that decided", "Checkpoints: how far each chain is signed", "Erasures"}


def queries() -> list[Any]:
    found = []
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            found += [
                pytest.param(panel["title"], target["rawSql"], id=f"{name}: {panel['title']}")
                for target in panel["targets"]
            ]
        found += [
            pytest.param(variable["name"], variable["query"], id=f"{name}: ${variable['name']}")
            for variable in dashboard["templating"]["list"]
        ]
    return found


def written_out(query: str) -> str:
    for macro, replacement in SUBSTITUTES.items():
        query = re.sub(macro, replacement, query)
    assert "$" not in query, "a macro or a variable is left"
    return query


@pytest.mark.parametrize(("title", "query"), queries())
async def test_every_query_runs_and_finds_what_is_on_record(
    analyst: ClickHouse, told: dict[str, str], title: str, query: str
) -> None:
    rows = await analyst.rows(written_out(query))
    assert rows or title in MAY_BE_EMPTY


def test_every_panel_asks_the_datasource_that_is_provisioned() -> None:
    assert len(DASHBOARDS) == 6
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    wanted = {"type": "grafana-clickhouse-datasource", "uid": "gyre"}
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert asked == [wanted] * len(asked)
            # A table is asked for as one, and a time series has its time under the name that the plugin looks for.
            (target,) = panel["targets"]
            assert (target["format"], target["queryType"]) == (
                (1, "table") if panel["type"] == "table" else (0, "timeseries")
            )
            assert panel["type"] == "table" or " AS time" in target["rawSql"]
