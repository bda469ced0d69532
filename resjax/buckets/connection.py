"""The connection to a bucket, made by `obstore` from the environment."""

import datetime
import os
import re
from typing import Any

from resjax.buckets import faults
from resjax.config.addresses import Address
from resjax.config.extras import require

SECONDS_OF_A_REQUEST = 20.0
"""Timeout of a request in seconds; a third of the time after which a claim is stale."""

SECONDS_TO_CONNECT = 5.0

ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "GOOGLE_BASE_URL")
"""Variables that name an endpoint; one that begins with http:// is used without encryption."""


def connected(address: Address) -> Any:
    """Connects to the whole bucket of an address, by `obstore`; sends no request yet.

    Raises:
      ConfigError: if the library is not installed, or the environment is not valid for it.
    """
    require("bucket", "a bucket")
    from obstore import store

    endpoints = {name: value for name in ENDPOINTS if (value := os.environ.get(name))}
    for name, value in endpoints.items():
        if not re.fullmatch(r"https?://[\w.-]+(:\d{1,5})?(/[\w./-]*)?", value, re.ASCII):
            raise faults.Refused(f"{name}={value} is no address of a server; write https://HOST")
    plain = any(value.startswith("http://") for value in endpoints.values())
    shared: dict[str, Any] = {
        "retry_config": {"max_retries": 0},  # retries are counted and told of here
        "client_options": {
            "timeout": datetime.timedelta(seconds=SECONDS_OF_A_REQUEST),
            "connect_timeout": datetime.timedelta(seconds=SECONDS_TO_CONNECT),
        }
        | ({"allow_http": True} if plain else {}),
    }
    kinds = {"gs": store.GCSStore, "s3": store.S3Store, "az": store.AzureStore}
    try:
        return kinds[address.kind](address.bucket, **shared)
    except Exception as error:
        raise faults.understood(error, address).error from None
