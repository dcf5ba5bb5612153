"""What policies in Python are written with. The types are those of the contract, wit/0.1.0."""

import json
import re
from typing import Any, ClassVar, Iterable, Optional, Sequence

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.plugin import Description, Kind, Preparation, Problem
from wit_world.imports import log, mount_table
from wit_world.imports.types import (
    Denial,
    Edit,
    Edit_AddOption,
    Edit_DropOption,
    Edit_SetFstype,
    Edit_SetSource,
    Edit_SetTarget,
    Location,
    MountOption,
    Operation_Bind,
    Operation_Mount,
    Operation_Move,
    Operation_Remount,
    Operation_SetPropagation,
    Operation_Unmount,
    Outcome,
    Review,
    Verdict,
    Verdict_Allow,
    Verdict_Deny,
    Verdict_Rewrite,
)

ALLOW: Verdict = Verdict_Allow()


class Policy(exports.Plugin):
    """A policy. The class of a plugin is named `Plugin` and is made of this one."""

    name: ClassVar[str]
    version: ClassVar[str]
    #: "validating" or "mutating"
    kind: ClassVar[str] = "validating"
    help: ClassVar[str]
    #: The codes of all denials.
    codes: ClassVar[Sequence[str]] = ()
    #: The fields of the request that rewrites change: source, target, fstype, options.
    changes: ClassVar[Sequence[str]] = ()
    #: The JSON Schema of each setting. One without a default is required. mountgate checks the settings against it.
    settings: ClassVar[dict[str, dict[str, Any]]] = {}

    def judge(self, settings: dict[str, Any], review: Review, mounts: Any) -> Verdict:
        """Judges a request. What it raises is a failure, which denies the request."""
        raise NotImplementedError

    def check(self, settings: dict[str, Any]) -> Iterable[Problem]:
        """Checks what a schema can't say."""
        return ()

    def watch(self, settings: dict[str, Any], outcome: Outcome, mounts: Any) -> None:
        """Is told how a request ended. A policy without this method isn't asked."""

    def with_defaults(self, settings: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        """The settings with their defaults."""
        defaults = {name: schema["default"] for name, schema in self.settings.items() if "default" in schema}
        return defaults | (settings or {})

    def describe(self) -> Description:
        required = [name for name, schema in self.settings.items() if "default" not in schema]
        schema = {
            "title": self.name,
            "type": "object",
            "properties": self.settings,
            "required": required,
            "additionalProperties": False,
        }
        kind = {"validating": Kind.VALIDATING, "mutating": Kind.MUTATING}[self.kind]
        return Description(self.name, self.version, kind, self.help, json.dumps(schema))

    def prepare(self, settings: str) -> Preparation:
        whole = self.with_defaults(json.loads(settings))
        try:
            problems = list(self.check(whole))
            for code in self.codes:
                check_code(code)
        except Exception as error:
            problems = [Problem("", plain(f"{type(error).__name__}: {error}"))]
        if problems:
            raise Err(problems)
        observes = type(self).watch is not Policy.watch
        return Preparation(json.dumps(whole).encode(), list(self.codes), list(self.changes), observes)

    def evaluate(self, prepared: bytes, review: Review) -> Verdict:
        try:
            return self.judge(json.loads(prepared), review, mount_table)
        except Err:
            raise
        except Exception as error:
            raise Err(plain(f"{type(error).__name__}: {error}")) from error

    def observe(self, prepared: bytes, outcome: Outcome) -> None:
        self.watch(json.loads(prepared), outcome, mount_table)


def deny(code: str, field: str, reason: str, hint: Optional[str] = None) -> Verdict:
    """Makes a denial. The code is in kebab case; control characters in the texts are escaped."""
    check_code(code)
    said = plain(reason) if reason.strip() else "no reason was given"
    return Verdict_Deny(Denial(code, said, plain(field), None if hint is None else plain(hint)))


def rewrite(*edits: Edit) -> Verdict:
    return Verdict_Rewrite(list(edits))


def add_option(name: str, value: Optional[str] = None) -> Edit:
    return Edit_AddOption(MountOption(name, value))


def last_of(options: Iterable[MountOption], *names: str) -> Optional[str]:
    """Which of some words counts: the one that was given last."""
    given = [option.name for option in options if option.name in names]
    return given[-1] if given else None


def lies_in(location: Location, folder: Location) -> bool:
    """Whether a location is a folder's, or lies below it."""
    if (location.device.major, location.device.minor) != (folder.device.major, folder.device.minor):
        return False
    return location.path == folder.path or location.path.startswith(folder.path.rstrip("/") + "/")


class Folders:
    """Folders of the settings, as the places that they lead to."""

    def __init__(self, paths: Sequence[str], mounts: Any) -> None:
        found = mounts.locate(list(paths)) if paths else []
        for path, location in zip(paths, found):
            if location is None:
                raise ValueError(f"{path} leads nowhere")
        self._folders = list(zip(paths, found))

    def holding(self, locations: Sequence[Location]) -> Optional[str]:
        """The path of the first folder that one of these locations lies in."""
        for path, folder in self._folders:
            if any(lies_in(location, folder) for location in locations):
                return path
        return None


def places_of(review: Review, mounts: Any) -> list[Location]:
    """All locations that a request is seen at, with all that they lie in under any name."""
    return mounts.around([place.location for place in review.places])


def check_code(code: str) -> None:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", code):
        raise ValueError(f"{code!r} can't be a code: write it as target-denied")


_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """A text without control characters and those that change the direction of writing."""
    return _HIDDEN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", text)
