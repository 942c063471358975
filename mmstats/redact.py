"""What looks like a secret, by its name and by its value, and how to take it out.

Best effort, and on the side of taking out too much: what is recorded about a process may be read
by people who may not know its passwords.

All patterns take a time in proportion to the text: quantifiers are possessive or bounded wherever
something must follow them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: What stands in the place of a secret.
REDACTED = "[redacted]"

_NAME = re.compile(
    r"passw|passphrase|passcode|(?<!by)(?<!com)(?<!over)(?<!sur)(?<!under)pass(?![a-z])|pwd(?![a-z])"
    r"|secret(?!ar)|token(?!i[sz])|credential|private|encrypt|signature|cookie|session|bearer|jwt|webhook"
    r"|auth(?!or(?!i[sz]))|dsn(?![a-z])|conn(?:ection)?[-_.]?str|otlp\w{0,16}headers"
    r"|(?:access|account|aes|api|app|auth|crypto|deploy|hmac|host|licen[cs]e|master|pass|rsa|service|shared"
    r"|signing|ssh|storage)[-_.]?key"
    r"|(?<!foreign)(?<!primary)(?<!public)(?<!routing)[-_.]keys?(?![a-z])|(?<![a-z_.-])key\d*$"
    r"|(?<![a-z])(?:creds?|csrf|cvv|mfa|otp|pin|pw|salt|sid|signing|ssn|totp|xsrf)(?![a-z])",
    re.IGNORECASE,
)
#: Camel case hides the border between words: dbPassword, HMACKey.
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)

_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"eyJ[\w-]{8,1024}+(?:\.[\w-]*+){1,4}+"  # JSON web token
    r"|(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|gl[a-z]{2,5}-[\w-]{16,}"  # GitHub, GitLab
    r"|xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}|hooks\.slack\.com/services/[\w/-]+"  # Slack
    r"|discord(?:app)?\.com/api/webhooks/[\w/-]+|[0-9]{8,10}:[\w-]{35}(?![\w-])"  # Discord, Telegram
    r"|[sr]k[-_](?:live|test)[-_][\w-]{8,}|[sr]k[-_](?=[\w-]{0,64}[0-9])[\w-]{16,}"  # Stripe, OpenAI and alike
    r"|AIza[\w-]{30,}|ya29\.[\w.-]{16,}|GOCSPX-[\w-]{16,}"  # Google
    r"|(?:npm|hf|gsk|whsec|shp[a-z]{2}|dckr_pat|dop_v1|sntrys)_[\w+/=-]{16,}"
    r"|(?:pypi|AGE-SECRET-KEY|NRAK)-[\w-]{16,}|hv[sb]\.[\w-]{16,}|SG\.[\w-]{16,}+\.[\w-]{16,}"
    r"|(?i:bearer\s++(?!tokens?\b|auth))[\w+/=.~-]{6,}"
    r"|(?i:basic\s++)(?=[\w+/=-]{1,64}[A-Z0-9=])[\w+/=-]{6,}"
    r")"
)

#: Long and mixed: nobody writes that by hand.
_RUN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{32,}+(?![A-Za-z0-9])")
_BASE64 = re.compile(r"(?<![\w+/.-])[A-Za-z0-9+/_-]{32,}+={0,2}+(?!\.?\w)")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

#: What stands before the host of a URL. A password may hold slashes; what looks like a port does not begin one.
_USERINFO = re.compile(r"(?<=//)(?:[^\s/?#]+|[^\s/?#@:]*+:(?![0-9]{1,5}[/?#])(?:(?!//)\S)+)@")
#: ``user:password@`` of a host without a URL.
_BARE_USERINFO = re.compile(
    r"(?<![\w.%+/-])([A-Za-z][\w.%+-]*+):[^\s@/:\"']++@(?=(?:tcp|unix)\(|localhost\b|(?!sha256)[\w.-]++:[0-9])"
)

#: A name and what parts it from its value: ``name=``, ``"name": ``, ``name]=``, ``--name ``, ``<name>``.
_NAMED = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]++)"
    r"(?P<sign>(?:\\*+[\"'])?+(?:\]|%5[Dd])?+\s*+(?:=>|:=|==?+|:|>(?![\s>]))\s*+(?:\\\r?\n\s*+)?+|[ \t]++(?![\s=:]))"
)
_QUOTED = re.compile(
    r"[bBfFrRuU]{0,2}+(?:\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|\"(?:[^\"\\]|\\.)*+(?:\"\w*+|\\?\Z)|'(?:[^'\\]|\\.)*+(?:'\w*+|\\?\Z)"
    r"|(?P<quote>\\++[\"']).*?(?:(?P=quote)|\Z))",
    re.DOTALL,
)
_BRACKETED = re.compile(r"[\w.]{0,64}+[\[({][^\])}]*+[\])}]?+")
#: Ends at a blank, at a quote, and at a separator if another name follows it.
_PLAIN = re.compile(
    r"(?:(?i:apikey|basic|bearer|digest|token)[ \t]++)?+"
    r"(?:[^\s&;,\"'<]|[&;,](?![\s&;,\"']|\Z|[\w.-]++\s*+[=:])|[\"'](?=\w)|<(?!/))++"
)
#: What stands in code between the first word of a name's type and its value, as in ``password: str | None = ...``.
_ANNOTATED = re.compile(r"(?:[ \t]*+\|[ \t]*+[\w.\[\], ]*?[\w\]])*?[ \t]*+=(?!=)\s*+(?:\\\r?\n\s*+)?+")
_LINE = re.compile(r"[^\r\n]*+")
#: Headers whose values have blanks.
_HEADER = re.compile(r"(?:authorization|cookie)\Z", re.IGNORECASE)
#: What a server is told to run, as in ``auth:app``.
_APPLICATION = re.compile(r"(?:create_|make_)?(?:api|app|application|asgi|main|server|wsgi)(?:\(\))?(?![\w.-])")
#: Such a name may stand before a quoted secret with nothing but a blank between them.
_PASSWORD = re.compile(r"pass(?:word|wd|phrase)\Z|secret\Z|token\Z", re.IGNORECASE)

_ASSIGNED = re.compile(r"([\w.-]++)=")
_OPTION = re.compile(r"-{1,2}[A-Za-z][\w.-]*")
_FLAG = re.compile(r"-[A-Za-z]\Z|--[a-z][\w-]*+(?:=|\Z)")


def secret_name(name: str) -> bool:
    """Whether something of this name is likely to be secret."""
    return bool(_NAME.search(name) or _NAME.search(_CAMEL.sub("_", name)))


def text(value: str) -> str:
    """`value` without what looks like a secret: credentials in URLs, keys, tokens, ``password=...``."""
    value = _PEM.sub(REDACTED, value)
    value = _without_named(value)
    value = _USERINFO.sub(f"{REDACTED}@", value)
    value = _BARE_USERINFO.sub(rf"\1:{REDACTED}@", value)
    value = _VALUE.sub(REDACTED, value)
    value = _BASE64.sub(_unless_written, value)
    return _RUN.sub(_unless_plain, value)


def _without_named(value: str) -> str:
    """`value` without what follows a secret name."""
    parts = []
    done = 0
    for match in _NAMED.finditer(value):
        at = match.end()
        if at < done or not _introduces(match["name"], match["sign"], value[at : at + 1]):
            continue
        end = _end_of_secret(value, match.start(), match["name"], match["sign"], at)
        if end > at:
            parts += [value[done:at], REDACTED]
            done = end
    parts.append(value[done:])
    return "".join(parts)


def _introduces(name: str, sign: str, first: str) -> bool:
    """Whether what comes after `sign` and begins with `first` is the value of a secret name."""
    if sign.isspace():
        option = name.startswith("--") and not name.startswith("--no-") and first != "-"
        return (option and secret_name(name)) or (first in ("'", '"') and bool(_PASSWORD.search(name)))
    return secret_name(name)


def _end_of_secret(value: str, start: int, name: str, sign: str, at: int) -> int:
    """Where the secret ends that begins at `at` and whose name begins at `start`."""
    if sign == ":" and _APPLICATION.match(value, at):
        return at
    quoted = _QUOTED.match(value, at)
    if quoted:
        # A shell's way to quote quotes: piece after piece.
        while further := _QUOTED.match(value, quoted.end()):
            quoted = further
        return quoted.end()
    patterns = [_BRACKETED, _PLAIN]
    if _HEADER.search(name):
        before = value[start - 1 : start]
        end = value.find(before, at) if before in ("'", '"') else -1
        if end >= 0:
            return end
        patterns = [_LINE]
    for pattern in patterns:
        found = pattern.match(value, at)
        at = found.end() if found else at
    annotated = _ANNOTATED.match(value, at) if sign.strip() == ":" and patterns[0] is not _LINE else None
    return _end_of_secret(value, start, name, "=", annotated.end()) if annotated else at


def _unless_written(match: re.Match[str]) -> str:
    """Take out what changes between small and capital letters and digits as only chance does."""
    word = match.group()
    if _UUID.match(word) or word.islower() or word.isupper():
        return word
    pieces = _WORD.findall(word)
    longest = 2.6 if word.startswith("/") else 3.5  # a path has longer words than that
    return REDACTED if sum(map(len, pieces)) < longest * len(pieces) else word


def _unless_plain(match: re.Match[str]) -> str:
    word = match.group()
    return word if word.isalpha() or word.isdigit() else REDACTED


def item(name: str, value: str) -> str:
    """The value of something that has a name, redacted by both."""
    return REDACTED if value and secret_name(name) else text(value)


def argv(arguments: Iterable[str]) -> list[str]:
    """A command line: ``--password=x`` and ``--password x`` lose their x, URLs their credentials."""
    result = []
    option = ""
    for argument in arguments:
        if option and secret_name(option) and not _FLAG.match(argument):
            result.append(REDACTED)
            option = ""
        elif option in ("-u", "--user", "--proxy-user") and re.match(r"[^:]+:(?![0-9]+\Z)", argument):
            result.append(f"{argument.partition(':')[0]}:{REDACTED}")
            option = ""
        else:
            result.append(_argument(argument))
            option = argument if _OPTION.fullmatch(argument) and not argument.startswith("--no-") else ""
    return result


def _argument(argument: str) -> str:
    """One argument: what follows ``name=`` of a secret name goes as a whole, blanks and all."""
    at = 0
    while assigned := _ASSIGNED.match(argument, at):
        at = assigned.end()
        if secret_name(assigned[1]):
            return argument[:at] + (REDACTED if argument[at:] else "")
    return argument[:at] + text(argument[at:])


def environ(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables, each value redacted by its name and by itself."""
    return {name: item(name, value) for name, value in variables.items()}
