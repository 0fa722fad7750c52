"""The app's server as `streamlit run` starts it, with the runs of `tests.remembered_runs`."""

import sys
from pathlib import Path

from streamlit.web import cli

sys.path.insert(0, str(Path(__file__).parents[2]))

import nsl.prediction  # noqa: E402
from tests import remembered_runs  # noqa: E402

nsl.prediction.predict = remembered_runs.predict
sys.argv[0] = "streamlit"
sys.exit(cli.main())
