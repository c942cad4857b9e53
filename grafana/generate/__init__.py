"""Dashboards as code: `python -m generate` in grafana/ writes grafana/dashboards/*.json, `--check` only compares."""
