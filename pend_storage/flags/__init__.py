"""Phase flag: sources in which it may be written, and watchers of its changes.

The flag is what is *wanted*; the roles of the two stores are what *is*. A place for the
flag is a :class:`FlagSource`; :func:`flag_source` makes the one that the settings of an
environment name. :class:`FlagWatcher` notices changes, and :class:`AutoSwitch` acts on
them. :class:`FlagMemory` is what a pair of stores remembers of the versions it followed.

The public names are those of the stub ``__init__.pyi``, loaded when they are first used.
"""

_RENAMED = {"FirstSet": "ChainedFlag", "Wanted": "DesiredPhase"}


def __getattr__(name: str) -> object:
    from pend_storage._lazy_exports import load_export

    if name in _RENAMED:
        import warnings

        message = f"{__name__}.{name} is {_RENAMED[name]} now: use that name."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    return load_export(__name__, name)


def __dir__() -> list[str]:
    from pend_storage._lazy_exports import exported_names

    return sorted({*globals(), *exported_names(__name__)})
