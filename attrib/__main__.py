"""``python -m attrib`` is the ``attrib`` command."""

from attrib.cli import main

if __name__ == "__main__":  # importing it runs nothing: documentation tools import every module
    raise SystemExit(main())
