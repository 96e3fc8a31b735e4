"""Webhooks of a running service: from the submission to the receiver, and the routes of deliveries."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_webhook_signature import verified
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from tests.http.webhook_servers import Receiver, receiver
from tests.stand.waiting import until
from ytmp3.config import ConfigError
from ytmp3.core.errors import FailureCode
from ytmp3.http.keys import key_line, new_secret
from ytmp3.serve import reload_endpoints
from ytmp3.webhooks import signature

SECRET_BYTES = b"s" * 32
SECRET = signature.new_secret(SECRET_BYTES)
ALICE, BOB = new_secret(b"a" * 24), new_secret(b"b" * 24)
VIDEO = "video000001"


def settings(folder: Path, file: str) -> dict[str, str]:
    path = folder / "webhooks"
    path.write_text(file)
    return {
        "WEBHOOKS_FILE": str(path),
        "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        "PUBLIC_URL": "https://music.example/ytmp3/",
    }


async def arrived(endpoint: Receiver, count: int = 1) -> list[dict[str, Any]]:
    """Wait until messages have arrived; return their bodies."""
    await until(lambda: len(endpoint.messages) >= count, f"{count} messages have arrived")
    return [json.loads(message.body) for message in endpoint.messages]


async def deliveries(
    service: RunningService, an_id: str, *, kind: str = "jobs", **headers: str
) -> list[dict[str, Any]]:
    async with service.client.get(f"{service.url}/{kind}/{an_id}/deliveries", headers=headers) as response:
        assert response.status == 200, await response.text()
        found: list[dict[str, Any]] = (await response.json())["deliveries"]
        return found


async def test_a_completed_job_is_sent_signed_and_its_deliveries_are_shown_and_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        receiver() as endpoint,
        running_service(tmp_path / "data", **settings(tmp_path, f"home * {endpoint.url} {SECRET}\n")) as service,
    ):
        job = await service.completed(VIDEO)
        (message,) = await arrived(endpoint)
        assert (message["type"], message["data"]["job_id"]) == ("job.completed", job["job_id"])
        shown = job | {"status_url": "", "download_url": ""}
        assert message["data"] | {"status_url": "", "download_url": ""} == shown
        assert message["data"]["download_url"] == f"https://music.example/ytmp3/download/{job['job_id']}.mp3"
        assert verified(endpoint.messages[0].headers, endpoint.messages[0].body, SECRET_BYTES)

        async def is_delivered() -> bool:
            return [delivery["state"] for delivery in await deliveries(service, job["job_id"])] == ["delivered"]

        await until(is_delivered, "the result is stored")
        (delivery,) = await deliveries(service, job["job_id"])
        assert (delivery["endpoint"], delivery["attempts"], delivery["status"]) == ("home", 1, 204)
        assert (delivery["reason"], delivery["next_attempt_at"]) == (None, None)
        path = f"/jobs/{job['job_id']}/deliveries/0/redeliver"
        async with service.client.post(f"{service.url}{path}") as response:
            assert response.status == 202
            assert (await response.json())["state"] == "pending"
        await arrived(endpoint, 2)
        assert len({message.headers["webhook-id"] for message in endpoint.messages}) == 1
    assert "webhook delivered" in caplog.text
    assert SECRET not in caplog.text
    assert endpoint.url not in caplog.text


async def test_a_failed_job_and_a_job_whose_track_exists_are_reported(tmp_path: Path) -> None:
    async with (
        receiver() as endpoint,
        running_service(tmp_path / "data", **settings(tmp_path, f"home * {endpoint.url} {SECRET}\n")) as service,
    ):
        service.converter.failing["video000002"] = FailureCode.PRIVATE
        failed = await service.ended((await service.submit("video000002"))["job_id"])
        (message,) = await arrived(endpoint)
        assert (message["type"], message["data"]["error"]["code"]) == ("job.failed", "private")
        assert message["data"]["job_id"] == failed["job_id"]
        await service.completed(VIDEO)
        await arrived(endpoint, 2)
        cached = await service.submit(VIDEO)
        assert cached["status"] == "completed"
        assert (await arrived(endpoint, 3))[2]["data"]["job_id"] == cached["job_id"]


async def test_an_ended_batch_is_sent_and_its_items_are_not(tmp_path: Path) -> None:
    file = "asked * * {secret}\nhome * {url} {secret}\n"
    async with receiver() as endpoint:
        chosen = settings(tmp_path, file.format(url=endpoint.url, secret=SECRET))
        async with running_service(tmp_path / "data", **chosen) as service:
            body = {"urls": [VIDEO, "video000002", "no link"], "webhook": endpoint.url + "?batch"}
            async with service.client.post(f"{service.url}/batches", json=body) as response:
                assert response.status == 202, await response.text()
                batch = await response.json()
            messages = await arrived(endpoint, 2)
            async with service.client.get(f"{service.url}/batches/{batch['batch_id']}") as response:
                batch = await response.json()
            await expect_problem(
                service, "POST", "/batches", 422, "webhook_refused", json=body | {"webhook": "http://10.0.0.1/"}
            )
            assert {message.path for message in endpoint.messages} == {"/hook", "/hook?batch"}
            for message, raw in zip(messages, endpoint.messages, strict=True):
                assert message["type"] == "batch.completed"
                assert message["data"]["counts"] == batch["counts"]
                assert message["data"]["archive_url"].startswith("https://music.example/ytmp3/batches/")
                assert verified(raw.headers, raw.body, SECRET_BYTES)
            await service.completed("video000003")
            await arrived(endpoint, 3)
            assert endpoint.messages[2].headers["webhook-id"].startswith(batch["batch_id"]) is False
            shown = await deliveries(service, batch["batch_id"], kind="batches")
            assert [(each["number"], each["event"]) for each in shown] == [
                (0, "batch.completed"),
                (1, "batch.completed"),
            ]
            sent = {each.headers["webhook-id"] for each in endpoint.messages[:2]}
            assert {each["webhook_id"] for each in shown} == sent
            path = f"/batches/{batch['batch_id']}/deliveries"
            async with service.client.post(f"{service.url}{path}/1/redeliver") as response:
                assert (response.status, (await response.json())["webhook_id"]) == (202, shown[1]["webhook_id"])
            await arrived(endpoint, 4)
            assert endpoint.messages[3].headers["webhook-id"] == shown[1]["webhook_id"]
            for number in ("2", "x", "-1", "00", "10", "\u0661"):
                await expect_problem(service, "POST", f"{path}/{number}/redeliver", 404, "delivery_unknown")
            for method, unknown in (("GET", "deliveries"), ("POST", "deliveries/0/redeliver")):
                for batch_id in ("x", "0" * 34, f"batch-{batch['batch_id']}"):
                    await expect_problem(service, method, f"/batches/{batch_id}/{unknown}", 404, "batch_unknown")
                # The id of a batch has the form of a job's id, and is none.
                await expect_problem(service, method, f"/jobs/{batch['batch_id']}/{unknown}", 404, "job_unknown")


async def test_a_request_may_name_a_webhook_only_where_the_operator_allows_it(tmp_path: Path) -> None:
    async with receiver() as endpoint:
        (tmp_path / "keys").write_text(f"{key_line('alice', ALICE)}\n{key_line('bob', BOB)}\n")
        file = f"asked alice * {SECRET}\n"
        keys = {"API_KEYS_FILE": str(tmp_path / "keys")}
        async with running_service(tmp_path / "data", **settings(tmp_path, file), **keys) as service:
            body = {"url": f"https://youtu.be/{VIDEO}", "webhook": endpoint.url + "?job=1"}
            alice, bob = {"X-API-Key": ALICE}, {"X-API-Key": BOB}
            for refused, headers in (
                (body, bob), (body | {"webhook": "http://192.168.0.1/"}, alice), (body | {"webhook": ""}, alice),
                (body | {"webhook": "https://user@example.org/"}, alice), (body | {"webhook": "x" * 3000}, alice),
            ):  # fmt: skip
                problem = await expect_problem(
                    service, "POST", "/extract", 422, "webhook_refused", json=refused, headers=headers
                )
                assert problem["Content-Type"] == "application/problem+json"
            assert service.store.calls.count("submit") == 0
            await expect_problem(
                service, "POST", "/extract", 400, "invalid_field", json=body | {"webhook": 7}, headers=alice
            )
            async with service.client.post(f"{service.url}/extract", json=body, headers=alice) as response:
                job_id = (await response.json())["job_id"]
            await arrived(endpoint)
            assert endpoint.messages[0].path == "/hook?job=1"
            (delivery,) = await deliveries(service, job_id, **alice)
            assert endpoint.url not in json.dumps(delivery)
            for method, path in (
                ("GET", f"/jobs/{job_id}/deliveries"), ("POST", f"/jobs/{job_id}/deliveries/0/redeliver"),
            ):  # fmt: skip
                await expect_problem(service, method, path, 404, "job_unknown", headers=bob)


async def test_an_unknown_job_or_number_is_a_404(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        job = await service.completed(VIDEO)
        assert await deliveries(service, job["job_id"]) == []
        for number in ("0", "1", "10", "-1", "00", "x", "%30", "\u0661", "0.0"):
            path = f"/jobs/{job['job_id']}/deliveries/{number}/redeliver"
            await expect_problem(service, "POST", path, 404, "delivery_unknown")
        for path in ("/jobs/x/deliveries", f"/jobs/{'0' * 34}/deliveries"):
            await expect_problem(service, "GET", path, 404, "job_unknown")
        await expect_problem(service, "POST", f"/jobs/{'0' * 34}/deliveries/0/redeliver", 404, "job_unknown")
        body = {"url": f"https://youtu.be/{VIDEO}", "webhook": "https://example.org/"}
        await expect_problem(service, "POST", "/extract", 422, "webhook_refused", json=body)


async def test_a_message_is_repeated_until_the_receiver_accepts_it(tmp_path: Path) -> None:
    async with receiver() as endpoint:
        endpoint.statuses = [500]
        async with running_service(
            tmp_path / "data", **settings(tmp_path, f"home * {endpoint.url} {SECRET}\n")
        ) as service:
            job = await service.completed(VIDEO)
            await arrived(endpoint, 1)

            async def is_waiting() -> bool:
                (delivery,) = await deliveries(service, job["job_id"])
                return bool(delivery["attempts"])

            await until(is_waiting, "the failure is stored")
            (delivery,) = await deliveries(service, job["job_id"])
            assert (delivery["state"], delivery["status"], delivery["reason"]) == ("pending", 500, "status")
            service.store_clock.shift_seconds += 60
            await arrived(endpoint, 2)
        first, second = endpoint.messages
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body


async def test_the_file_is_read_again_on_request_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    async with (
        receiver() as endpoint,
        running_service(tmp_path / "data", **settings(tmp_path, f"other bob {endpoint.url} {SECRET}\n")) as service,
    ):
        (tmp_path / "webhooks").write_text(f"home * {endpoint.url} {SECRET}\n")
        await reload_endpoints(service.parts)
        await service.completed(VIDEO)
        await arrived(endpoint)
        (tmp_path / "webhooks").write_text("home * nonsense\n")
        await reload_endpoints(service.parts)
        await service.completed("video000002")
        await arrived(endpoint, 2)


async def test_a_wrong_file_is_refused_at_the_start_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        async with running_service(tmp_path / "data", **settings(tmp_path, f"home * ftp://token.example/ {SECRET}\n")):
            pass
    (problem,) = refusal.value.problems
    assert problem.startswith("WEBHOOKS_FILE: ")
    assert "line 1" in problem
    assert "token" not in problem
    assert SECRET not in problem
