"""Writer processes and a line to them, as the engine's tests have them."""

from tests.integration.engine.conftest import client, start_writer

__all__ = ["client", "start_writer"]
