"""Pages from Jinja2 templates: everything is escaped, a missing value is an error."""

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from sandbox.common.html import text


def environment(package: str, **names: Any) -> Environment:
    """Return the environment of a package's `templates`, with global names.

    Templates that are not in the package are those of `sandbox.common.html`:
    `page.html` to extend, `macros.html` to import. `nothing` is for an empty cell.
    """
    loaders = [PackageLoader(package), PackageLoader("sandbox.common.html")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        badge=text.badge,
        day=text.day,
        duration=text.duration,
        long_moment=text.long_moment,
        moment=text.moment,
        plural=text.plural,
    )
    environment.globals.update(names, nothing=text.NOTHING)
    return environment
