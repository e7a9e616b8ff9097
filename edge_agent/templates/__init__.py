"""Texts for people and payloads for machines, made of events: built in, or by Jinja2 templates of the user.

Jinja2 is imported when a configuration has a template, not before.
"""

from edge_agent.templates.option import Template
from edge_agent.templates.plain import plain_text, title
from edge_agent.templates.rendering import EventText, try_templates

__all__ = ["EventText", "Template", "plain_text", "title", "try_templates"]
