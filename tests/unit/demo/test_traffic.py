from collections import Counter

import jsonschema  # type: ignore[import-untyped]  # published without types

from gyre.demo.checker import is_right
from gyre.demo.traffic import TASKS, traffic


def test_consumer_services_have_enough_held_out_requests_and_all_13_functions() -> None:
    ours = [request for request in traffic() if request.task == "consumer-services"]
    assert Counter(request.split for request in ours) == {"traffic": 439, "held-out": 109}
    assert {request.function for request in ours} == TASKS["consumer-services"]


def test_no_request_is_in_the_traffic_twice() -> None:
    ids = [request.id for request in traffic()]
    assert len(ids) == len(set(ids)) == 947


def test_tools_are_valid_json_schema_and_offer_the_right_function() -> None:
    for request in traffic():
        for tool in request.tools:
            jsonschema.Draft202012Validator.check_schema(tool["function"]["parameters"])
        assert request.function in {tool["function"]["name"] for tool in request.tools}


def test_the_expected_call_of_every_consumer_request_is_right_by_the_checker() -> None:
    for request in traffic():
        if request.task == "consumer-services":
            assert is_right(request, request.expected_call_json), request.id


def test_the_expected_call_is_right_elsewhere_too_but_for_three_entries_without_a_right_answer() -> None:
    wrong = {request.id for request in traffic() if not is_right(request, request.expected_call_json)}
    assert wrong == {"live_multiple_862-181-3", "live_simple_112-68-0", "live_simple_106-63-0"}
