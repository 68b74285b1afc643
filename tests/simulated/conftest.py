"""These tests run where `test_simulated` starts them: in processes that have the simulated device."""

import os

collect_ignore_glob = [] if os.environ.get("SDPLIP_SIMULATED") else ["test_*.py"]
