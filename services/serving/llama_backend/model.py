"""A language model for Triton's Python backend, run by llama.cpp on CPU.

Triton loads this file alone, in an environment of its own (numpy below 2, xllamacpp): it imports nothing else of this
project. Inputs and outputs are those of Triton's vLLM backend, so a GPU repository takes its place without a change to
the caller, with two differences: `text_input` is a JSON list of chat messages, to which llama.cpp applies the model's
own chat template, and the last response of a request carries `usage`, with the answer's tokens if `logprobs` in the
sampling parameters asks for them.

model.json beside this file says what to load:
    base_gguf       path of the model; relative paths are relative to this folder
    adapter_gguf    path of a LoRA adapter, applied at scale 1, or null
    context_tokens  prompt and answer together

One process has one thread and gives one answer at a time; Triton runs as many processes as answers are wanted at once,
and further requests wait in its queue. Threads of one llama.cpp spin while they wait for one another, which on a core
that is shared costs ten times what it gains; two answers of one llama.cpp at once took as long, prompts counted in, as
one after the other; and several llama.cpp in a process prepare a schema's grammar anew for each answer, without a lock.
"""

import json
import math
import os
import secrets

import numpy as np
import triton_python_backend_utils as pb_utils
import xllamacpp

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
# The second one is for the question by which serving sees whether the model is well: it would push the first one out.
_PROMPTS_KEPT = 2
# Of a call up to its arguments, in characters.
_LONGEST_NAME = 512
_ROLES = ("system", "user", "assistant", "tool")


class _InputError(ValueError):
    """The caller's mistake; its message names the field and what was wanted."""


