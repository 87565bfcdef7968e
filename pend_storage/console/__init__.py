"""Console of an environment: health, metrics, one page to look and to steer.

``app(settings)`` is an ASGI application, to be run alone or mounted into one of FastAPI or
Starlette; the command ``pend-storage console`` runs it. It needs the extra ``console``.
"""
