"""What looks like a secret is taken out, by name and by value; what people need to see stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmstats import redact

# Written in pieces, so that no scanner of sources takes them for secrets that leaked.
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    + "eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    + "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
)
PEM_BODY = "MIIEpAIBAAKCAQEA3Tz2mr7SZiAMfQyuvBjM9OiJjRazXBZ1BjP5CE/Wm/Rr500P"


def pem(kind: str = "RSA ", block: str = "", newline: str = "\n") -> str:
    return newline.join([
        f"-----BEGIN {kind}PRIVATE KEY{block}-----", PEM_BODY, PEM_BODY[::-1], f"-----END {kind}PRIVATE KEY{block}-----"
    ])  # fmt: skip


SECRET_NAMES = [
    "password", "PASSWORD", "passwd", "DB_PASSWORD", "dbPassword", "db.password", "db-password", "MYSQL_PWD", "pgpass",
    "userPass", "passphrase", "PASSCODE", "pass", "DJANGO_SECRET_KEY", "secret", "clientSecret", "SECRET_KEY_BASE",
    "token", "ACCESS_TOKEN", "refreshToken", "apiKey", "api_key", "API-KEY", "APIKey", "apikey", "X-Api-Key", "key",
    "SSH_KEY", "sshkey", "HMACKey", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AccountKey", "SharedAccessKey",
    "SharedAccessSignature", "masterKey", "STRIPE_KEYS", "encryption_key", "ENCRYPTED", "privateKey", "credentials",
    "DB_CREDS", "authorization", "Proxy-Authorization", "AUTH", "basicAuth", "oauth_state", "cookie", "Set-Cookie",
    "sessionid", "PHPSESSION", "csrf", "csrftoken", "xsrf", "JWT", "bearer", "SENTRY_DSN", "connectionString",
    "DB_CONN_STR", "webhook_url", "salt", "signing_secret", "otp", "totp", "mfa", "pin", "pw", "db_pw", "sid", "cvv",
    "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "key1", "tOKEN",
]  # fmt: skip

ORDINARY_NAMES = [
    "path", "workers", "bind", "host", "port", "author", "AUTHORS", "coauthor", "authority", "authored_by", "KEYBOARD",
    "monkey", "--monkey", "turkey", "keyword", "KeyError", "keystroke", "bypass", "compass", "passed",
    "passenger", "passing", "surpass", "tokenizer", "tokenize", "TOKENISED", "secretary", "primary_key", "foreign_key",
    "routing_key", "public_key", "CELERY_TASK_DEFAULT_ROUTING_KEY", "spin", "opinion", "pinned", "side", "inside",
    "cobalt", "salted_caramel", "basalt", "assigning", "designing", "sacred", "HOSTNAME", "LANG", "TZ", "PYTHONPATH",
    "VIRTUAL_ENV", "WEB_CONCURRENCY", "MMSTATS_PATH", "CELERY_BROKER_URL", "version", "user", "name", "upward",
    "keyboard_layout",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_of_secrets_is_known_in_every_spelling(name: str) -> None:
    assert redact.secret_name(name)


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_an_ordinary_name_is_none_of_secrets(name: str) -> None:
    assert not redact.secret_name(name)


#: Values that give themselves away, whatever their name.
SECRET_VALUES = {
    "aws access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws temporary key": "ASIA" + "Y34FZKBOKMUTVV7A",
    "aws secret key": "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
    "github classic": "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "github app": "ghs_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "github fine": "github_pat_" + "11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789",
    "gitlab": "glpat-" + "20charactersOfToken1",
    "slack bot": "xoxb-" + "123456789012-1234567890123-abcdefGHIJKL",
    "slack app": "xapp-" + "1-A0123456-1234567890-abcdef",
    "slack hook": "https://hooks.slack.com/services/" + "T00000000/B00000000/XXXXXXXXXXXX",
    "discord hook": "https://discord.com/api/webhooks/" + "123456789/abcDEF-ghi_jkl",
    "telegram": "110201543:" + "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "stripe restricted": "rk_test_" + "abcdefghijklmnop",
    "openai": "sk-" + "proj-abc123def456ghi789jkl012",
    "google": "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "google oauth": "ya29." + "a0AfH6SMBx-abcdefghijkl",
    "npm": "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "pypi": "pypi-" + "AgEIcHlwaS5vcmcCJDA2",
    "hugging face": "hf_" + "abcdefghijklmnopqrstuvwx",
    "vault": "hvs." + "CAESIJ-abcdefghijklm",
    "sendgrid": "SG." + "ngeVfQFYQlKU0ufo8x5d1A." + "TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
    "hex": "5e884898da28047151d0e56f8dc62927" + "73603d0d6aabbdd62a11ef721d1542d8",
    "hex, 32": "5f4dcc3b5aa765d61d8327deb882cf99",
    "base64": "k3yM4t3r14l/abcDEF+ghi" + "JKL012mnoPQR345stu=",
    "base64, 32 bytes": "q83vEjRWeJq83vEjRWeJq83v" + "EjRWeJq83vEjRWeJo0U=",
    "base64url": "dGhpcy1pcy1hLXNlY3JldC1r" + "ZXktZm9yLXRlc3Rz_w-x",
    "jwt": JWT,
    "jwt without a signature": JWT.rpartition(".")[0] + ".",
    "pem": pem(),
    "pem, pkcs 8": pem(""),
    "pem, elliptic": pem("EC "),
    "pem, openssh": pem("OPENSSH "),
    "pem, pgp": pem("PGP ", " BLOCK"),
    "pem, in one line": pem(newline="\\n"),
    "pem, cut off": pem()[:90],
}
AROUND = [
    "{}",
    "got {} from upstream",
    "x={}",
    "'{}'",
    '"{}",',
    "({})",
    "<{}>",
    "a,{};b",
    "sent {}.",
    "https://x/?q={}&r=1",
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("what", SECRET_VALUES)
def test_a_secret_is_known_by_its_value(what: str, around: str) -> None:
    secret = SECRET_VALUES[what]
    told = redact.text(around.format(secret))
    assert redact.REDACTED in told
    for piece in (secret, secret[-20:], secret[len(secret) // 2 :], PEM_BODY, PEM_BODY[::-1]):
        assert piece not in told


#: Texts that hold ``hunter2`` next to what says that it is a secret.
NAMED_SECRETS = [
    'password: str = "hunter2"', 'password: str | None = "hunter2"', 'def f(token: Optional[str] = "hunter2"): pass',
    'password=\\\n "hunter2"', 'secret: dict[str, str] = {"a": "hunter2"}',
    "password=hunter2", "password = hunter2", "password: hunter2", "Password:hunter2", "password:\thunter2",
    "error: password=hunter2", "config: dsn: password: hunter2", "log='password=hunter2'", 'x="db password=hunter2"',
    "DB_PASSWORD=hunter2 python app.py", "export API_KEY=hunter2;", "apiKey: hunter2,",
    "host=h password=hunter2 user=u",
    "Server=h;Uid=sa;Pwd=hunter2;Database=d", "AccountName=n;AccountKey=hunter2==;EndpointSuffix=s",
    "https://h/cb?state=1&access_token=hunter2&x=1", "https://h/cb#token=hunter2", "user[password]=hunter2",
    "user%5Bpassword%5D=hunter2&x=1", '{"password": "hunter2"}', '{"user":"joe","apiKey":"hunter2","x":1}',
    "{'password': 'hunter2'}", "{'password': b'hunter2'}", '{\\"password\\": \\"hunter2\\"}', ":password => 'hunter2'",
    "password := 'hunter2'", "Login(user='joe', password='hunter2', x=1)",
    "Login(user='joe', password=Secret('hunter2'))",
    "passwords = ['abc', 'hunter2']", '{"credentials": ["a b", "hunter2"]}', "tokens: (1, 'hunter2')",
    "<password>hunter2</password>", "sh -c 'db --password hunter2 -v'", "--token=hunter2", "--token 'hunter2'",
    "the password 'hunter2' was refused", "CREATE USER u WITH PASSWORD 'hunter2'", "Invalid token \"hunter2\"",
    "Authorization: hunter2", "Authorization: Token hunter2", "authorization: Basic hunter2", "auth: Bearer hunter2",
    "Authorization: Digest username=\"u\", response=\"hunter2\"", "-H 'Authorization: Token hunter2' http://h/",
    "{'Authorization': 'Token hunter2'}", "Cookie: a=1; b=hunter2; c=3", "Set-Cookie: sid=hunter2; Path=/",
    "b'GET / HTTP/1.1\\r\\nAuthorization: Token hunter2\\r\\n'", "X-Api-Key: hunter2", "got Bearer hunter2 from",
    "Proxy-Authorization: Custom a hunter2", "password=\"correct hunter2 battery\"", "password='it\\'s hunter2'",
    'password="unclosed hunter2', "password=a(b)hunter2", "password=p,hunter2", "password=it'shunter2",
    "password=a&hunter2", "x-honeycomb: 1,api-key=hunter2", "spring.datasource.password=hunter2",
    "https://joe:hunter2@example.com/x", "https://hunter2@example.com/x", "redis://:hunter2@h:6379/0",
    "postgresql+psycopg://u:hunter2@h/db?sslmode=on", "amqp://u:hunter2@h//", "mongodb://u:hunter2@h1:1,h2:2/d",
    "postgres://u:pa/hunter2@h/db", "postgres://u:p@hunter2@h/db", "postgres://u:hunter2/?#x@h/db",
    "http://k:hunter2@o1.ingest.sentry.io/1", "'http://a','http://u:hunter2@h'", "root:hunter2@tcp(127.0.0.1:3306)/d",
    "proxy is joe:hunter2@proxy.example.com:3128", "//u:hunter2@h/x", "sqs://AKID:ab/hunter2@",
    "got private_key: -----BEGIN RSA PRIVATE KEY-----\nhunter2\n", "Basic aHVudGVyMg==hunter2",
    "eval 'dict(password='\"'\"'hunter2'\"'\"')'", "password=''hunter2",
]  # fmt: skip


@pytest.mark.parametrize("value", NAMED_SECRETS)
def test_a_secret_in_a_text_is_known_by_what_stands_before_it(value: str) -> None:
    told = redact.text(value)
    assert "hunter2" not in told
    assert redact.REDACTED in told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("https://joe:hunter2@example.com:8080/x?y=1", "https://[redacted]@example.com:8080/x?y=1"),
        ("host=h password=hunter2 user=u", "host=h password=[redacted] user=u"),
        ("https://h/?token=hunter2&page=2#top", "https://h/?token=[redacted]&page=2#top"),
        ('{"user": "joe", "password": "hunter2", "n": 1}', '{"user": "joe", "password": [redacted], "n": 1}'),
        ("f(password='hunter2', n=1)", "f(password=[redacted], n=1)"),
        ("Pwd=hunter2;Database=d", "Pwd=[redacted];Database=d"),
        ("curl -H 'Authorization: Token hunter2' http://h/", "curl -H 'Authorization: [redacted]' http://h/"),
        ("Cookie: a=1; b=2\nAccept: text/html", "Cookie: [redacted]\nAccept: text/html"),
        (f"failed with {SECRET_VALUES['github classic']} at 12:30", "failed with [redacted] at 12:30"),
        (f"cert: {pem()}\nport: 80", "cert: [redacted]\nport: 80"),
    ],
)
def test_no_more_goes_than_the_secret(value: str, told: str) -> None:
    assert redact.text(value) == told


ORDINARY_TEXTS = [
    "", "/usr/lib/python3.11/site-packages/gunicorn/app/wsgiapp.py", "./manage.py", "~/src/project/app.py",
    "/home/deploy/applications/my-project-2/releases/20240101120000/current/app",
    "/opt/MyCompany/ApplicationServer2/Releases/DataProcessing/current", "C:\\Users\\joe\\app.py",
    "/dev/shm/mmstats-1000/web-1234-0a1b2c3d.mmstats", "unix:/run/gunicorn/app.sock", "0.0.0.0:8000", "[::1]:8000",
    "app:app", "project.wsgi:application", "auth:app", "myproject.authentication.asgi:application",
    "session.web:create_app()",
    "--workers", "2", "--workers=2", "--worker-class=gevent", "--bind=0.0.0.0:8000", "--max-requests=1000",
    "author=Ada Lovelace", "KEYBOARD=qwerty", "--monkey", "tokenizer=gpt2", "primary_key=id", "1.2.3",
    "3.11.7+gbdc1234",
    "Python 3.11.7 (main, Dec  4 2023, 18:10:11) [GCC 12.2.0]", "2024-01-01T12:00:00+00:00",
    "key error: KeyError: 'name'",
    "http://example.com:8080/a/b?page=2&sort=asc#top", "https://medium.com/@joe/post", "git@github.com:org/repo.git",
    "http://h:80/users/joe@example.com", "mailto:joe@example.com", "joe@example.com", "celery@host-1.example.com",
    "registry.example.com:5000/team/app:1.25", "basic settings", "a bearer of news", "Basic Instinct",
    "the quick brown fox jumps over the lazy dog", "payments-api-production-eu-west-1-7d9f8b6c5-x7k2p",
    "test_that_a_long_name_of_3_words_with_underscores_survives", "AbstractSingletonProxyFactoryBeanInterfaceAdapter",
    "task-queue.scikit-learn", "sk-learn-model-of-flowers", "1 passed, 2 failed in 0.12s", "C.UTF-8", "Europe/Berlin",
    "a" * 64, "0" * 64, "-" * 80, "=" * 80, "_" * 80, "/" * 80, "x = y", "a: b", "12345678901234567890123456789012345",
    "--certfile=/etc/ssl/cert.pem", "python -m gunicorn --no-auth app:app", "état: très bien", "日本語=値",
]  # fmt: skip


@pytest.mark.parametrize("value", ORDINARY_TEXTS)
def test_an_ordinary_text_stays_as_it_is(value: str) -> None:
    assert redact.text(value) == value
    assert redact.item("note", value) == value
    assert redact.argv([value]) == [value]
    assert redact.environ({"NOTE": value}) == {"NOTE": value}


def test_uuids_stay_in_every_spelling() -> None:
    for number in range(500):
        value = str(uuid.UUID(int=number * 0x1234567890ABCDEF1234567890AB % (1 << 128)))
        for spelling in (value, value.upper(), f"urn:uuid:{value}", f"/jobs/{value}/state", f"{{{value}}}"):
            assert redact.text(spelling) == spelling


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["db", "--password", "hunter2", "-v"], ["db", "--password", "[redacted]", "-v"]),
        (["db", "--password=hunter2"], ["db", "--password=[redacted]"]),
        (["db", "--password=hunter 2 = x"], ["db", "--password=[redacted]"]),
        (["db", "-password", "hunter2"], ["db", "-password", "[redacted]"]),
        (["db", "--db.password", "hunter2"], ["db", "--db.password", "[redacted]"]),
        (["db", "--apiKey", "hunter2"], ["db", "--apiKey", "[redacted]"]),
        (["db", "-pw", "hunter2"], ["db", "-pw", "[redacted]"]),
        (["db", "--password", "-hunter2"], ["db", "--password", "[redacted]"]),
        (["db", "--password", "--!hunter2"], ["db", "--password", "[redacted]"]),
        (["db", "--password", "--verbose", "x"], ["db", "--password", "--verbose", "x"]),
        (["db", "--password", "-v", "x"], ["db", "--password", "-v", "x"]),
        (["db", "--password", "--token", "hunter2"], ["db", "--password", "--token", "[redacted]"]),
        (["db", "--password"], ["db", "--password"]),
        (["db", "--password="], ["db", "--password="]),
        (["db", "--password", ""], ["db", "--password", "[redacted]"]),
        (["serve", "--no-auth", "app:app"], ["serve", "--no-auth", "app:app"]),
        (["env", "DB_PASSWORD=hunter2", "app"], ["env", "DB_PASSWORD=[redacted]", "app"]),
        (["run", "--env=DB_PASSWORD=hunter 2"], ["run", "--env=DB_PASSWORD=[redacted]"]),
        (["run", "-e", "DB_PASSWORD=hunter2"], ["run", "-e", "DB_PASSWORD=[redacted]"]),
        (["java", "-Dspring.password=hunter2"], ["java", "-Dspring.password=[redacted]"]),
        (["curl", "-u", "joe:hunter2", "x"], ["curl", "-u", "joe:[redacted]", "x"]),
        (["curl", "--user", "joe:hunter2"], ["curl", "--user", "joe:[redacted]"]),
        (["gunicorn", "--user", "www-data", "app:app"], ["gunicorn", "--user", "www-data", "app:app"]),
        (["docker", "--user", "1000:1000"], ["docker", "--user", "1000:1000"]),
        (["python", "-u", "app.py", "a:b"], ["python", "-u", "app.py", "a:b"]),
        (["curl", "-H", "Authorization: Token hunter2"], ["curl", "-H", "Authorization: [redacted]"]),
        (["curl", "--header=Authorization: Token hunter2"], ["curl", "--header=Authorization: [redacted]"]),
        (["w", "--broker=redis://:hunter2@h/0"], ["w", "--broker=redis://[redacted]@h/0"]),
        (["w", "--broker", "redis://:hunter2@h/0"], ["w", "--broker", "redis://[redacted]@h/0"]),
        (["python", "-c", "login(password='hunter2')"], ["python", "-c", "login(password=[redacted])"]),
        (["app", "--author=Ada", "--workers", "2"], ["app", "--author=Ada", "--workers", "2"]),
        (["app", "--keyboard", "qwerty", "--monkey", "george"], ["app", "--keyboard", "qwerty", "--monkey", "george"]),
        ([], []),
    ],
)  # fmt: skip
def test_a_command_line_loses_its_secrets_and_nothing_else(arguments: list[str], told: list[str]) -> None:
    assert redact.argv(arguments) == told


def test_the_environment_is_redacted_by_name_and_by_value() -> None:
    assert redact.environ({
        "CELERY_BROKER_URL": "amqp://joe:hunter2@h//",
        "CELERY_PASSWORD": "two words",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=hunter2",
        "OTEL_SERVICE_NAME": "shop",
        "GUNICORN_CMD_ARGS": "--bind=:80 --password hunter2 --workers=2",
        "EMPTY_TOKEN": "",
        "NOTE": SECRET_VALUES["jwt"],
    }) == {
        "CELERY_BROKER_URL": "amqp://[redacted]@h//",
        "CELERY_PASSWORD": "[redacted]",
        "OTEL_EXPORTER_OTLP_HEADERS": "[redacted]",
        "OTEL_SERVICE_NAME": "shop",
        "GUNICORN_CMD_ARGS": "--bind=:80 --password [redacted] --workers=2",
        "EMPTY_TOKEN": "",
        "NOTE": "[redacted]",
    }  # fmt: skip


# Hypothesis.

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=200)  # lone surrogates too, as in a real argv
PIECES = st.lists(
    st.sampled_from([*SECRET_VALUES.values(), *NAMED_SECRETS, *SECRET_NAMES, *"=:\"'\\ \n-_/@&;,<>[](){}."]),
    max_size=12,
).map("".join)
NAMES = st.sampled_from(SECRET_NAMES)
#: Longer than what it could be mistaken for, and of no letter that also stands around it.
QUOTABLE = st.text(st.characters(codec="utf-8"), min_size=4, max_size=40).map(lambda text: f"ZQ{text}QZ")
PLAIN = st.text("ABCxyz0189!$%*+-./?@^_~#|(){}[]=:", min_size=4, max_size=40).map(lambda text: f"ZQ{text}QZ")
WORDS = st.lists(
    st.sampled_from(["started", "a=1", "x: y", "-v", "--workers 2", "http://h/", "[ok]", "it's", "1,2;3", ""])
)
WORDS_AROUND = WORDS.map(" ".join)


@given(value=ANYTHING | PIECES, name=ANYTHING | NAMES)
def test_nothing_makes_redaction_raise(value: str, name: str) -> None:
    assert isinstance(redact.secret_name(name), bool)
    assert isinstance(redact.text(value), str)
    assert isinstance(redact.item(name, value), str)
    assert len(redact.argv([name, value, f"--{name}", value, f"{name}={value}"])) == 5
    assert redact.environ({name: value}).keys() == {name}


@given(name=NAMES, secret=QUOTABLE)
def test_no_secret_survives_beside_its_name_in_a_command_line_or_the_environment(name: str, secret: str) -> None:
    assert secret not in redact.item(name, secret)
    assert secret not in redact.environ({name: secret})[name]
    for arguments in ([f"--{name}", secret], [f"--{name}={secret}"], [f"{name}={secret}"], ["-e", f"{name}={secret}"]):
        assert all(secret not in argument for argument in redact.argv(["app", *arguments, "app:app"]))


@given(
    name=NAMES, secret=QUOTABLE, before=st.dictionaries(st.sampled_from(["a", "user", "it's"]), QUOTABLE, max_size=2)
)
def test_no_secret_survives_beside_its_name_in_json_or_a_repr(name: str, secret: str, before: dict[str, str]) -> None:
    before = {key: value.replace(secret, "") for key, value in before.items()}
    for dumped in (
        json.dumps({name: secret, **before}),
        json.dumps({**before, name: secret}, ensure_ascii=False, indent=1),
        json.dumps({name: secret}, separators=(",", ":")),
        repr({name: secret, "x": 1}),
        f"Login({name.replace('-', '_')}={secret!r}, x=1)",
    ):
        told = redact.text(dumped)
        assert secret not in told
        assert json.dumps(secret)[1:-1] not in told
        assert repr(secret)[1:-1] not in told


@given(name=NAMES, secret=PLAIN, before=WORDS_AROUND, after=WORDS_AROUND)
def test_no_secret_survives_beside_its_name_in_a_text(name: str, secret: str, before: str, after: str) -> None:
    for said in (
        f"{name}={secret}", f"{name}: {secret}", f"{name}:{secret}", f"--{name} {secret}", f"{name} = {secret}",
        f'{name}="{secret}"', f"http://h/?a=b&{name}={secret}&c=d", f"a=b;{name}={secret};c=d",
    ):  # fmt: skip
        assert secret not in redact.text(f"{before} {said} {after}")


# Time.

HOSTILE = {
    "letters": "a" * 100_000,
    "words": "ab " * 33_333,
    "names": "a=" * 50_000,
    "secret names": "password=" * 11_111,
    "secret names with blanks": "password = " * 9_090,
    "names in brackets": "token[" * 16_666,
    "openings": "token=(" * 14_285,
    "quotes": 'token="' * 14_285,
    "escaped quotes": 'token=\\"' * 12_500,
    "backslashes": 'token="' + "\\" * 99_993,
    "single letters": "a,1," * 25_000,
    "base64 and dots": "A1b2" * 8 + ".A1b2c3" * 14_000,
    "dots": "a." * 50_000,
    "dashes": "-" * 100_000,
    "slashes": "/" * 100_000,
    "schemes": "a://" * 25_000,
    "urls": "a://b:c" * 14_285,
    "urls with slashes": "//a:b/" * 16_666,
    "user names": "a:" * 50_000,
    "at signs": "a:b@" * 25_000,
    "colon and at signs": "//:" + "@" * 99_997,
    "addresses": "a:b@c" * 20_000,
    "jwt": "eyJ-" * 25_000,
    "jwt with dots": "eyJabcdefgh." * 8_333,
    "sendgrid": "SG.aaaaaaaaaaaaaaaa." * 5_000,
    "sendgrid letters": "SG." + "a" * 99_997,
    "openai": "sk-" * 33_333,
    "openai letters": "sk-" + "a" * 99_997,
    "pem": "-----BEGIN PRIVATE KEY-----" * 3_703,
    "pem heads": "-----BEGIN " * 9_090,
    "pem letters": "-----BEGIN " + "A " * 49_994,
    "blanks": " " * 100_000,
    "a name and blanks": "password" + " " * 99_992,
    "names and blanks": ("password" + " " * 92) * 1_000,
    "a name and newlines": "password" + "\n" * 99_992,
    "bearer and blanks": "bearer" + " " * 99_994,
    "bearers": "bearer basic " * 7_692,
    "headers": "authorization: 'x " * 5_555,
    "quoted headers": "'authorization: x" * 5_882,
    "separators": "token=" + "," * 99_994,
    "separators and words": "token=" + ",a" * 49_997,
    "separators and blanks": "token=" + ",a " * 33_331,
    "otlp": "otlp" * 25_000,
    "camel case": "aA" * 50_000,
    "options": "--a " * 25_000,
    "dots in names": "token." * 16_666,
    "capitals": "A" * 100_000,
    "mixed": "A1" * 50_000,
    "null": "\0" * 100_000,
    "tags": "<token>" * 14_285,
}
PROBE = """
import sys, time
from mmstats import redact
text = sys.stdin.read()
start = time.process_time()
redact.text(text), redact.item("note", text), redact.item(text, "x"), redact.argv([text, "--" + text, text])
redact.environ({"GUNICORN_CMD_ARGS": text})
print(time.process_time() - start)
"""


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_text_of_100_kb_takes_no_more_than_seconds(what: str) -> None:
    assert 90_000 < len(HOSTILE[what]) <= 100_100
    result = subprocess.run(
        [sys.executable, "-c", PROBE], input=HOSTILE[what], text=True, capture_output=True, timeout=30,
        env={**os.environ, "MMSTATS_PURE_PYTHON": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # Some seven passes. What takes the square of the length takes minutes.
    assert float(result.stdout) < 4.0
