"""Runs llama.cpp's own HTTP server, which speaks the OpenAI protocol: `python llama_server.py MODEL KEY`.

It runs in Triton's environment, which has llama.cpp, and prints its address.
"""

import signal
import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.api_keys = sys.argv[1], [sys.argv[2]]
parameters.hostnames = ["127.0.0.1"]
parameters.n_ctx = 512
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
parameters.warmup = parameters.ui = parameters.fit_params = False
parameters.verbosity = 1
server = xllamacpp.Server(parameters)
sys.stdout.write(f"{server.listening_address}\n")
sys.stdout.flush()
signal.pause()
