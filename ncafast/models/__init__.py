"""Published NCA models as drop-ins: the original's constructor, state_dict keys, layout of the input and result.

The parameters live in the same torch modules as in the original; the steps run as one `ncafast.rollout`.
"""

from ncafast.models.basicnca3d import BasicNCA3D
from ncafast.models.growing import GrowingNCA
from ncafast.models.m3dnca import M3DNCA
from ncafast.models.maxnca import MaxNCA
from ncafast.models.mednca import MedNCA
from ncafast.models.nca2d import NCA2D
from ncafast.models.selfclassify import SelfClassifyingNCA
from ncafast.models.texture import TextureNCA

__all__ = [
    "BasicNCA3D",
    "GrowingNCA",
    "M3DNCA",
    "MaxNCA",
    "MedNCA",
    "NCA2D",
    "SelfClassifyingNCA",
    "TextureNCA",
]