class TritonPythonModel:
    """One process of one version of a model."""

    def initialize(self, args):
        """Loads the model; an exception here makes Triton refuse the version and keep the one before."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "model.json")) as file:
            settings = json.load(file)

        def existing(name):
            path = os.path.join(folder, settings[name])
            if not os.path.isfile(path):
                raise ValueError(f"model.json: {name} is {path}, where there is no file")
            return path

        self._limit_tokens = int(settings["context_tokens"])
        parameters = xllamacpp.CommonParams()
        parameters.model.path = existing("base_gguf")
        if settings.get("adapter_gguf"):
            adapter = xllamacpp.CommonAdapterLoraInfo()
            adapter.path = existing("adapter_gguf")
            adapter.scale = 1.0
            parameters.lora_adapters = [adapter]
        parameters.n_parallel = _PROMPTS_KEPT
        parameters.n_ctx = self._limit_tokens * _PROMPTS_KEPT
        parameters.cpuparams.n_threads = 1
        parameters.cpuparams_batch.n_threads = 1
        # A thread that waits must not burn a core that another model could use.
        parameters.cpuparams.poll = 0
        parameters.cpuparams_batch.poll = 0
        # The last prompts are kept, so a shared beginning is not read again; no cache beyond that.
        parameters.cache_prompt = True
        parameters.cache_ram_mib = 0
        parameters.warmup = False
        parameters.fit_params = False
        parameters.verbosity = 1
        # llama.cpp opens a loopback listener whether it is wanted or not: nobody knows its key, and it serves no pages.
        parameters.hostnames = ["127.0.0.1"]
        parameters.api_keys = [secrets.token_urlsafe(32)]
        parameters.ui = False
        parameters.endpoint_slots = False
        self._server = xllamacpp.Server(parameters)

    def execute(self, requests):
        """Answers one request after the other, each by its own sender (decoupled)."""
        for request in requests:
            self._answer(request, request.get_response_sender())

    def _answer(self, request, sender):
        try:
            if sender.is_cancelled():
                return _send_last(sender, "", _Usage().as_json("cancelled"))
            self._generate(request, sender)
        except _InputError as error:
            _send_error(sender, str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # whatever it is, the caller must get an answer
            _send_error(sender, f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)

    def _generate(self, request, sender):
        body = _chat_request(request)
        streamed = _flag(request, "stream", default=False)
        usage = _Usage(keeps_tokens=body.pop("keeps_tokens"))
        pieces = []
        failures = []

        def on_chunk(chunk):
            if "error" in chunk:
                failures.append(chunk["error"])
                return True
            text = usage.read(chunk)
            if text and streamed:
                sender.send(_response(text))
            elif text:
                pieces.append(text)
            usage.cancelled = sender.is_cancelled()
            return usage.cancelled  # True stops the generation

        try:
            self._server.handle_chat_completions(body, on_chunk)
        except ValueError as error:  # llama.cpp's refusal of a schema or of the messages
            raise _InputError(f"text_input or sampling_parameters: llama.cpp refuses them: {error}") from error
        if failures:
            failure = failures[0]
            if failure.get("type") == "exceed_context_size_error":
                tokens = failure.get("n_prompt_tokens")
                raise _InputError(f"text_input: {tokens} tokens; wanted fewer than {self._limit_tokens}")
            if failure.get("code") == 400:
                raise _InputError(f"text_input or sampling_parameters: {failure.get('message')}")
            raise RuntimeError(failure.get("message", failure))
        _send_last(sender, "".join(pieces), usage.as_json())


class _Usage:
    """What one answer took and how sure the model was of it.

    A token that is but a part of a character is reported by llama.cpp only together with the token that completes it,
    with the latter's log-probability: such tokens count as completion tokens and are left out of the log-probabilities.
    """

    def __init__(self, keeps_tokens=False):
        self.cancelled = False
        self.finish_reason = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.logprobs = []
        self.tokens = [] if keeps_tokens else None
        # Of the beginning of a call, up to its arguments: of which function it is.
        self._beginning = ""
        self.name_logprob = None

    def read(self, chunk):
        """Takes in one chunk of llama.cpp's stream; returns the text in it."""
        text = ""
        for choice in chunk.get("choices", ()):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            text += (choice.get("delta") or {}).get("content") or ""
            for token in (choice.get("logprobs") or {}).get("content") or ():
                self._read_name(token["token"])
                self.logprobs.append(_finite(token["logprob"]))
                if self.tokens is not None:
                    told = {"token": token["token"], "logprob": self.logprobs[-1], "bytes": token["bytes"]}
                    self.tokens.append(told)
        if chunk.get("usage"):
            self.prompt_tokens = chunk["usage"]["prompt_tokens"]
            self.completion_tokens = chunk["usage"]["completion_tokens"]
        return text

    def _read_name(self, token):
        if self._beginning is None:
            return
        self._beginning += token
        if '"arguments"' in self._beginning:
            self.name_logprob = sum(self.logprobs)
        if self.name_logprob is not None or len(self._beginning) > _LONGEST_NAME:
            self._beginning = None

    def as_json(self, finish_reason=None):
        if self.cancelled:
            finish_reason = "cancelled"
        # On cancellation the chunk that counts tokens never comes.
        counted = self.completion_tokens or len(self.logprobs)
        total = sum(self.logprobs)
        return json.dumps(
            {
                "finish_reason": finish_reason or self.finish_reason,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": counted,
                "sum_logprob": total,
                "mean_logprob": total / len(self.logprobs) if self.logprobs else 0.0,
                "min_logprob": min(self.logprobs, default=0.0),
                "name_logprob": self.name_logprob,
                **({} if self.tokens is None else {"tokens": self.tokens}),
            }
        )


def _finite(logprob):
    """JSON knows no infinity; llama.cpp gives -inf for a token that a grammar forced against all odds."""
    return -1e4 if math.isnan(logprob) else max(logprob, -1e4)


def _chat_request(request):
    """The request as an OpenAI chat request for llama.cpp, or _InputError."""
    if not _flag(request, "exclude_input_in_output", default=True):
        raise _InputError("exclude_input_in_output: false; wanted true, the prompt is never repeated")
    messages = _json(_text(request, "text_input"), "text_input")
    if not isinstance(messages, list) or not messages:
        raise _InputError("text_input: wanted a non-empty JSON list of chat messages")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _InputError(f"text_input[{i}]: wanted an object with role and content")
        if message.get("role") not in _ROLES:
            raise _InputError(f"text_input[{i}].role: {message.get('role')!r}; wanted one of {', '.join(_ROLES)}")
        if not isinstance(message.get("content"), str):
            raise _InputError(f"text_input[{i}].content: wanted a string")
    sampling = _json(_text(request, "sampling_parameters", default="{}"), "sampling_parameters")
    if not isinstance(sampling, dict):
        raise _InputError("sampling_parameters: wanted a JSON object")
    for name, value in sampling.items():
        if name not in _SAMPLING:
            raise _InputError(f"sampling_parameters.{name}: unknown; wanted one of {', '.join(sorted(_SAMPLING))}")
        wanted, is_right = _SAMPLING[name]
        if not is_right(value):
            raise _InputError(f"sampling_parameters.{name}: {json.dumps(value)[:100]}; wanted {wanted}")
    constraint = _constraint(sampling.pop("response_format", None))
    return {
        "keeps_tokens": sampling.pop("logprobs", False),
        **sampling,
        **constraint,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 1,
    }


