"""``python -m pend_storage``: the same as the command ``pend-storage``."""

from pend_storage.cli.main import main

if __name__ == "__main__":
    main()
