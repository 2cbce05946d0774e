"""A report as one HTML file that needs no network and runs nothing but its own script.

Whatever comes from results is text: every expression of the templates is escaped, and characters that are not seen or
turn the direction of reading are shown by their number. A content security policy forbids the page to fetch anything,
and to run any other script than the one with the hash that it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from steering.profiles import Profile
from steering.report.characters import breakable, spelled_out
from steering.report.content import content_of
from steering.report.drawings import embed
from steering.report.figures.figure import Figure
from steering.report.heat import STEPS
from steering.report.samples import LONGEST, METHODS, SHOWN
from steering.results import Row
from steering.verdicts.gate import GateReport


def render(
    rows: Sequence[Row],
    drawings: Sequence[Figure] = (),
    profile: Profile | None = None,
    gate: GateReport | None = None,
) -> str:
    """Write a report; the same rows and figures give the same page.

    Args:
        rows: Of one or several runs.
        drawings: Figures to show, each with its data.
        profile: As in `content_of`.
        gate: The rows against a baseline.

    Raises:
        SteeringError: The profile's concept cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("steering.report"),
        autoescape=True,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    script, style = (_source(environment, name) for name in ("report.js", "report.css"))
    page = environment.get_template("report.html.j2").render(
        content=content_of(rows, profile, gate),
        figures=[embed(drawing, f"figure-{number}") for number, drawing in enumerate(drawings, start=1)],
        policy=policy(script),
        script=Markup(script),  # noqa: S704 - a file of this package
        style=Markup(style),  # noqa: S704 - the same
        samples_shown=SHOWN,
        samples_methods=METHODS,
        samples_longest=LONGEST,
        steps=STEPS,
    )
    return page.strip() + "\n"


def policy(script: str) -> str:
    """The content security policy of a page with one inline script: nothing is fetched, and nothing else runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _finalized(value: Any) -> Any:
    return spelled_out(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
