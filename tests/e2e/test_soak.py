"""A short soak: everything at once for a while. scripts/soak.sh runs the same for hours."""
import os

from soak import Soak

# $POCKETFLEET_SOAK_SECONDS; three minutes where CI has the time; else long enough to see that it runs.
SECONDS = float(os.environ.get("POCKETFLEET_SOAK_SECONDS") or (180 if os.environ.get("CI") == "true" else 20))

# Phones die here far oftener than anywhere: with the default three tries an answer may be lost once in thousands,
# which docs/reliability.md counts and this test would stumble over.
PERSISTENT = {"attempts": 6, "rescues": 6}


def test_soak(start, llama_programs, counting_model):
    soak = Soak(start, llama_programs, counting_model, SECONDS, settings=PERSISTENT)
    good = soak.run()
    print(soak.table())
    assert good, "\n".join([*soak.wrong, *soak.told.complaints[:20], *soak.log_of_failures()[:20]])
    assert soak.told.count("stream", "ok") and soak.told.count("whole", "ok") and soak.kills and soak.reloads
