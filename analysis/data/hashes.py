"""Hashes of what was read."""

from __future__ import annotations

import hashlib
import json


def content_hash(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
