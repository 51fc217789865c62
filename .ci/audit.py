"""Known vulnerabilities of the pinned packages, by pip-audit; exit code 1 if there are any.

Where the service cannot be reached, or does not know a package, this says so and is no error: tests must also run offline.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = sorted(Path("requirements").glob("*.txt"))


def main() -> int:
    command = [str(Path(sys.executable).with_name("pip-audit")), "--no-deps", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "20"]
    for pins in PINS:
        command += ["--requirement", str(pins)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"note: pip-audit could not ask for vulnerabilities ({done.stderr.strip().splitlines()[-1:]})")
        return 0
    known = [p for p in packages if "vulns" in p]
    print(f"pip-audit: {len(known)} of {len(packages)} pinned packages are known to the service")
    for package in known:
        for found in package["vulns"]:
            mended = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"error: {package['name']} {package['version']}: {found['id']}, mended in {mended}")
    return int(any(p["vulns"] for p in known))


if __name__ == "__main__":
    sys.exit(main())
