"""Language models behind an OpenAI-compatible server: one server-sent stream of chat completion chunks a request.

https://platform.openai.com/docs/api-reference/chat-streaming; llama.cpp's server, vLLM and SGLang speak it too.
"""

from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from pydantic import SecretStr

from schemas.prompts import ChatMessage, Generated, Prompt, Token
from services.runtime import tracing
from services.runtime.errors import DeadlineExceeded, InvalidArgument, Retryable

# What the caller can have got wrong; anything else is the server's or the operator's.
_CALLERS_STATUSES = frozenset({400, 413, 422})
_ERROR_CHARACTERS = 500
_ERROR_BYTES = 64 * 1024
# Longest line of a stream.
_LINE_BYTES = 1024 * 1024
# Of a call up to its arguments, in characters.
_LONGEST_NAME = 512


class _Token(msgspec.Struct):
    logprob: float
    token: Any = None
    bytes: Any = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Chunk(msgspec.Struct):
    model: str = ""
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class OpenAIModels:
    """Asks the models of OpenAI-compatible servers; where each is, the prompt says."""

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        """Take the keys, by the upstream's name; one without a key is asked without."""
        self._keys = keys
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # How many may be asked at once is decided elsewhere.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def generate(self, prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        """Yield the answer piece by piece, then how it ended. Closing the generator stops the generation.

        Args:
            prompt: What is asked, and of whom.
            timeout_seconds: For the whole answer.

        Raises:
            InvalidArgument: The server refuses the messages or the sampling.
            Retryable: It does not answer.
        """
        assert self._session is not None
        answer = _Answer(prompt.model, keeps_tokens="logprobs" in prompt.sampling)
        try:
            async with self._session.post(
                f"{prompt.url}/chat/completions",
                data=msgspec.json.encode(_body(prompt)),
                headers=self._headers(prompt.upstream),
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
                allow_redirects=False,  # a key goes where the bundle says, and nowhere else
            ) as response:
                if response.status != 200:
                    raise await _refusal(prompt, response)
                async for line in _lines(response.content):
                    data = line.removeprefix(b"data:").strip()
                    if data == line.strip() or data == b"[DONE]":  # a comment, another field, an empty line; the end
                        continue
                    text = answer.read(data)
                    if text:
                        yield text
        except TimeoutError as error:
            raise DeadlineExceeded(f"model {prompt.model!r} did not answer in time") from error
        except (aiohttp.ClientError, ValueError, msgspec.MsgspecError) as error:
            raise Retryable(f"model {prompt.model!r} did not answer: {error}") from error
        yield answer.ended()

    def _headers(self, upstream: str) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "text/event-stream", **tracing.headers()}
        if upstream in self._keys:
            headers["authorization"] = f"Bearer {self._keys[upstream].get_secret_value()}"
        return headers


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Yield line by line what comes; aiohttp's own way waits once for each."""
    rest = b""
    async for data in content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise ValueError(f"a line of over {_LINE_BYTES} bytes is no server-sent event")
        for line in lines:
            yield line
    yield rest


class _Answer:
    """What was read of one answer so far."""

    def __init__(self, model: str, keeps_tokens: bool) -> None:
        self._model = model
        self._keeps_tokens = keeps_tokens
        self._version = ""
        self._finish_reason: str | None = None
        self._usage: _Usage | None = None
        self._logprobs: list[float] = []
        self._tokens: list[_Token] = []
        self._beginning: str | None = ""
        self._name_logprob: float | None = None

    def read(self, data: bytes) -> str:
        """Take in a chunk and return the text in it."""
        chunk = msgspec.json.decode(data, type=_Chunk)
        if chunk.error is not None:
            raise Retryable(f"model {self._model!r} broke off its answer: {_told(chunk.error)}")
        self._version = chunk.model or self._version
        self._usage = chunk.usage or self._usage
        text = ""
        for choice in chunk.choices:
            text += choice.delta.content or ""
            self._finish_reason = choice.finish_reason or self._finish_reason
            if choice.logprobs is not None:
                for token in choice.logprobs.content or ():
                    self._read_name(token)
                    self._logprobs.append(token.logprob)
                if self._keeps_tokens:
                    self._tokens += choice.logprobs.content or ()
        return text

    def _read_name(self, token: "_Token") -> None:
        if self._beginning is None:
            return
        self._beginning += str(token.token)
        if '"arguments"' in self._beginning:
            self._name_logprob = sum(self._logprobs)
        if self._name_logprob is not None or len(self._beginning) > _LONGEST_NAME:
            self._beginning = None

    def ended(self) -> Generated:
        """Return how the answer ended.

        Raises:
            Retryable: It broke off, or ended in a way that is no answer.
        """
        if self._finish_reason not in ("stop", "length") or self._usage is None:
            raise Retryable(f"model {self._model!r} did not say how its answer ended: {self._finish_reason}")
        total = sum(self._logprobs)
        return Generated(
            model_version=self._version,
            finish_reason=self._finish_reason,
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            sum_logprob=total if self._logprobs else None,
            mean_logprob=total / len(self._logprobs) if self._logprobs else None,
            min_logprob=min(self._logprobs) if self._logprobs else None,
            name_logprob=self._name_logprob,
            tokens=self._readable_tokens(),
        )

    def _readable_tokens(self) -> tuple[Token, ...]:
        """Return the tokens; none where the server does not tell their texts as it should."""
        try:
            return msgspec.convert(self._tokens, tuple[Token, ...], from_attributes=True)
        except msgspec.ValidationError:
            return ()


def _body(prompt: Prompt) -> dict[str, Any]:
    return {
        **prompt.sampling,
        "model": prompt.model,
        "messages": [_message(message) for message in prompt.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
    }


def _message(message: ChatMessage) -> ChatMessage:
    # Such a server takes the role `tool` only for calls that it made itself, by their ids.
    return {**message, "role": "user"} if message["role"] == "tool" else message


async def _refusal(prompt: Prompt, response: aiohttp.ClientResponse) -> Exception:
    body = await response.content.read(_ERROR_BYTES)
    try:
        told = _told(msgspec.json.decode(body).get("error", ""))
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError):
        told = ""
    if response.status in _CALLERS_STATUSES:
        return InvalidArgument(f"messages: model {prompt.model!r} refuses them: {told or response.status}")
    return Retryable(f"model {prompt.model!r} did not answer: {prompt.upstream} says {response.status} {told}".strip())


def _told(error: Any) -> str:
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:_ERROR_CHARACTERS]
