"""What `embedded.kafka` makes of an empty data folder."""

import uuid
from pathlib import Path

import pytest

from embedded.kafka import data_dir, prepare, server_properties
from embedded.ports import stack_ports
from embedded.settings import Settings


def test_a_log_whose_cluster_id_begins_with_a_dash_is_formatted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path, ports=stack_ports())
    with monkeypatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
        prepare(settings, server_properties(settings))
    assert "cluster.id=-Pj4" in (data_dir(settings) / "meta.properties").read_text()
