"""The settings of a bucket for the tracks: contradictions, and the addresses that follow from them."""

import pytest

from tests.core.test_config import BUCKET
from ytmp3.config import ConfigError, load


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"ACCEL_REDIRECT_PREFIX": "/tracks/"}, "ACCEL_REDIRECT_PREFIX"),
        ({"S3_ACCESS_KEY_ID": ""}, "S3_SECRET_ACCESS_KEY"),
        ({"S3_SECRET_ACCESS_KEY": ""}, "S3_SECRET_ACCESS_KEY"),
        ({"AWS_SESSION_TOKEN": "of other keys"}, "S3_ACCESS_KEY_ID"),
        ({"REDIS_ADDR": "redis:6379", "API_KEYS_FILE": __file__}, "LINK_SECRET"),
    ],
)
def test_settings_that_a_bucket_cannot_be_used_with_are_named(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(BUCKET | environ)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [name]


def test_keys_of_a_bucket_may_come_from_the_machine_and_one_instance_needs_no_link_secret() -> None:
    temporary = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
    assert load({"STORAGE_URL": "s3://tracks", "API_KEYS_FILE": __file__} | temporary).s3 is not None


@pytest.mark.parametrize(
    ("environ", "url", "public_url"),
    [
        ({}, "https://tracks.s3.eu-north-1.amazonaws.com", "https://tracks.s3.eu-north-1.amazonaws.com"),
        ({"S3_PATH_STYLE": "on"}, "https://s3.eu-north-1.amazonaws.com", "https://s3.eu-north-1.amazonaws.com"),
        ({"STORAGE_URL": "s3://a.b"}, "https://s3.eu-north-1.amazonaws.com", "https://s3.eu-north-1.amazonaws.com"),
        ({"S3_ENDPOINT": "http://s3:9000"}, "http://s3:9000", "http://s3:9000"),
        ({"S3_ENDPOINT": "http://s3:9000", "S3_PATH_STYLE": "off"}, "http://tracks.s3:9000", "http://tracks.s3:9000"),
        ({"S3_ENDPOINT": "http://s3", "S3_PUBLIC_ENDPOINT": "https://example.org"}, "http://s3", "https://example.org"),
    ],
)
def test_a_bucket_has_one_address_for_the_service_and_one_for_clients(
    environ: dict[str, str], url: str, public_url: str
) -> None:
    s3 = load(BUCKET | {"S3_REGION": "eu-north-1", "S3_DOWNLOAD": "redirect"} | environ).s3
    assert s3 is not None
    assert (s3.host_url(is_public=False), s3.host_url(is_public=True), s3.download_origin) == (
        url,
        public_url,
        public_url,
    )
    through_us = load(BUCKET | environ).s3
    assert through_us is not None
    assert through_us.download_origin == ""
