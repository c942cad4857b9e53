"""The dashboards in the order in which they lead to one another."""

from . import overview

ALL = {"overview": overview}
