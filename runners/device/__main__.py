"""``python -m runners.device pack`` here, ``python -m runners.device play`` there."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from runners.device.session import STEPS, Session

CARRIED, PLAYED = Path("outputs/carry"), Path("outputs/device")


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runners.device", description=sys.modules["runners.device"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="choose cells, and pack the data that they need")
    playing = commands.add_parser("play", help="tests, timings, then the chosen cells, until the time is over")
    for command in (packing, playing):
        command.add_argument("--carried", type=Path, default=CARRIED, help=f"folder that travels (default: {CARRIED})")
        data = os.environ.get("GAUNTLET_DATA")
        command.add_argument("--data", type=Path, default=data and Path(data), help="folder of all data sets")
    packing.add_argument("--megabytes", type=float, default=30.0, help="most of packed data (default: 30)")
    packing.add_argument("--sweeps", nargs="*", metavar="NAME", help="default: papers/*_full")
    playing.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    playing.add_argument("--minutes", type=float, default=8.0, help="until the command ends (default: 8)")
    playing.add_argument("--jobs", type=int, default=1, help="cells at a time (default: 1)")
    playing.add_argument("--into", type=Path, default=PLAYED, help=f"folder of the results (default: {PLAYED})")
    playing.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="which steps (default: all)")
    given = parser.parse_args()
    if given.command == "pack":
        from runners.device.pack import pack

        pack(given.carried, given.data, megabytes=given.megabytes, sweeps=given.sweeps)
        return 0
    return Session(given.device, given.minutes, given.into, given.carried, given.data, given.jobs, given.steps).run()


if __name__ == "__main__":
    sys.exit(main())
