"""``python -m attrib`` is the ``attrib`` command."""

from attrib.cli import main

raise SystemExit(main())
