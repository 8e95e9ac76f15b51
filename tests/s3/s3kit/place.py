"""Where a test server serves, as a test hands it on: by URL and environment."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from strata_zmq.storage import Storage, open_storage

__all__ = ["BUCKET", "S3Place"]

BUCKET = "checkpoints"


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket of a server, and the credentials that it takes."""

    endpoint: str
    access_key_id: str = "strata"
    secret_access_key: str = "secret-of-the-tests"  # noqa: S105 - of a server that lives for the tests
    prefix: str = ""

    @property
    def url(self) -> str:
        """The bucket and the prefix."""
        return f"s3://{BUCKET}/{self.prefix}".rstrip("/")

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def fresh(self) -> S3Place:
        """Return a prefix of the same bucket that nobody has used."""
        return replace(self, prefix=f"test-{secrets.token_hex(6)}")

    def open(self, **more: str) -> Storage:
        """Return the storage at this place, with more in its environment."""
        return open_storage(self.url, {**self.environ, **more})

    def client(self):  # type: ignore[no-untyped-def]
        """Return a boto3 client of the test's own."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )
