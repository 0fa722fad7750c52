"""What tests share is in `tests.fixtures`; the process that only hands tests out does not wait for its imports."""

import pytest


def pytest_configure(config: pytest.Config):
    hands_out = config.getoption("numprocesses") and not hasattr(config, "workerinput")
    if not hands_out:
        config.pluginmanager.import_plugin("tests.fixtures")
