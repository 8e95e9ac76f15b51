"""One bucket's connections: boto3 finds region, endpoint and credentials and does rare things; obstore moves bytes.

Both use the same credentials, which boto3 renews. Knows nothing of keys, objects or what they mean.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from strata_zmq.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from strata_zmq.storage.options import S3Options

__all__ = ["Connections", "S3Session"]

_CONNECT_TIMEOUT_S = 5.0
_ONCE_TIMEOUT_S = 15.0
_REGION_DEFAULT = "us-east-1"
_BULK_RETRIES = 3
_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 5.0
_RETRY_FOR_S = 20.0


@dataclass(frozen=True, slots=True)
class Connections:
    """`control` is a boto3 client. `bulk` retries by itself; `once` sends each request a single time, signed whole."""

    control: Any
    bulk: S3Store
    once: S3Store


class S3Session:
    """Makes the connections when they are first asked for. That may take the network: ask in a thread."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._connections: Connections | None = None

    @property
    def opened(self) -> Connections | None:
        """The connections, if they have been made."""
        return self._connections

    def connections(self) -> Connections:
        """Return the connections; StorageError where there are no credentials."""
        with self._lock:
            if self._connections is None:
                self._connections = self._connect()
            return self._connections

    def close(self) -> None:
        """Drop the connections; they are made anew when they are asked for again."""
        with self._lock:
            connections, self._connections = self._connections, None
        if connections is not None:
            connections.control.close()

    def _connect(self) -> Connections:
        options = self._options
        try:
            session = boto3.Session(
                aws_access_key_id=options.access_key_id or None,
                aws_secret_access_key=options.secret_access_key or None,
                aws_session_token=options.session_token or None,
                region_name=options.region or None,
            )
            control = self._control(session)
            credentials = Boto3CredentialProvider(session)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(
                f"{options.url} cannot be used: no AWS credentials were found ({error}); set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives them"
            ) from error
        region = _region(control.meta.region_name)
        endpoint: str = control.meta.endpoint_url

        def store(*, retries: int, unsigned: bool, timeout_s: float) -> S3Store:
            return S3Store(
                options.bucket,
                prefix=options.prefix or None,
                client_options=self._client_options(endpoint, timeout_s),
                retry_config=_retry_config(retries),
                credential_provider=credentials,
                # Both names, since obstore would prefer the environment's to the first.
                endpoint=endpoint,
                aws_endpoint_url_s3=endpoint,
                region=region,
                virtual_hosted_style_request=False,
                conditional_put="etag",
                unsigned_payload=unsigned,
                config={"checksum_algorithm": "CRC64NVME"} if unsigned else {},
            )

        return Connections(
            control,
            bulk=store(retries=_BULK_RETRIES, unsigned=_unsigned(options, endpoint), timeout_s=options.timeout_s),
            # It carries kilobytes, and everybody waits for its answer.
            once=store(retries=0, unsigned=False, timeout_s=min(options.timeout_s, _ONCE_TIMEOUT_S)),
        )

    def _control(self, session: boto3.Session) -> Any:
        options = self._options
        return session.client(
            "s3",
            endpoint_url=options.endpoint or None,
            verify=options.ca_bundle or None,
            config=Config(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=options.timeout_s,
                retries={"mode": "standard", "total_max_attempts": _BULK_RETRIES + 1},
                s3={"addressing_style": "path"},
            ),
        )

    def _client_options(self, endpoint: str, timeout_s: float) -> ClientConfig:
        found: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
            "timeout": timedelta(seconds=timeout_s),
        }
        if self._options.ca_bundle:
            try:
                found["root_certificate"] = Path(self._options.ca_bundle).read_bytes()
            except OSError as error:
                raise StorageError(
                    f"AWS_CA_BUNDLE: {self._options.ca_bundle} cannot be read: {error.strerror}; correct the path"
                ) from error
        return found


def _retry_config(retries: int) -> RetryConfig:
    return {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=_RETRY_FOR_S),
        "backoff": {
            "init_backoff": timedelta(seconds=_BACKOFF_S),
            "max_backoff": timedelta(seconds=_BACKOFF_MAX_S),
            "base": 2,
        },
    }


def _region(name: str | None) -> str:
    return name if name and name != "aws-global" else _REGION_DEFAULT


def _unsigned(options: S3Options, endpoint: str) -> bool:
    """Say whether large bodies go out with a checksum (CRC64NVME) but no signature of their own.

    Hashing them with SHA-256 costs more CPU time than everything else. TLS protects them as well, and so does a socket
    that never leaves the machine.
    """
    if options.sign_payload != "auto":
        return options.sign_payload == "never"
    parts = urlsplit(endpoint)
    return parts.scheme == "https" or _loopback(parts.hostname or "")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
