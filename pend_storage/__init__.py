"""Move a live server from JSON files to PostgreSQL and back, with nothing lost.

.. code-block:: python

    import pend_storage as ps

    store = ps.open_store("pend.toml", environment="production")
    users = store.collection("users")

The public names are those of the stub ``__init__.pyi``, which is their only list. Each is
loaded when it is first used, so that importing the package is quick, and needs no optional
package.
"""


def __getattr__(name: str) -> object:
    from pend_storage._lazy_exports import load_export

    return load_export(__name__, name)


def __dir__() -> list[str]:
    from pend_storage._lazy_exports import exported_names

    return sorted({*globals(), *exported_names(__name__)})
