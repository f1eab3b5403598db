"""The map's page in headless Chromium: size, time to the first picture, frames a second, memory.

    python benchmarks/page.py WORK [--points 10000,100000,1000000,4776770] [--screenshot map-page.png]

Simulated maps (clusters of random size); WebGL is done by software (SwiftShader), which is the slowest there
is. The map is dragged and zoomed for five seconds each, and an id is typed into the search. The largest size
comes last: the memory of the writer is its peak so far.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from browser import Browser

from kinmer.maps.picture import write_page

# One event of the mouse a frame for five seconds; frames a second.
FRAMES = """
new Promise((done) => {
  const canvas = document.getElementById('map'), box = canvas.getBoundingClientRect();
  const at = {bubbles: true, cancelable: true, clientX: box.left + 400, clientY: box.top + 400};
  const send = (kind, Kind, more) => canvas.dispatchEvent(new Kind(kind, {...at, ...more}));
  const held = {button: 0, buttons: 1}, drag = DRAG, began = performance.now();
  if (drag) send('mousedown', MouseEvent, held);
  let frames = 0;
  const step = () => {
    const passed = performance.now() - began;
    frames += 1;
    if (drag) send('mousemove', MouseEvent, {...held, clientX: box.left + 400 + 200 * Math.sin(frames / 10)});
    else send('wheel', WheelEvent, {deltaY: passed < 2500 ? -20 : 20});
    if (passed < 5000) return requestAnimationFrame(step);
    if (drag) send('mouseup', MouseEvent, held);
    done(1000 * frames / passed);
  };
  requestAnimationFrame(step);
})
"""
# Milliseconds, and the id that comes first, until it is on the screen.
FOUND = """
(async () => {
  const began = performance.now(), [row] = kinmerMap.find('WANTED'), found = performance.now() - began;
  await kinmerMap.fly(row);
  return [found, performance.now() - began, kinmerMap.idOf(row)];
})()
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
    parser.add_argument("--points", default="10000,100000,1000000,4776770")
    parser.add_argument("--screenshot", type=Path)
    args = parser.parse_args()
    print(
        "| points | page MB | written CPU-s | peak GB | first picture s | all read s | frames/s dragged |"
        " zoomed | id found ms | shown ms | browser GB |"
    )
    print("| --- |" + " --- |" * 10)
    for points in (int(one) for one in args.points.split(",")):
        ids, where, columns = simulated(points)
        path = args.work / f"page{points}.html"
        began = time.process_time()
        write_page(path, ids, where, columns, color="gc", title="Simulated")
        cpu, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        with Browser() as browser:
            browser.open(path)
            browser.wait("!!globalThis.kinmerMap", 300)
            first, opened = browser.ask("[kinmerMap.first / 1000, performance.now() / 1000]")
            dragged = browser.ask(FRAMES.replace("DRAG", "true"))
            time.sleep(2)
            zoomed = browser.ask(FRAMES.replace("DRAG", "false"))
            time.sleep(2)
            wanted = ids[points // 3]
            found, seen, name = browser.ask(FOUND.replace("WANTED", wanted))
            if name != wanted:
                raise SystemExit(f"{wanted} is not found")
            print(
                f"| {points:,} | {path.stat().st_size / 1e6:.1f} | {cpu:.1f} | {peak:.1f} | {first:.1f} |"
                f" {opened:.1f} | {dragged:.0f} | {zoomed:.0f} | {found:.0f} | {seen:.0f} |"
                f" {browser.memory() / 1e9:.2f} |",
                flush=True,
            )
            if args.screenshot:
                browser.ask("document.getElementById('whole').click()")
                time.sleep(3)
                browser.picture(args.screenshot)


if __name__ == "__main__":
    main()
