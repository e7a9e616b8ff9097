"""Options of the hawkBit uplink."""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from edge_adapters.http.url import check_url
from edge_agent.contract import UplinkOptions
from edge_agent.options import Duration, Secret
from edge_agent.tls import TlsOptions


class HawkbitOptions(UplinkOptions):
    """Deployments of a hawkBit server."""

    url: str = Field(
        description="Address of the server, before `/TENANT/controller/v1`.", examples=["https://hawkbit.example.com"]
    )
    tenant: str = Field(default="DEFAULT", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Tenant of the server.")
    controller: str | None = Field(
        default=None,
        max_length=128,
        description="Identifier of this gateway at the server. Default: the gateway's name.",
    )
    target_token: Secret | None = Field(
        default=None, description="Security token of this gateway, best as a reference: `${file:/path}`."
    )
    gateway_token: Secret | None = Field(
        default=None, description="Token that all gateways of the tenant share; this or `target_token`."
    )
    poll_every: Duration | None = Field(
        default=None, ge=10, le=86_400, description="How often to ask. Default: as the server says; a tenth at random."
    )
    timeout: Duration = Field(default=30.0, gt=0, le=600, description="Longest time for one request.")
    tls: TlsOptions = Field(default=TlsOptions(), description="TLS of an `https://` address.")

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str) -> str:
        checked = check_url(url, "https://hawkbit.example.com", "`target_token` or `gateway_token`")
        if "?" in checked:
            raise ValueError("expected an address without a query")
        return checked.rstrip("/")

    @field_validator("target_token", "gateway_token")
    @classmethod
    def _token_fits_a_header(cls, token: Secret | None) -> Secret | None:
        if token is not None and re.fullmatch(r"[\x21-\x7e]+", token.reveal()) is None:
            raise ValueError("expected letters, digits and signs without spaces; does the file hold something else?")
        return token

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.target_token is not None and self.gateway_token is not None:
            raise ValueError("gateway_token: given beside `target_token`; keep one")
        return self

    def base(self, gateway: str) -> str:
        """Address of this gateway's resources at the server."""
        return f"{self.url}/{self.tenant}/controller/v1/{quote(self.controller or gateway, safe='')}"

    def headers(self) -> dict[str, str]:
        """What every request says."""
        for scheme, token in (("TargetToken", self.target_token), ("GatewayToken", self.gateway_token)):
            if token is not None:
                return {"Authorization": f"{scheme} {token.reveal()}"}
        return {}
