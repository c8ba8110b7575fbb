"""What a model is shown."""

import json

from schemas.events import Message, Tool, ToolCall
from schemas.prompts import generic_messages, signature, specialist_messages

TOOL = Tool(
    name="find_film",
    description="Finds a film\n   by its director.",
    parameters=json.dumps(
        {
            "type": "object",
            "properties": {"director": {"type": "string"}, "genre": {"enum": ["comedy", "drama"]}, "any": {}},
            "required": ["director"],
        }
    ),
)
REQUEST = [Message(role="system", content="Be brief."), Message(role="user", content="A film by Henson")]


def test_a_function_is_one_line() -> None:
    assert signature(TOOL) == (
        "find_film(director: string, genre?: comedy|drama, any?: any) - Finds a film by its director."
    )


def test_a_generic_model_is_shown_the_functions_in_the_tasks_prompt() -> None:
    system, user = generic_messages("Choose: {tools}", REQUEST, [TOOL])
    assert system == {"role": "system", "content": f"Choose: {signature(TOOL)}\n\nBe brief."}
    assert user == {"role": "user", "content": "A film by Henson"}


def test_a_specialist_is_shown_its_own_prompt_and_the_request_alone() -> None:
    assert specialist_messages("You know.", REQUEST) == [
        {"role": "system", "content": "You know."},
        {"role": "user", "content": "A film by Henson"},
    ]


def test_earlier_calls_of_functions_are_shown_as_the_model_wrote_them() -> None:
    turn = Message(
        role="assistant", tool_calls=(ToolCall(id="1", name="find_film", arguments='{"director": "Henson"}'),)
    )
    _, shown = specialist_messages("x", [turn])
    assert json.loads(shown["content"]) == {"name": "find_film", "arguments": {"director": "Henson"}}
