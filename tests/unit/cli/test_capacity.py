import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gyre.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["capacity", *arguments])


def test_without_a_load_it_plans_for_the_retailer() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert result.output.startswith("a retailer with 1,600 stores\n50,000 requests a mean day, 31 a store;")
    for column in ("Count", "Busy", "Wait", "Memory", "Partitions", "Stops at"):
        assert column in result.output
    assert "stated, not measured here" in result.output


def test_a_million_a_second_says_that_one_installation_cannot_do_it() -> None:
    output = run("million-a-second").output
    assert "One installation cannot do it: context stops at" in output
    assert "In all" in output


def test_options_take_the_place_of_the_loads_fields() -> None:
    result = run("--requests", "1000", "--per", "second", "--experts", "0", "--utilisation", "0.5", "--format", "json")
    plan = json.loads(result.output)
    assert plan["busiest_per_second"] == pytest.approx(2000)  # of a day twice as busy
    assert plan["people"] == 0
    assert max(part["utilisation"] for part in plan["parts"]) <= 0.5 + 1e-9


def test_a_load_that_is_printed_can_be_changed_and_planned_for(tmp_path: Path) -> None:
    printed = run("five-million-an-hour", "--format", "yaml").output
    content = yaml.safe_load(printed)
    content["title"] = "ours"
    file = tmp_path / "ours.yaml"
    file.write_text(yaml.safe_dump(content))
    ours, theirs = (json.loads(run(load, "--format", "json").output) for load in (str(file), "five-million-an-hour"))
    assert ours.pop("load").pop("title") == "ours"
    assert ours["parts"] == theirs["parts"]


def test_what_is_wrong_with_a_load_is_one_sentence_with_its_field(tmp_path: Path) -> None:
    file = tmp_path / "load.yaml"
    file.write_text(
        "title: x\nrequests: {count: 1, per: day}\ntasks: {a: {share: 0.5, prompt_tokens: 1, answer_tokens: 1}}"
    )
    result = run(str(file))
    assert result.exit_code == 1
    assert result.output == f"Error: {file}: tasks: the shares come to 0.500; wanted 1\n"
    assert run("--utilisation", "2").output.endswith("utilisation: Input should be less than 1\n")


def test_a_file_of_costs_that_lacks_something_is_told_with_its_field(tmp_path: Path) -> None:
    file = tmp_path / "costs.yaml"
    file.write_text("requests: {}")
    result = run("--costs", str(file))
    assert result.output == f"Error: {file}: requests.source: Field required\n"
