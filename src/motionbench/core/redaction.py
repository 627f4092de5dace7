"""Text without the passwords and tokens that addresses and the environment hold."""

import os
import re
from urllib.parse import parse_qsl, quote, unquote

CONFIDENTIAL = (
    r"[\w.-]*(?:password|passwd|passphrase|secret|token|signature|credentials?|connection_string"
    r"|(?:api|access|account|secret)[_-]?key|_pwd|_pass|_pat)"
)
"""Names whose values are secrets, of fields in the query of an address and of environment variables."""
FIELD = re.compile(rf"((?:[?&;=]|%3[BDF]|%26)(?:{CONFIDENTIAL}|sig|pwd|pass|key|auth)(?:=|%3D))[^\s&]*", re.IGNORECASE)
"""Such a field, which may be escaped; the group is what to keep of it."""
OUTSIDE = re.compile(rf"((?<![\w.?&;=-]){CONFIDENTIAL}=|Authorization: \w+ )\S+", re.IGNORECASE)
"""The same outside of an address: in the settings of a database's library, or in the header of a request."""
NO_SECRETS = ("mlflow", "motionbench")  # what messages must be able to name
SHORTEST = 6  # characters of a secret that is looked for outside of addresses: a shorter one may be a usual word


def _credentials(inside: str) -> re.Pattern[str]:
    """Return what finds the credentials of an address, of the web or of a database, with what to keep before them.

    A password may have characters that should be escaped: it ends at the last @ before what is not `inside`. The user
    of a web address goes too, since it may be a token; what looks like its port is no password.
    """
    user = r"(?!\[)[^\s:/?#]*"  # a bracket starts an address of IPv6
    web = rf"(?P<web>(?:\w{{1,20}}\+)?https?://)(?P<login>{user}:(?!\d{{1,5}}[/?#]){inside}*|{user})@"
    database = rf"(?P<database>[a-z][\w+.-]{{0,30}}(?<!http)(?<!https)://{user}):(?P<password>{inside}*)@"
    return re.compile(f"{web}|{database}", re.IGNORECASE)


IN_TEXT, IN_VARIABLE = _credentials(r"\S"), _credentials(r"[\s\S]")


def without_secrets(text: str) -> str:
    """Return `text` without passwords and tokens: those of the addresses in it, and those in the environment.

    Host, database, and a database's user stay, so that a reader knows which address it is. A password with blanks is
    only known from the environment.
    """
    credentials, secrets = _in_environment()
    for shown, kept in credentials.items():
        text = text.replace(shown, kept)
    if secrets:
        longest_first = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
        # Whole words, of which one may follow the escape of a character.
        text = re.sub(rf"((?<!\w)|(?<=%[0-9A-Fa-f]{{2}}))({longest_first})(?!\w)", "***", text)
    return OUTSIDE.sub(r"\1***", FIELD.sub(r"\1***", IN_TEXT.sub(_kept, text)))


def _kept(found: re.Match[str]) -> str:
    return found["web"] or f"{found['database']}@"


def _in_environment() -> tuple[dict[str, str], set[str]]:
    """Return the credentials of the environment's addresses with what is shown instead, and all forms of its secrets.

    A library's message may have a secret without its address, or only a part of it, where no pattern finds it.
    """
    credentials, secrets = {}, set()
    for name, value in os.environ.items():
        if re.fullmatch(CONFIDENTIAL, name, re.IGNORECASE):
            secrets |= _forms(value.strip())
        if not {"@", "?"} & set(value):
            continue
        # The address of a proxy, or of a cluster, needs no scheme.
        scheme = "http://" if "://" not in value and name.lower().endswith(("_proxy", "ray_address")) else ""
        address = scheme + value
        fields = [field for key, field in parse_qsl(address.partition("?")[2]) if FIELD.match(f"?{key}=")]
        if found := IN_VARIABLE.match(address):
            credentials[found[0].removeprefix(scheme)] = _kept(found).removeprefix(scheme)
            user, _, password = (found["login"] or f":{found['password']}").partition(":")
            fields.append(password or user)
        # What the address shows anyway, such as a user with the same name, is no secret elsewhere.
        rest = FIELD.sub(r"\1***", IN_VARIABLE.sub(_kept, address))
        secrets |= {form for field in fields for form in _forms(field) if form not in rest}
    return credentials, secrets


def _forms(secret: str) -> set[str]:
    """Return a secret and its parts as they may appear in a message: escaped or not, or in quotes."""
    whole = {secret, unquote(secret)}
    parts = whole | {part for each in whole for part in re.split(r"[\s@:/?#;=]", each)}
    forms = {form for part in parts for form in (part, quote(os.fsencode(part), safe=""), repr(part)[1:-1])}
    return {form for form in forms if len(form) >= SHORTEST and form.lower() not in NO_SECRETS}
