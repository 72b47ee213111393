"""Normalizing flows: densities by change of variables, in all their kinds (thesis 2.2)."""

from gmcourse.flows.autoregressive import InverseAutoregressive, MaskedAutoregressive
from gmcourse.flows.builders import iaf, maf, neural_spline_flow, nice, real_nvp
from gmcourse.flows.builders_free import ffjord, planar_flow, radial_flow, residual_flow, sylvester_flow
from gmcourse.flows.conditional import Conditional
from gmcourse.flows.conditioner import conditioner
from gmcourse.flows.continuous import Continuous
from gmcourse.flows.coupling import Coupling, alternating, channels, checkerboard, random
from gmcourse.flows.dequantise import Dequantise, Logit, VariationalDequantise, bits_per_dim
from gmcourse.flows.elementwise import Additive, Affine, Elementwise, Transformer
from gmcourse.flows.flow import Flow
from gmcourse.flows.glow import glow, image_real_nvp
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.layer import Chain, Layer
from gmcourse.flows.linear import ActNorm, Conv1x1, Householder, LULinear, Permutation, Reverse
from gmcourse.flows.lipschitz import LipschitzMLP
from gmcourse.flows.masked import MaskedMLP
from gmcourse.flows.monotone import MonotoneIntegral, SigmoidSum
from gmcourse.flows.planar import Planar
from gmcourse.flows.radial import Radial
from gmcourse.flows.regularised import Regularised
from gmcourse.flows.residual import Residual
from gmcourse.flows.reverse import ReverseKL, reverse_kl
from gmcourse.flows.spline import RationalQuadratic
from gmcourse.flows.split import Split
from gmcourse.flows.squeeze import Flatten, Squeeze
from gmcourse.flows.sylvester import Sylvester
from gmcourse.flows.velocity import Velocity

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "Chain",
    "Conditional",
    "Continuous",
    "Conv1x1",
    "Coupling",
    "Dequantise",
    "Elementwise",
    "Flatten",
    "Flow",
    "Householder",
    "InverseAutoregressive",
    "Inverted",
    "LULinear",
    "Layer",
    "LipschitzMLP",
    "Logit",
    "MaskedAutoregressive",
    "MaskedMLP",
    "MonotoneIntegral",
    "Permutation",
    "Planar",
    "Radial",
    "RationalQuadratic",
    "Regularised",
    "Residual",
    "Reverse",
    "ReverseKL",
    "SigmoidSum",
    "Split",
    "Squeeze",
    "Sylvester",
    "Transformer",
    "VariationalDequantise",
    "Velocity",
    "alternating",
    "bits_per_dim",
    "channels",
    "checkerboard",
    "conditioner",
    "ffjord",
    "glow",
    "iaf",
    "image_real_nvp",
    "maf",
    "neural_spline_flow",
    "nice",
    "planar_flow",
    "radial_flow",
    "random",
    "real_nvp",
    "residual_flow",
    "reverse_kl",
    "sylvester_flow",
]