def _constraint(response_format):
    """What holds the answer to its format.

    A schema of common keywords goes to llguidance, which can be told to write JSON on one line: left free, a generic
    model spends a fifth of its tokens on indentation. Where llguidance gives a schema up, llama.cpp lets every answer
    pass; so other schemas take llama.cpp's own way, which refuses what it does not understand.
    """
    if response_format is None:
        return {}
    schema = response_format.get("json_schema", {}).get("schema")
    if not _is_common(schema):
        return {"response_format": response_format}
    one_line = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {"grammar": xllamacpp.json_schema_to_grammar(json.dumps({**schema, "x-guidance": one_line}))}


def _is_common(schema):
    """Whether a schema has nothing in it but what llguidance surely compiles."""
    if not isinstance(schema, dict):
        return False
    return all(name in _COMMON_KEYWORDS and _COMMON_KEYWORDS[name](value, schema) for name, value in schema.items())


_COMMON_KEYWORDS = {
    "type": lambda value, _: value in ("object", "array", "string", "number", "integer", "boolean", "null"),
    # Alone, since beside others they can contradict them, and no answer at all is what llguidance gives up.
    "const": lambda value, schema: len(schema) == 1 and _is_scalar(value),
    "enum": lambda value, schema: len(schema) == 1 and _is_list(value, _is_scalar),
    "anyOf": lambda value, schema: len(schema) == 1 and _is_list(value, _is_common),
    "items": lambda value, _: _is_common(value),
    "properties": lambda value, _: isinstance(value, dict) and all(map(_is_common, value.values())),
    "required": lambda value, schema: value == [] or _is_list(value, list(_properties(schema)).__contains__),
    "additionalProperties": lambda value, _: isinstance(value, bool),
}


def _properties(schema):
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _is_scalar(value):
    return not isinstance(value, (dict, list))


def _is_list(value, is_right):
    return isinstance(value, list) and bool(value) and all(is_right(item) for item in value)


def _number(low, high):
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _whole(low, high):
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_stop(value):
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_response_format(value):
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        return False
    if value["type"] != "json_schema":
        return True
    return isinstance(value.get("json_schema"), dict) and isinstance(value["json_schema"].get("schema"), dict)


_SAMPLING = {
    "temperature": ("a number from 0 to 2", _number(0, 2)),
    "top_p": ("a number from 0 to 1", _number(0, 1)),
    "presence_penalty": ("a number from -2 to 2", _number(-2, 2)),
    "frequency_penalty": ("a number from -2 to 2", _number(-2, 2)),
    "max_tokens": ("a whole number from 1", _whole(1, 2**31 - 1)),
    "seed": ("a whole number from 0 to 4294967295", _whole(0, 2**32 - 1)),
    "stop": ("a string or a list of strings", _is_stop),
    "logprobs": ("true or false", lambda value: isinstance(value, bool)),
    "response_format": (
        '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": {...}}}',
        _is_response_format,
    ),
}


def _json(text, field):
    try:
        return json.loads(text)
    except ValueError as error:
        raise _InputError(f"{field}: no valid JSON: {error}") from error


def _text(request, name, default=None):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    value = tensor.as_numpy()[0]
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise _InputError(f"{name}: no valid UTF-8: {error}") from error


def _flag(request, name, default):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else bool(tensor.as_numpy()[0])


def _response(text, usage=""):
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_)),
            pb_utils.Tensor("usage", np.array([usage.encode()], dtype=np.object_)),
        ]
    )


def _send_last(sender, text, usage):
    sender.send(_response(text, usage), flags=_FINAL)


def _send_error(sender, message, code):
    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code)), flags=_FINAL)
