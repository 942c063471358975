"""HTML that needs nothing else: no script, no other file, nothing from the network.

All that comes from files and processes goes through jinja2's escaping, and what would not be printed is spelled
out, so that no text can write markup, reorder a line or hide.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from mmstats.errors import ConfigurationError


class Pages:
    """The templates ``page.html`` and ``body.html`` of a package, and its ``style.css``.

    They get ``style``, its digest ``style_hash``, and ``inline``: whether the body stands alone and brings the style.
    """

    def __init__(self, package: str, visible: Callable[[str], str]) -> None:
        """
        visible: spells out control characters of what is about to be escaped and shown
        """
        self._package = package
        self._visible = visible

    def page(self, context: Mapping[str, Any]) -> str:
        """A whole page. Raises `ConfigurationError` without jinja2, as `fragment` does."""
        return self._rendered("page.html", context, inline=False)

    def fragment(self, context: Mapping[str, Any]) -> str:
        """The same without the page around it: one element, styled by rules that apply inside it alone."""
        return self._rendered("body.html", context, inline=True)

    def _rendered(self, name: str, context: Mapping[str, Any], inline: bool) -> str:
        template = _environment(self._package, self._visible).get_template(name)
        style = _resource(self._package, "style.css")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        rendered: str = template.render(context, style=style, style_hash=digest, inline=inline)
        return rendered


def _resource(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment(package: str, visible: Callable[[str], str]) -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ConfigurationError("a page needs jinja2: pip install 'mmstats[html]'") from error

    def shown(value: Any) -> Any:
        return value if hasattr(value, "__html__") else visible(str(value))

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _resource(package, name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
