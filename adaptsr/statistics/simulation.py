"""Count by simulation how often an interval covers the truth and a family of tests errs: `python -m adaptsr.statistics.simulation`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import special

from adaptsr.statistics.comparison import ALPHA
from adaptsr.statistics.pairing import Floats
from adaptsr.statistics.uncertainty import over_seeds_and_scenes

Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
EFFECTS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed": lambda random, shape: random.exponential(size=shape) - 1,
}
"""Scene effects of mean 0 and standard deviation 1."""


class Setting(NamedTuple):
    """Differences to simulate: standard deviations of seed effects, scene effects and the rest, and their numbers.

    images: of each scene; default: one.
    """

    seed_sd: float
    scene_sd: float
    rest_sd: float
    seeds: int = 5
    scenes: int = 8
    images: tuple[int, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The scene of each image."""
        images = self.images or (1,) * self.scenes
        return tuple(str(scene) for scene, count in enumerate(images) for _ in range(count))

    @property
    def variances(self) -> tuple[float, float]:
        """Those of a seed mean and of a scene mean, each over the number of them."""
        rest = self.rest_sd**2 / (self.seeds * self.scenes)
        return self.seed_sd**2 / self.seeds + rest, self.scene_sd**2 / self.scenes + rest

    def draw(self, random: np.random.Generator, effects: str, tests: int = 1) -> Floats:
        """Draw differences of true mean 0, (tests, seeds, images).

        Tests of one family share half of the variance of every effect, as rows do that are compared with one row.
        """

        def shared(draw: Draw, *shape: int) -> Floats:
            own = draw(random, (tests, *shape))
            return own if tests == 1 else np.asarray((draw(random, (1, *shape)) + own) / np.sqrt(2))

        normal = EFFECTS["normal"]
        seed, scene = shared(normal, self.seeds, 1), shared(EFFECTS[effects], 1, self.scenes)
        if self.images:
            scene = scene.repeat(self.images, axis=-1)
        rest = shared(normal, self.seeds, len(self.names))
        return np.asarray(self.seed_sd * seed + self.scene_sd * scene + self.rest_sd * rest)


SETTINGS = {
    "scenes": (0.1, 1.0, 0.3),
    "seeds": (1.0, 0.1, 0.3),
    "both alike": (1.0, 1.0, 0.3),
    "the rest": (0.3, 0.3, 1.0),
}
"""Standard deviations of seeds, scenes and the rest, by what dominates."""


def coverage(setting: Setting, effects: str, samples: int, seed: int = 0) -> float:
    """Return the share of samples whose 95% interval over seeds and scenes covers the true mean."""
    random = np.random.default_rng(seed)
    drawn = (setting.draw(random, effects)[0] for _ in range(samples))
    return float(np.mean([abs(d.mean()) <= over_seeds_and_scenes(d, setting.names).half_width(ALPHA) for d in drawn]))


def false_alarms(setting: Setting, effects: str, tests: int, samples: int, seed: int = 0) -> float:
    """Return the share of samples in which a family of so many true nulls has any p below 5% after Holm's correction.

    That is so where the smallest p is below 5% divided by the number of tests.
    """
    random = np.random.default_rng(seed)
    names = setting.names
    families = (setting.draw(random, effects, tests) for _ in range(samples))
    level = ALPHA / tests
    alarms = (any(over_seeds_and_scenes(d, names).half_width(level) < abs(d.mean()) for d in f) for f in families)
    return float(np.mean(list(alarms)))


def satterthwaite_p(differences: Floats) -> float:
    """Return the p of the usual two-way random-effects t test, (seeds, scenes), to compare with."""
    seeds, scenes = differences.shape
    by_seed, by_scene, mean = differences.mean(axis=1), differences.mean(axis=0), differences.mean()
    rest = differences - by_seed[:, None] - by_scene + mean
    degrees = np.array([seeds - 1, scenes - 1, (seeds - 1) * (scenes - 1)])
    squares = np.array([scenes * by_seed.var(ddof=1), seeds * by_scene.var(ddof=1), (rest**2).sum() / degrees[2]])
    used = np.array([squares[0] > squares[2], squares[1] > squares[2], True])  # variances are not negative
    weights = np.array([1.0, 1.0, 1.0 - used[:2].sum()])
    variance = float((squares * weights * used).sum())
    effective = variance**2 / float((squares**2 * used / degrees).sum())
    return float(2 * special.stdtr(effective, -abs(mean) / np.sqrt(variance / (seeds * scenes))))


UNEQUAL = ((4, 2, 2, 2, 2, 2, 1, 1), (10, *[1] * 20), (10, *[2] * 29))
"""Images of scenes that weigh as 6.7, 7.5 and 21.4 scenes of one size."""


def table(samples: int = 4000, tests: int = 44) -> Iterator[str]:
    """Yield the lines of a Markdown table: coverage, and the share of families with a false alarm."""
    yield f"| Dominated by | scenes | effects | coverage of the 95% interval | false alarm in {tests} tests | the same by Satterthwaite |"
    yield "|:--|--:|:--|--:|--:|--:|"
    for dominant, sds in SETTINGS.items():
        for scenes in (6, 8, 30):
            for effects in EFFECTS:
                setting = Setting(*sds, scenes=scenes)
                alarms = false_alarms(setting, effects, tests, samples // 4)
                random = np.random.default_rng(0)
                families = (setting.draw(random, effects, tests) for _ in range(samples // 4))
                share = np.mean([min(map(satterthwaite_p, family)) < ALPHA / tests for family in families])
                yield f"| {dominant} | {scenes} | {effects} | {coverage(setting, effects, samples):.3f} | {alarms:.3f} | {share:.3f} |"
    for dominant, sds in SETTINGS.items():
        for images in UNEQUAL:
            setting = Setting(*sds, scenes=len(images), images=images)
            alarms = false_alarms(setting, "normal", tests, samples // 4)
            sizes = f"{len(images)} of {max(images)} to {min(images)} images"
            yield f"| {dominant} | {sizes} | normal | {coverage(setting, 'normal', samples):.3f} | {alarms:.3f} | |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
