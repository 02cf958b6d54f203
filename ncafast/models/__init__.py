"""Published NCA models as drop-ins: the original's constructor, state_dict keys, layout of the input and result.

The parameters live in the same torch modules as in the original; the steps run as one `ncafast.rollout`. CascadeNCA
runs any of the automata, or an NCA, at several scales.
"""

from ncafast.models.basicnca import BackboneNCA, BasicNCA
from ncafast.models.basicnca3d import BasicNCA3D
from ncafast.models.cascadenca import CascadeNCA
from ncafast.models.cells2pixels import Cells2PixelsNCA
from ncafast.models.dynca import DyNCA
from ncafast.models.growing import GrowingNCA
from ncafast.models.m3dnca import M3DNCA
from ncafast.models.maxnca import MaxNCA, WBCMaxNCA
from ncafast.models.mednca import MedNCA
from ncafast.models.nca2d import NCA2D
from ncafast.models.noisenca import PENCA, NoiseNCA, VanillaNCA
from ncafast.models.octree import OctreeNCA
from ncafast.models.octreefast import BasicNCA2DFast, BasicNCA3DFast
from ncafast.models.selfclassify import SelfClassifyingNCA
from ncafast.models.texture import TextureNCA

__all__ = [
    "BackboneNCA",
    "BasicNCA",
    "BasicNCA2DFast",
    "BasicNCA3D",
    "BasicNCA3DFast",
    "CascadeNCA",
    "Cells2PixelsNCA",
    "DyNCA",
    "GrowingNCA",
    "M3DNCA",
    "MaxNCA",
    "MedNCA",
    "NCA2D",
    "NoiseNCA",
    "OctreeNCA",
    "PENCA",
    "SelfClassifyingNCA",
    "TextureNCA",
    "VanillaNCA",
    "WBCMaxNCA",
]
