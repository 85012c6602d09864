"""Licences as the Hub names them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from seqmm.names import nearest

# https://huggingface.co/docs/hub/repositories-licenses, without those of single language models
_IDENTIFIERS = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
fair-noncommercial-research-license unknown other
"""

LICENSES = frozenset(_IDENTIFIERS.split())

COMMON = "cc-by-4.0, cc-by-nc-4.0, cc0-1.0, odc-by, apache-2.0, mit, unknown"

OTHER = '"other" with `license_name` and `license_link`'


def check_license(license: str, name: str | None = None, link: str | None = None) -> dict[str, str]:
    """The card's front matter for a licence.

    Args:
        license: an identifier of the Hub's list.
        name: of a licence "other", such as ``movielens-1m``.
        link: to its text: a URL, or LICENSE or LICENSE.md for a file in the folder.

    Raises:
        ValueError: an unknown identifier, or "other" without name and link.
    """
    if license not in LICENSES:
        near = nearest(license.lower(), LICENSES)
        hint = f"{near.removeprefix('; ')} " if "did you mean" in near else ""
        raise ValueError(f"licence {license!r} is not one of the Hub's identifiers: {hint}{COMMON} …, or {OTHER}")
    if license != "other":
        if name or link:
            raise ValueError(f"a licence's name and link belong to the licence 'other'; this one is {license!r}")
        return {"license": license}
    if not name or not link:
        raise ValueError("licence 'other' needs `license_name` (an identifier) and `license_link` (a URL, or LICENSE)")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise ValueError(f"licence name {name!r}: use small letters, digits, - and ., such as movielens-1m")
    if link not in ("LICENSE", "LICENSE.md") and not re.fullmatch(r"https?://\S+", link):
        raise ValueError(f"licence link {link!r} must be a URL, or LICENSE or LICENSE.md for a file in the folder")
    return {"license": license, "license_name": name, "license_link": link}


def shown_license(license: Mapping[str, str]) -> str:
    return ", ".join(license.values())


def as_license(license: str | Mapping[str, str] | None) -> dict[str, str]:
    return check_license(license) if isinstance(license, str) else dict(license or {})
