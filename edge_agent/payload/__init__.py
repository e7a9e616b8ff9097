"""Payload bytes to named values: JSON, CSV, text and binary forms shared by the adapters.

::

    PayloadOptions ──build_decoder──▶ Decoder.decode(payload, captures) ──▶ list[Field]   or PayloadError

Any bytes give either fields or :class:`~edge_agent.errors.PayloadError`; nothing else comes out. Values are not
judged here: NaN, infinite and absurd numbers pass, the intake flags them.
"""

from edge_agent.errors import PayloadError
from edge_agent.payload.decoder import Decoder, build_decoder
from edge_agent.payload.field import Field
from edge_agent.payload.options import PayloadFormat, PayloadOptions

__all__ = ["Decoder", "Field", "PayloadError", "PayloadFormat", "PayloadOptions", "build_decoder"]
