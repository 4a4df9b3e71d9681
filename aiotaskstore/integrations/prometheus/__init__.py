"""Metrics for Prometheus: `instrument(store)` counts what the store's events tell.

Needs the extra `prometheus`. The metrics, with their labels, are listed in `docs/guide/watching.md`.
"""

from __future__ import annotations

from aiotaskstore.integrations.required_package import required_package

with required_package("prometheus-client", "prometheus"):
    import prometheus_client as _prometheus_client  # noqa: F401 - said here once, before the modules that need it

from aiotaskstore.integrations.prometheus.instrumentation import Instrumentation, instrument

__all__ = ["Instrumentation", "instrument"]
