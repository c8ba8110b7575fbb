# Triton's own image with what the CPU model versions need in its Python backend: llama.cpp as a Python package.
# TRITON_IMAGE is NVIDIA's Triton server image, for example its release 25.10 for Python 3.
ARG TRITON_IMAGE
FROM ${TRITON_IMAGE}
COPY requirements/triton.txt /tmp/triton.txt
# The repository is serving's to write: a new volume takes over this owner.
RUN mkdir -p /triton/models && chown -R 10001:10001 /triton
RUN grep -A 99 '^xllamacpp' /tmp/triton.txt > /tmp/xllamacpp.txt \
    && pip install --no-cache-dir --require-hashes --no-deps -r /tmp/xllamacpp.txt
