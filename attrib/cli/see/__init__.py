"""``attrib see``: looks at a network, one verb a file. What is slow to import is imported inside the verbs."""

from __future__ import annotations

import typer

from attrib.cli.see.adversarial import adversarial_command
from attrib.cli.see.ascent import ascent_command
from attrib.cli.see.correspondence import correspondence_command
from attrib.cli.see.diagnose import diagnose_command
from attrib.cli.see.dream import dream_command
from attrib.cli.see.embedding import embedding_command
from attrib.cli.see.facets import facets_command
from attrib.cli.see.filters import filters_command
from attrib.cli.see.fires import fires_command
from attrib.cli.see.fooling import fooling_command
from attrib.cli.see.hog import hog_command
from attrib.cli.see.invariance import invariance_command
from attrib.cli.see.inversion import inversion_command
from attrib.cli.see.neighbours import neighbours_command
from attrib.cli.see.patches import patches_command
from attrib.cli.see.probes import probes_command
from attrib.cli.see.segment import segment_command
from attrib.cli.see.training import training_command

see = typer.Typer(
    name="see",
    help="Look at a network: its filters, what its units respond to, what it makes of pictures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
see.command("adversarial")(adversarial_command)
see.command("ascent")(ascent_command)
see.command("correspondence")(correspondence_command)
see.command("diagnose")(diagnose_command)
see.command("dream")(dream_command)
see.command("embedding")(embedding_command)
see.command("facets")(facets_command)
see.command("filters")(filters_command)
see.command("fires")(fires_command)
see.command("fooling")(fooling_command)
see.command("hog")(hog_command)
see.command("invariance")(invariance_command)
see.command("inversion")(inversion_command)
see.command("neighbours")(neighbours_command)
see.command("patches")(patches_command)
see.command("probes")(probes_command)
see.command("segment")(segment_command)
see.command("training")(training_command)
