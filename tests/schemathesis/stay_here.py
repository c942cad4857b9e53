"""Redirects are answers: what the service sends on to is a viewer, whose pages its description does not describe."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    kwargs["allow_redirects"] = False
