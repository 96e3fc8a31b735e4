"""A whole service with IDENTITIES_FILE: one egress route is dead, and another one has the cookies of an account."""

import asyncio
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.service_process import egress, service_process

SECRETS = ("proxysecret", "cookiesecret")
COOKIES = "# Netscape HTTP Cookie File\n" + "".join(
    f".youtube.com\tTRUE\t/\tTRUE\t2145916800\t{name}\tcookiesecret\n" for name in ("SAPISID", "LOGIN_INFO")
)


async def test_a_dead_identity_costs_nothing_and_an_account_is_used_by_its_own_identity(
    youtube: Spawned, tmp_path: Path
) -> None:
    youtube.reset()
    youtube.switch(account="renewed")
    cookies, identities = tmp_path / "cookies", tmp_path / "identities"
    cookies.write_text(COOKIES)
    proxy = youtube.proxy_url.replace("://", "://someone:proxysecret@")
    lines = f"dead proxy=http://someone:proxysecret@127.0.0.1:9\naccount proxy={proxy} cookies={cookies}\n"
    identities.write_text(lines)
    identities.chmod(0o600)
    settings = egress(youtube) | {"EGRESS_PROXY": "http://127.0.0.1:9", "IDENTITIES_FILE": str(identities)}
    async with service_process(tmp_path, MAX_JOB_RETRIES="0", WORKER_POOL_SIZE="3", **settings) as service:
        links = [watch_url(video_id(Kind.SHORT, number)) for number in range(71, 75)]
        jobs = [await service.submit(link) for link in (*links, watch_url(video_id(Kind.AGE, 71)))]
        ended = await asyncio.gather(*(service.until(job["job_id"]) for job in jobs))
        assert [(job["status"], job["error"]) for job in ended] == [("completed", None)] * len(jobs)
        _, stats = await service.get("/stats")
        assert [each["name"] for each in stats["identities"]] == ["dead", "account"]
        assert stats["identities"][1]["state"] == "ok"
        _, health = await service.get("/health")
        assert health["checks"]["cookies"]["detail"] == "account: with a login"
        async with service.client.get(f"{service.url}/metrics") as response:
            assert 'ytmp3_cookies_refused_total{identity="account"} 0.0' in (await response.text()).splitlines()
        log = service.log_path.read_text()
        assert not [secret for secret in SECRETS if secret in f"{log}{stats}{health}{ended}"]
    assert youtube.totals()["logged_in_pages"] == 1
    assert "\t__Secure-1PSIDTS\trenewed-1\n" in cookies.read_text()
