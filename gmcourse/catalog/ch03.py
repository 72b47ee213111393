"""The systems of chapter 3, normalizing flows."""

from gmcourse.catalog.row import Row

ROWS = (
    Row("coupling-flow", "NICE, RealNVP", "thesis 2.2.2; slides 6", 3, interactive=True),
    Row("glow", "ActNorm, 1×1 convolution, multi-scale", "thesis 2.2.2, (2.30)", 3),
    Row("linear-flow", "Permutations, LU, Householder", "slides, classes of flows", 3),
    Row("planar-radial", "Planar and radial flows", "slides 7, 10", 3, interactive=True),
    Row("sylvester-flow", "Sylvester flows", "slides 8–9", 3),
    Row("autoregressive-flow", "MADE, MAF, IAF", "slides 11–13", 3),
    Row("spline-flow", "Rational-quadratic spline transformers", "slides, transformers", 3),
    Row("monotonic-flow", "Neural / integration-based monotone transformers", "slides, transformers", 3),
    Row("residual-flow", "i-ResNet, power series, Russian roulette", "slides 14–16; thesis 2.2.4", 3),
    Row("continuous-flow", "CNF/FFJORD, Hutchinson", "slides 17; thesis 5.3", 3, interactive=True),
    Row("reverse-kl", "Training by reverse KL", "thesis (2.25)", 3),
)
