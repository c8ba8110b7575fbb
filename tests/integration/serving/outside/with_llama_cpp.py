"""Opens a GGUF with llama.cpp, in an environment that has no Gyre: `with_llama_cpp.py MODEL.gguf < chats > answers`."""

import json
import sys

import xllamacpp

TOKENS = 8

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 2048
parameters.n_parallel = 1
parameters.cpuparams.n_threads = 1
parameters.cpuparams_batch.n_threads = 1
parameters.warmup = False
parameters.fit_params = False
parameters.verbosity = 0
server = xllamacpp.Server(parameters)


def answer(messages):
    body = {"messages": messages, "temperature": 0, "max_tokens": TOKENS, "logprobs": True, "top_logprobs": 1}
    found = {}
    server.handle_chat_completions({**body, "stream": False}, lambda whole: found.update(whole))
    (choice,) = found["choices"]
    tokens = choice["logprobs"]["content"]
    return {"tokens": [each["token"] for each in tokens], "logprobs": [each["logprob"] for each in tokens]}


json.dump([answer(messages) for messages in json.load(sys.stdin)], sys.stdout)
