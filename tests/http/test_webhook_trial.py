"""`ytmp3 webhook`: makes a secret, and sends a test message with the checks of a real one."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.core.test_webhook_signature import verified
from tests.http.webhook_servers import receiver
from ytmp3.setting_forms import private_hosts
from ytmp3.webhooks.settings import PrivateHosts, WebhookSettings
from ytmp3.webhooks.signature import new_secret, parse_secret
from ytmp3.webhooks.trial import TrialRefused, try_endpoint

SECRET_BYTES = b"s" * 32
SECRET = new_secret(SECRET_BYTES)


def settings(folder: Path, file: str, hosts: str = "127.0.0.1") -> WebhookSettings:
    path = folder / "webhooks"
    path.write_text(file)
    names, networks = private_hosts(hosts)
    return WebhookSettings(file=path, private_hosts=PrivateHosts(names=names, networks=networks))


async def test_an_endpoint_that_accepts_the_message_passes(tmp_path: Path) -> None:
    async with receiver() as endpoint:
        is_accepted, text = await try_endpoint(settings(tmp_path, f"home * {endpoint.url} {SECRET}\n"), "home", None)
        (message,) = endpoint.messages
    assert is_accepted
    assert text.startswith("home: accepted (status 204")
    assert verified(message.headers, message.body, SECRET_BYTES)
    assert json.loads(message.body)["type"] == "test"


async def test_an_address_may_be_given_where_the_line_has_none(tmp_path: Path) -> None:
    async with receiver() as endpoint:
        chosen = settings(tmp_path, f"asked * * {SECRET}\n")
        is_accepted, _ = await try_endpoint(chosen, "asked", endpoint.url + "?x=1")
        assert is_accepted
        assert [message.path for message in endpoint.messages] == ["/hook?x=1"]


async def test_a_refusal_says_what_to_check_and_shows_no_address(tmp_path: Path) -> None:
    async with receiver() as endpoint:
        endpoint.status = 401
        is_accepted, text = await try_endpoint(settings(tmp_path, f"home * {endpoint.url} {SECRET}\n"), "home", None)
    assert not is_accepted
    assert "status 401" in text
    assert "check the receiver's log, and the secret" in text
    assert endpoint.url not in text
    is_accepted, text = await try_endpoint(settings(tmp_path, f"home * https://10.0.0.1/ {SECRET}\n"), "home", None)
    assert not is_accepted
    assert "WEBHOOK_PRIVATE_HOSTS" in text


@pytest.mark.parametrize(
    ("file", "name", "url", "reason"),
    [
        (f"home * https://a.example/ {SECRET}\n", "other", None, "no endpoint has this name"),
        (f"home * https://a.example/ {SECRET}\n", "home", "https://b.example/", "URL: expected if"),
        (f"home * * {SECRET}\n", "home", None, "URL: expected if"),
        (f"home * * {SECRET}\n", "home", "http://b.example/", "URL: a webhook must be"),
        ("home * nonsense\n", "home", None, "line 1"),
    ],
)
async def test_a_wrong_setting_or_argument_is_named_and_nothing_is_sent(
    tmp_path: Path, file: str, name: str, url: str | None, reason: str
) -> None:
    with pytest.raises(TrialRefused, match=reason):
        await try_endpoint(settings(tmp_path, file), name, url)
    with pytest.raises(TrialRefused, match="not set"):
        await try_endpoint(WebhookSettings(), name, url)


async def test_the_command_line_makes_secrets_and_exits_with_the_result(tmp_path: Path) -> None:
    async def run(*words: str, **environ: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ytmp3", "webhook", *words,
            env={"PATH": "/usr/bin:/bin", **environ}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    code, secret, _ = await run("secret")
    assert (code, len(parse_secret(secret.strip()))) == (0, 32)
    async with receiver() as endpoint:
        endpoint.statuses = [204, 500]
        file = settings(tmp_path, f"home * {endpoint.url} {secret.strip()}\n").file
        environ = {"WEBHOOKS_FILE": str(file), "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1"}
        assert (await run("test", "home", **environ))[0] == 0
        code, out, err = await run("test", "home", **environ)
        assert (code, out) == (1, "")
        assert "not accepted" in err
    code, out, err = await run("test", "other", **environ)
    assert (code, out) == (2, "")
    assert "no endpoint has this name" in err
