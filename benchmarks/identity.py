"""Whether a change leaves every prediction as it was: CSV files of two commits, compared byte by byte.

    python benchmarks/identity.py COMMIT [SLIDE[:MPP] ...]

Predicts the demo slide and the slides named, all genes, with the checkout as it is and with COMMIT, on this computer:
the last bit of a sum may differ between processors, and must not between two commits on one.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def predict(checkout: Path, slide: Path, mpp: str, out: Path) -> None:
    """Write the slide's files into `out` by the command line of a checkout."""
    scale = ["--mpp", mpp] if mpp else []
    command = [sys.executable, "-m", "nsl", "predict", str(slide), "--out", str(out), *scale]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)


def main(commit: str, *named: str) -> int:
    """Print a line a file; 1 where any differs."""
    sys.path.insert(0, str(ROOT))
    from nsl.slides.demo.slide import demo_slide

    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        before, demo = Path(folder) / "before", Path(folder) / "demo.tif"
        subprocess.run(["git", "worktree", "add", "--detach", "-q", str(before), commit], cwd=ROOT, check=True)
        try:
            demo_slide().save(demo)
            for slide, mpp in [(str(demo), ""), *(name.partition(":")[::2] for name in named)]:
                outs = [Path(folder) / "out" / side for side in ("before", "after")]
                for checkout, out in zip((before, ROOT), outs, strict=True):
                    predict(checkout, Path(slide).resolve(), mpp, out)
                for file in sorted(outs[0].glob(f"{Path(slide).stem}.*")):
                    same = file.read_bytes() == (outs[1] / file.name).read_bytes()
                    differ += not same
                    print(f"{file.name:40} {'equal' if same else 'DIFFERS'}")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], cwd=ROOT, check=True)
    return int(differ > 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
