"""The demo's traffic: real requests of the Berkeley Function Calling Leaderboard, as the traffic of one organisation.

Taken are the `live` requests with one call as their answer, which users of function-calling applications contributed
(Patil et al., "The Berkeley Function Calling Leaderboard", ICML 2025), and of those the ones whose function occurs five
times or more. They are kept as they came: spelling, languages and odd entries included.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

FEWEST_REQUESTS_PER_FUNCTION = 5
_CATEGORIES = ("live_multiple", "live_simple")
_HELD_OUT_ONE_IN = 5

TASKS: dict[str, frozenset[str]] = {
    "consumer-services": frozenset(
        {
            "Events_3_FindEvents",
            "Homes_2_FindHomeByArea",
            "Hotels_2_SearchHouse",
            "Hotels_4_SearchHotel",
            "Media_3_FindMovies",
            "Movies_1_FindMovies",
            "Movies_3_FindMovies",
            "Music_3_LookupMusic",
            "Payment_1_MakePayment",
            "Services_1_FindProvider",
            "Services_4_FindProvider",
            "Travel_1_FindAttractions",
            "Weather_1_GetWeather",
        }
    ),
    "personal-assistant": frozenset(
        {
            "Alarm_1_AddAlarm",
            "Alarm_1_GetAlarms",
            "Buses_3_FindBus",
            "Flights_4_SearchOnewayFlight",
            "HNA_NEWS.search",
            "Movies_1_BuyMovieTickets",
            "Music_3_PlayMedia",
            "Payment_1_RequestPayment",
            "RentalCars_3_GetCarsAvailable",
            "Restaurants_2_FindRestaurants",
            "RideSharing_2_GetRide",
            "ThinQ_Connect",
            "Trains_1_FindTrains",
            "Trains_1_GetTrainTickets",
            "get_current_weather",
            "play_song",
            "play_spotify_song",
            "set_alarm",
            "set_volume",
            "stock_price.get",
            "todo",
            "uber.eat.order",
            "uber.ride",
        }
    ),
    "business-operations": frozenset(
        {
            "add_mtnards_server",
            "add_postgres_server",
            "analysis_api.AnalysisApi.retrieve_analysis",
            "api_token_api.APITokenApi.get_api_tokens",
            "cmd_controller.execute",
            "dartfx_help",
            "get_contact_information",
            "get_sensor_readings_latest",
            "get_service_id",
            "get_service_providers",
            "inventory_management",
            "list_servers",
            "record",
            "requests.get",
            "version_api.VersionApi.get_version",
            "view_service_provider_profile",
        }
    ),
}

_JSON_SCHEMA_TYPES = {
    "array": "array",
    "boolean": "boolean",
    "dict": "object",
    "float": "number",
    "integer": "integer",
    "string": "string",
    "tuple": "array",
}


@dataclass(frozen=True)
class TrafficRequest:
    """One request with its right answer.

    Attributes:
        id: The leaderboard's id of it.
        task: A key of `TASKS`.
        messages: Chat messages: a user's, in a few cases after a system message.
        tools: The functions offered, as OpenAI's `tools`. Their names may hold dots.
        documents: The same functions as the leaderboard describes them; its checker wants these.
        function: The function that is to be called.
        expected_call_json: `{"name": ..., "arguments": {...}}`, one right answer: of the values that are right the
            first, and no argument that may be left out.
        ground_truth: All right answers, in the leaderboard's form.
        split: `held-out` requests are for measuring alone.
    """

    id: str
    task: str
    messages: list[dict[str, str]]
    tools: list[dict[str, Any]]
    documents: list[dict[str, Any]]
    function: str
    expected_call_json: str
    ground_truth: list[dict[str, Any]]
    split: Literal["traffic", "held-out"]


@cache
def traffic() -> tuple[TrafficRequest, ...]:
    """All requests, in an order that is fixed and has nothing to do with what they ask."""
    entries = list(_entries())
    occurrences = Counter(function for _, function, _ in entries)
    task_of = {function: task for task, functions in TASKS.items() for function in functions}
    earlier: Counter[str] = Counter()
    requests = []
    for entry, function, ground_truth in sorted(entries, key=lambda each: _digest(each[0]["id"])):
        if occurrences[function] < FEWEST_REQUESTS_PER_FUNCTION:
            continue
        requests.append(
            TrafficRequest(
                id=entry["id"],
                task=task_of[function],
                messages=entry["question"][0],
                tools=[_tool(document) for document in entry["function"]],
                documents=entry["function"],
                function=function,
                expected_call_json=_expected_call(function, entry["function"], ground_truth[0][function]),
                ground_truth=ground_truth,
                # By function, so that each is learned and asked for in the proportion in which it occurs.
                split="held-out" if earlier[function] % _HELD_OUT_ONE_IN == _HELD_OUT_ONE_IN // 2 else "traffic",
            )
        )
        earlier[function] += 1
    return tuple(requests)


def by_offer(requests: Iterable[TrafficRequest]) -> list[TrafficRequest]:
    """The requests with those that offer the same functions one after the other, as an application's come.

    A model that keeps the last prompt's beginning then reads what their function documents have in common once.
    """
    return sorted(requests, key=lambda request: json.dumps(request.tools))


def _entries() -> Iterator[tuple[dict[str, Any], str, list[dict[str, Any]]]]:
    data = files("bfcl_eval") / "data"
    for category in _CATEGORIES:
        name = f"BFCL_v4_{category}.json"
        answers = {
            answer["id"]: answer["ground_truth"]
            for answer in map(json.loads, (data / "possible_answer" / name).read_text("utf-8").splitlines())
        }
        for entry in map(json.loads, (data / name).read_text("utf-8").splitlines()):
            ground_truth = answers[entry["id"]]
            yield entry, next(iter(ground_truth[0])), ground_truth


def _digest(request_id: str) -> int:
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest())


def _expected_call(function: str, documents: list[dict[str, Any]], right: dict[str, list[Any]]) -> str:
    document = next(document for document in documents if document["name"] == function)
    arguments = _first_of_each(right, frozenset(document["parameters"].get("required", ())))
    return json.dumps({"name": function, "arguments": arguments}, ensure_ascii=False)


def _first_of_each(arguments: dict[str, list[Any]], required: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One right value per argument; an empty string among them means that the argument may be left out.

    A few required arguments have it too, and a few arguments no right value at all: odd entries, kept as they are.
    """
    chosen = {}
    for name, values in arguments.items():
        if "" in values and name not in required:
            continue
        stated = [value for value in values if value != ""] or values
        if stated:
            chosen[name] = _plain(stated[0])
    return chosen


def _plain(value: Any) -> Any:
    # Objects hold lists of right values in their turn, also inside a list.
    if isinstance(value, dict):
        return _first_of_each(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _tool(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": document["name"],
            "description": document["description"],
            "parameters": _json_schema(document["parameters"]),
        },
    }


def _json_schema(described: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard's Python-like parameter description as JSON Schema."""
    schema: dict[str, Any] = {}
    # "any" is said in JSON Schema by saying nothing.
    if described["type"] != "any":
        schema["type"] = _JSON_SCHEMA_TYPES[described["type"]]
    for keyword in ("description", "default", "enum"):
        if keyword in described:
            schema[keyword] = described[keyword]
    if "properties" in described:
        schema["properties"] = {name: _json_schema(each) for name, each in described["properties"].items()}
        schema["required"] = [name for name in described.get("required", ()) if name in described["properties"]]
    if "items" in described:
        schema["items"] = _json_schema(described["items"])
    return schema
