"""What a server takes upon itself: addresses, and the bounds that keep it alive."""

from __future__ import annotations

from pydantic import Field

from vqi.platform.settings import Names, Settings


class ServeSettings(Settings):
    """The bounds of one server."""

    host: str = Field("127.0.0.1", description="address to listen at; 0.0.0.0 for every network of this machine")
    port: int = Field(8080, ge=0, le=65535, description="port of HTTP; 0: any that is free")
    grpc_port: int | None = Field(None, ge=0, le=65535, description="port of gRPC; none: without gRPC")
    body_mib: int = Field(64, ge=1, le=4096, description="largest request, MiB")
    bodies_mib: int = Field(512, ge=1, le=65536, description="requests held in memory at once, MiB in all")
    photographs: int = Field(64, ge=1, le=4096, description="most photographs in one request")
    queue: int = Field(128, ge=1, le=65536, description="most photographs accepted and not answered yet")
    batch_wait_ms: float = Field(
        5.0, ge=0, le=1000, description="longest wait of a photograph for others that are being decoded, milliseconds"
    )
    body_seconds: float = Field(30.0, gt=0, le=3600, description="longest time a request may take to arrive, seconds")
    answer_seconds: float = Field(60.0, gt=0, le=3600, description="longest time until an answer, seconds")
    connections: int = Field(1000, ge=1, le=100_000, description="most connections at once")
    reload_seconds: float = Field(
        5.0, ge=0, le=86400, description="how often a bundle's folder is looked at for a new version, seconds; 0: never"
    )
    allow_hosts: Names = Field((), description="hosts that photographs may be fetched from by address")
