# Ray's own image with what a training run needs, at the versions of the trainer.
FROM rayproject/ray:2.60.0-py311
COPY requirements/uv.txt requirements/trainer.txt /tmp/requirements/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements/uv.txt \
    && uv pip install --system --no-cache --require-hashes -r /tmp/requirements/trainer.txt
COPY --chown=ray buf /opt/gyre/buf
COPY --chown=ray gyre /opt/gyre/gyre
COPY --chown=ray schemas /opt/gyre/schemas
COPY --chown=ray services /opt/gyre/services
ENV PYTHONPATH=/opt/gyre
