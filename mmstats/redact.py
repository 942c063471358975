"""What looks like a secret, by its name and by its value, and how to take it out.

Best effort, and on the side of taking out too much: what is recorded about a process may be read
by people who may not know its passwords.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: What stands in the place of a secret.
REDACTED = "[redacted]"

_NAME = re.compile(
    r"pass(wd|word|phrase|code)?(?![a-z])|passw|pwd(?![a-z])|secret|token|credential|api[-_.]?key|apikey"
    r"|access[-_.]?key|account[-_.]?key|private|encrypt|signing|signature|salt(?![a-z])|cookie|session|bearer"
    r"|auth(?!or(?!i))|jwt|dsn(?![a-z])|connection[-_.]?string|webhook|(?<![a-z])key$|[-_.]key(?![a-z])"
    r"|(?<![a-z])(pin|otp|sid|csrf|xsrf)(?![a-z])",
    re.IGNORECASE,
)

_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"  # PEM
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"  # JSON web token
    r"|\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}"  # GitHub, GitLab
    r"|\bxox[a-z]-[\w-]{8,}"  # Slack
    r"|\b[sr]k[-_](?:live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{16,}"  # Stripe, OpenAI and alike
    r"|\bAIza[\w-]{30,}|\bya29\.[\w.-]{16,}"  # Google
    r"|\bnpm_[A-Za-z0-9]{16,}|\bpypi-[\w-]{16,}|\bhv[sb]\.[\w-]{16,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"
    r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{6,}",
    re.DOTALL,
)

#: Letters, digits and the signs of base64, long and mixed: nobody writes that by hand.
_RANDOM = re.compile(r"(?<![\w+/=.-])(?=[^\s]*[0-9])(?=[^\s]*[A-Za-z])[A-Za-z0-9+/_=-]{32,}(?![\w+/.-])")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)

_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)([^\s/?#@]*:[^\s/?#]*|[^\s/?#@]+)@", re.IGNORECASE)
_PAIR = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)(?P<sign>\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s&;,\"']+)")


def secret_name(name: str) -> bool:
    """Whether something of this name is likely to be secret."""
    # Camel case hides the border between words: dbPassword, apiKey.
    return bool(_NAME.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)))


def _random(match: re.Match[str]) -> str:
    word = match.group()
    if _UUID.match(word) or ("/" in word and not re.search(r"[A-Z0-9]{4}", word)):
        return word
    return REDACTED


def text(value: str) -> str:
    """`value` without what looks like a secret: credentials in URLs, keys, tokens, ``password=...``."""
    value = _USERINFO.sub(rf"\1{REDACTED}@", value)
    value = _VALUE.sub(REDACTED, value)

    def pair(match: re.Match[str]) -> str:
        if not secret_name(match["name"]):
            return match.group()
        return match["name"] + match["sign"] + REDACTED

    value = _PAIR.sub(pair, value)
    return _RANDOM.sub(_random, value)


def item(name: str, value: str) -> str:
    """The value of something that has a name, redacted by both."""
    return REDACTED if value and secret_name(name) else text(value)


def argv(arguments: Iterable[str]) -> list[str]:
    """A command line: ``--password=x`` and ``--password x`` lose their x, URLs their credentials."""
    result = []
    secret_next = False
    for argument in arguments:
        if secret_next and not argument.startswith("-"):
            result.append(REDACTED)
            secret_next = False
            continue
        secret_next = False
        name, sign, value = argument.partition("=")
        if sign and re.fullmatch(r"-{0,2}[\w.-]+", name):
            result.append(f"{name}={item(name, value)}")
            continue
        if re.fullmatch(r"-{1,2}[A-Za-z][\w.-]*", argument):
            secret_next = secret_name(argument)
        result.append(text(argument))
    return result


def environ(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables, each value redacted by its name and by itself."""
    return {name: item(name, value) for name, value in variables.items()}
