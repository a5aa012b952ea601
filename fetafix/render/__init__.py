"""Renderers: one module a format, each `render(report, …) -> str`. None prints; all work from the report alone."""
