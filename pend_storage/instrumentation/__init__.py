"""Instrumentation: timings and counters of stores, for Prometheus and OpenTelemetry.

A store without instruments reads no clock. With them, each call of a user is timed once,
where it enters the store. The public names are those of the stub ``__init__.pyi``, loaded
when they are first used: without the extras ``metrics`` and ``otel`` neither library is
imported.
"""


def __getattr__(name: str) -> object:
    from pend_storage._lazy_exports import load_export

    return load_export(__name__, name)


def __dir__() -> list[str]:
    from pend_storage._lazy_exports import exported_names

    return sorted({*globals(), *exported_names(__name__)})
