"""The router's ports for applications with TLS: who believes its CA is answered, and shows a key and no certificate."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gyre.client import AsyncClient, Retries, Tls, UnavailableError
from tests.certificates import Folders
from tests.router_on_fakes import RouterOnFakes, router_on_fakes
from tests.unit.router.fakes import KEY

ONCE = Retries(attempts=1)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
async def served(folders: Folders) -> AsyncIterator[RouterOnFakes]:
    async with router_on_fakes(folders.tls("router")) as served:
        yield served


async def status(url: str, ca_file: Path | None) -> int:
    """Return the status of a question, shown a key and believing a CA, or those of the system."""
    context = ssl.create_default_context(cafile=ca_file)
    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context, headers=headers) as answer:
        return answer.status


async def text(served: RouterOnFakes, ca_file: Path | None) -> str:
    tls = Tls() if ca_file is None else Tls.believing(ca_file)
    async with AsyncClient(served.target, KEY, tls=tls, retries=ONCE) as client:
        return (await client.complete("Hi")).text


async def test_who_believes_its_ca_is_answered(served: RouterOnFakes, folders: Folders) -> None:
    assert await status(f"{served.url}/v1/models", folders.ca_file) == 200
    assert await text(served, folders.ca_file) == "Hello there"


async def test_who_believes_only_others_sends_nothing(served: RouterOnFakes) -> None:
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await status(f"{served.url}/v1/models", None)
    with pytest.raises(UnavailableError):
        await text(served, None)


async def test_nobody_is_answered_in_the_clear(served: RouterOnFakes) -> None:
    with pytest.raises(aiohttp.ClientError):
        await status(f"{served.url.replace('https', 'http')}/v1/models", None)
    async with AsyncClient(served.target, KEY, retries=ONCE) as client:
        with pytest.raises(UnavailableError):
            await client.complete("Hi")


async def test_a_replaced_certificate_is_taken_up(served: RouterOnFakes, folders: Folders) -> None:
    assert await status(f"{served.url}/v1/models", folders.ca_file) == 200
    new = folders.with_a_new_ca()
    folders.replace("router", new.of("router"))
    assert await status(f"{served.url}/v1/models", new.ca_file) == 200
    assert await text(served, new.ca_file) == "Hello there"
