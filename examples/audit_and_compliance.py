"""Record who exported whose data, deny it without a declared purpose, and verify the record."""

from __future__ import annotations

import tempfile
from pathlib import Path

import smw
from smw import errors, security

CATALOGUE = Path(__file__).parent / "music_agent" / "catalogue.toml"


@security.audit_log("user_data_access")
@security.require_compliance(["GDPR"])
def export(user_id: str) -> dict[str, str]:
    """Return a user's data."""
    return {"id": user_id, "email": f"{user_id}@example.org"}


def main() -> None:
    """Call it with and without evidence, in production and in an audit log of its own."""
    with tempfile.TemporaryDirectory() as folder:
        trail = Path(folder, "audit")
        settings = {"trail_dir": trail, "catalogue": CATALOGUE}
        with smw.Runtime("production", service="example", security=settings, monitor={"logs": "off"}):
            try:
                export("u1")
            except errors.Denied as denied:
                print(denied)
            with security.acting("anna", purpose="portability", subjects=["u1"]):
                print("allowed:", export("u1"))
        print(security.verify(trail))


if __name__ == "__main__":
    main()
