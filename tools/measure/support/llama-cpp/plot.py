"""The ratios as bars, with their spread."""

import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def draw(title, ratios, folder):
    names = list(ratios)
    medians = [statistics.median(ratios[name]) for name in names]
    below = [median - min(ratios[name]) for median, name in zip(medians, names)]
    above = [max(ratios[name]) - median for median, name in zip(medians, names)]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.35 * len(names)))
    axes.barh(names, medians, xerr=[below, above], color="#4477aa", ecolor="#222222", capsize=3)
    axes.axvline(1, color="#888888", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast (or as small) as llama.cpp")
    axes.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / "plot.png", dpi=120)
