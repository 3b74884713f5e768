"""How a line is watched: what is waited for, and how much is kept for a sink that is away."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vqi.platform.settings import Settings

Pictures = Literal["defects", "all", "none"]


class WatchSettings(Settings):
    """The choices and bounds of one watch."""

    settle_seconds: float = Field(
        0.5,
        ge=0,
        le=3600,
        description="how long a file's size and time must not change before it is whole, seconds; 0: files are only "
        "renamed into the folder",
    )
    poll_seconds: float = Field(0.1, gt=0, le=3600, description="how often a folder is searched, seconds")
    done: str = Field("", description="folder that decided photographs are moved to; none: they stay")
    once: bool = Field(False, description="end when the folder holds nothing that is not decided")
    every_seconds: float = Field(
        1.0, ge=0, le=86400, description="time between frames of a camera or video, seconds; 0: every frame"
    )
    trigger: bool = Field(False, description="take a frame for each line on standard input, not by time")
    pictures: Pictures = Field("defects", description="pictures in the folders of sinks: of defects, all or none")
    rotate_mib: int = Field(64, ge=1, le=65536, description="size that a sink's decisions.jsonl is put aside at, MiB")
    buffer: int = Field(
        10_000, ge=1, le=10_000_000, description="most decisions kept for sinks that are away; then photographs wait"
    )
    timeout_seconds: float = Field(10.0, gt=0, le=600, description="longest wait for a sink's answer, seconds")
    flush_seconds: float = Field(
        10.0, ge=0, le=3600, description="longest time for the last decisions to reach their sinks at the end, seconds"
    )
    reload_seconds: float = Field(
        5.0, ge=0, le=86400, description="how often the bundle is looked at for a new version, seconds; 0: never"
    )
    metrics_port: int | None = Field(None, ge=0, le=65535, description="port that Prometheus reads at; none: not read")
    metrics_host: str = Field("127.0.0.1", description="address of that port; 0.0.0.0 for every network")
