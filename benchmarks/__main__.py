"""Run the benchmarks: `python -m benchmarks [NAME…] [--json]`. NAME is that of a file, `xds` for `bench_xds.py`."""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import timeit
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Result:
    """Microseconds of one call: median and best of the rounds."""

    name: str
    microseconds: float
    best: float

    def __str__(self) -> str:
        return f"{self.name:<46}{self.microseconds:>12.1f} µs{self.best:>12.1f} µs{1e6 / self.microseconds:>12.0f} /s"


def cases(names: list[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name and callable of every case in the files asked for; all files when none is."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    if unknown := set(names) - set(known):
        raise SystemExit(f"No benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    for file in names or known:
        module = importlib.import_module(f"benchmarks.bench_{file}")
        if hasattr(module, "cases"):
            yield from ((f"{file}: {name}", call) for name, call in module.cases())


def reports(names: list[str]) -> Iterator[str]:
    """Lines of the files that tell their figures themselves."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    for file in names or known:
        module = importlib.import_module(f"benchmarks.bench_{file}")
        if hasattr(module, "report"):
            yield from module.report()


def measure(name: str, call: Callable[[], object]) -> Result:
    """Time a call: as many loops as take 0.2 s, the first of them to warm up, then ROUNDS times over."""
    timer = timeit.Timer(call)
    loops, _ = timer.autorange()
    times = [seconds / loops * 1e6 for seconds in timer.repeat(ROUNDS, loops)]
    return Result(name, statistics.median(times), min(times))


def main() -> None:
    """Print a line a case, median, best and calls a second; or one JSON list."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Benchmarks of Volet.")
    parser.add_argument("names", nargs="*", help="file names without bench_; all when none is given")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")
    options = parser.parse_args()
    results: list[Result] = []
    for name, call in cases(options.names):
        results.append(measure(name, call))
        if not options.json:
            print(results[-1], flush=True)
    for line in () if options.json else reports(options.names):
        print(line, flush=True)
    if options.json:
        print(json.dumps([asdict(result) for result in results]))


if __name__ == "__main__":
    main()
