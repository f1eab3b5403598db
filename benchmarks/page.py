"""The map's page in headless Chromium: size, time to the first picture, frames a second while it is moved.

    python benchmarks/page.py WORK [--points 10000,100000,1000000] [--screenshot docs/images/map-page.png]

Simulated maps (clusters of random size); WebGL is done by software (SwiftShader), which is the slowest there
is. Also types an id into the search and sees that it is found.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from browser import Browser

from kinmer.maps.picture import write_page

FRAMES = """
new Promise((done) => {
  const {plot} = kinmerMap; let drawn = 0; const began = performance.now();
  const counted = plot.subscribe('draw', () => { drawn += 1; });
  const canvas = document.getElementById('map'); const box = canvas.getBoundingClientRect();
  const send = (kind, x) => (kind === 'mousedown' ? canvas : window).dispatchEvent(new MouseEvent(kind,
    {bubbles: true, clientX: box.left + x, clientY: box.top + 300, button: 0, buttons: 1}));
  send('mousedown', 300); let step = 0;
  const move = () => {
    const passed = performance.now() - began;
    send('mousemove', 300 + 200 * Math.sin(++step / 10));
    if (passed < 5000) return requestAnimationFrame(move);
    send('mouseup', 300); plot.unsubscribe(counted);
    done([1000 * step / passed, 1000 * drawn / passed]);
  };
  requestAnimationFrame(move);
})
"""


def simulated(points: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Ids, coordinates and columns of a map of clusters."""
    rng = np.random.default_rng(0)
    groups = max(3, points // 2_000)
    centre = rng.normal(size=(groups, 2)) * 40
    group = rng.choice(groups, points, p=rng.dirichlet(np.full(groups, 0.5)))
    where = centre[group] + rng.normal(size=(points, 2)) * rng.uniform(0.3, 1.6, groups)[group, None]
    gc = np.clip(rng.uniform(0.3, 0.7, groups)[group] + 0.02 * rng.normal(size=points), 0, 1)
    columns = {
        "gc": gc,
        "length": np.exp(rng.normal(9, 1, points)).astype(int),
        "cluster": np.array([f"cluster {one}" for one in group]),
    }
    return np.array([f"contig_{one:07d}" for one in range(points)]), where, columns


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--points", default="10000,100000,1000000")
    parser.add_argument("--screenshot", type=Path)
    args = parser.parse_args()
    print("| points | page MB | opened s | frames/s while moved (drawn anew) | id found in ms |")
    print("| --- |" + " --- |" * 4)
    for points in (int(one) for one in args.points.split(",")):
        ids, where, columns = simulated(points)
        path = write_page(
            args.work / f"page{points}.html", ids, where, columns, color="gc", title="Simulated"
        )
        with Browser() as browser:
            began = time.perf_counter()
            browser.open(path)
            browser.wait("!!globalThis.kinmerMap", 300)
            opened = time.perf_counter() - began
            frames, drawn = browser.ask(FRAMES)
            wanted = ids[points // 3]
            milliseconds, found = browser.ask(
                f"(() => {{ const t = performance.now(); const r = kinmerMap.find('{wanted}');"
                f" return [performance.now() - t, kinmerMap.ids[r[0]]]; }})()"
            )
            if found != wanted:
                raise SystemExit(f"{wanted} is not found")
            print(
                f"| {points:,} | {path.stat().st_size / 1e6:.1f} | {opened:.1f} | {frames:.1f} ({drawn:.1f})"
                f" | {milliseconds:.0f} |",
                flush=True,
            )
            if args.screenshot:
                browser.ask("kinmerMap.plot.reset()")
                time.sleep(2)
                browser.picture(args.screenshot)


if __name__ == "__main__":
    main()
