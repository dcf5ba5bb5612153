"""Fails where three conditions hold."""

from mountgate import ALLOW, Operation_Bind, Policy


class Plugin(Policy):
    name = "nested-in-python"
    version = "0.1.0"
    help = "has a bug"
    codes = []
    settings = {"clean": {"description": "Whether the bug is taken out.", "type": "boolean", "default": False}}

    def judge(self, settings, review, mounts):
        request = review.request
        if isinstance(request.operation, Operation_Bind) and request.target.startswith("/srv/"):
            names = [option.name for option in request.options]
            if "nosymfollow" in names and not settings["clean"]:
                return names[len(names)]
        return ALLOW
