"""Synthetic records, for tests of commands that only read records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runners.config.identity import digest

FLOOR = {"metric": "ssim", "at_least": 0.5}


def record(
    threat: str = "leakage_dlg",
    defense: str | list[dict[str, Any]] = "none",
    *,
    risk: float | None = 0.9,
    accuracy: float = 0.95,
    seed: int = 0,
    status: str = "ok",
    adaptive: bool = False,
    control: str | None = None,
    metric: str = "ssim",
    floor: dict[str, Any] | None = FLOOR,
    cost: dict[str, float] | None = None,
    dataset: dict[str, Any] | None = None,
    model: str = "lenet",
    setting: dict[str, Any] | None = None,
    threat_parameters: dict[str, Any] | None = None,
    scale: str = "smoke",
    media: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a record with all fields of a real one; only fields that tables read are plausible."""
    ok = status == "ok"
    stack = [{"name": defense, "provider": "d", "version": 1}] if isinstance(defense, str) else defense
    config = {
        "dataset": {"name": "digits", "provider": "d", "sizes": {"owner": 700}, "version": 1} | (dataset or {}),
        "model": {"name": model, "provider": "m", "version": 1},
        "setting": {"name": "collaboration", "provider": "s", "parties": 10, "version": 1} | (setting or {}),
        "threat": {"name": threat, "provider": "t", "adaptive": adaptive, "version": 1} | (threat_parameters or {}),
        "defense": stack,
        "scale": {"name": scale},
        "seed": seed,
    }
    return {
        "schema": 2,
        "key": digest(config),
        "sweep": "test",
        "status": status,
        "reason": "" if ok else f"it {status}",
        "config": config,
        "utility": {"test_accuracy": accuracy} if ok else {},
        "risk": {metric: risk, "psnr_db": 20.0} if ok else {},
        "cost": {"seconds": 2.0, "bytes_sent": 1_500_000.0} | (cost or {}) if ok else {},
        "diagnostics": {"adaptive": "yes" if adaptive else "no"} if ok else {},
        "curves": {},
        "media": media or {},
        "captions": {},
        "seed": seed,
        "started": "2030-01-01T00:00:00Z",
        "seconds": 3.0,
        "peak_memory_mb": 300.0,
        "device": "cpu",
        "versions": {},
        "data": "0" * 64,
        "facts": {
            "family": "gradient_leakage",
            "setting": "collaboration",
            "surface": "uploads",
            "headline": metric,
            "floor": None if control else floor,
            "control": control,
            "adaptive": adaptive,
        },
    }


def keyed(record: dict[str, Any]) -> dict[str, Any]:
    """``record`` under the key of its config, which a test has changed."""
    return record | {"key": digest(record["config"])}


def with_pictures(record: dict[str, Any], *names: str) -> dict[str, Any]:
    """``record`` with pictures of these names, where its own pictures lie."""
    key = record["key"]
    return record | {"media": {name: f"media/{key[:2]}/{key[:16]}-{name}.png" for name in names}}


def noise(std: float) -> dict[str, Any]:
    """Return a member of a stack that has a parameter."""
    return {"name": "gradient_noise", "provider": "d", "std": std, "version": 1}


def store(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Write ``records`` as a run would, and return the store."""
    for one in records:
        path = folder / "records" / one["key"][:2] / f"{one['key']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(one), encoding="utf-8")
    return folder
