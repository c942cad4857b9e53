"""Checks of what dashboards and alerts ask for: `python -m check` in grafana/."""
