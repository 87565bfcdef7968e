"""Console of an environment: health, metrics, one page to look and to steer.

``app(settings)`` is an ASGI application, to be run alone or mounted into one of FastAPI or
Starlette; the command ``pend-storage console`` runs it. It needs the extra ``console``.
"""

from pend_storage._extras import with_packages

with with_packages(user="the console"):
    from pend_storage.console._actors import Actor, Authorise
    from pend_storage.console._app import Console, app

__all__ = ["Actor", "Authorise", "Console", "app"]
