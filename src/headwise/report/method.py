"""What the page says about its own numbers; docs/statistics.md has the reasons."""

METHOD = (
    "Intervals: 95 %, from how the score varies between images, because questions about one image share its "
    "difficulty; MME's images vary within each category. Scores have Clopper-Pearson intervals at the effective number "
    "of questions, differences t intervals of paired differences. A single image gives no interval.",
    "Best set: the pruned configurations that are not significantly worse than the best one, simultaneous over all of "
    "them (step-down maximum over sign flips by image). It contains every truly best configuration in at least 95 % of "
    "studies. Inside it, do not read the order as a ranking. Below 6 images nothing can be told apart.",
    "p vanilla: answers of the two configurations are swapped image by image at random (9,999 times) and the score is "
    "recomputed; Holm's correction covers all configurations of the table.",
    "Percent of vanilla puts benchmarks on one scale; the mean over benchmarks weighs them equally. Where a model was "
    "not run unpruned, the best pruned configuration takes vanilla's place, and the unit says so.",
    "A configuration with failed or missing answers is left out unless it was asked for.",
)
