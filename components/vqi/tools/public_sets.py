"""Public sets of photographs for anomaly detection: where each is, under which licence, and what it is known by.

Addresses are those that the publishers' pages lead to, SHA-256 those that others verified and made public; a set whose
publisher asks for a form or a browser has no address, and one without a public SHA-256 is not compared with any.
"""

from __future__ import annotations

from dataclasses import dataclass

from vqi.platform.errors import BadInput, closest

_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/)"


@dataclass(frozen=True)
class PublicSet:
    """`file` is the archive's name, `address` where it is ("" = only `page` leads there), `sha256` "" where none is
    public; `licence` is what the publisher's page states, to be read there."""

    name: str
    title: str
    licence: str
    page: str
    file: str
    address: str = ""
    sha256: str = ""


_SETS = (
    PublicSet(
        "mvtec-ad",
        "MVTec AD, 15 categories",
        _NON_COMMERCIAL,
        "https://www.mvtec.com/company/research/datasets/mvtec-ad",
        "mvtec_anomaly_detection.tar.xz",
        "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/"
        "mvtec_anomaly_detection.tar.xz",
        "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    ),
    PublicSet(
        "mvtec-ad-2",
        "MVTec AD 2, 8 categories",
        _NON_COMMERCIAL,
        "https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
        "mvtec_ad_2.tar.gz",
        "https://www.mydrive.ch/shares/121573/7f68fe2c4f7c2ceaa08f463aaeb2f414/download/466712769-1743422799/"
        "mvtec_ad_2.tar.gz",
        "c0ded99ef32bfc8e352d52beb44515e5b292b8598cb963aadfa91ca0763505e4",
    ),
    PublicSet(
        "mvtec-loco",
        "MVTec LOCO AD, 5 categories",
        _NON_COMMERCIAL,
        "https://www.mvtec.com/company/research/datasets/mvtec-loco",
        "mvtec_loco_anomaly_detection.tar.xz",
        "https://www.mydrive.ch/shares/48237/1b9106ccdfbb09a0c414bd49fe44a14a/download/430647091-1646842701/"
        "mvtec_loco_anomaly_detection.tar.xz",
        "9e7c84dba550fd2e59d8e9e231c929c45ba737b6b6a6d3814100f54d63aae687",
    ),
    PublicSet(
        "mvtec-3d",
        "MVTec 3D-AD, 10 categories",
        _NON_COMMERCIAL,
        "https://www.mvtec.com/company/research/datasets/mvtec-3d-ad",
        "mvtec_3d_anomaly_detection.tar.xz",
        "https://www.mydrive.ch/shares/45920/dd1eb345346df066c63b5c95676b961b/download/428824485-1643285832/"
        "mvtec_3d_anomaly_detection.tar.xz",
    ),
    PublicSet(
        "visa",
        "VisA, 12 categories",
        "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
        "https://github.com/amazon-science/spot-diff",
        "VisA_20220922.tar",
        "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    ),
    PublicSet(
        "btad",
        "BTAD, 3 categories",
        _NON_COMMERCIAL,
        "https://avires.dimi.uniud.it/papers/btad/",
        "btad.zip",
        "https://avires.dimi.uniud.it/papers/btad/btad.zip",
        "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    ),
    PublicSet(
        "kolektor-sdd",
        "KolektorSDD, commutators",
        _NON_COMMERCIAL,
        "https://www.vicos.si/resources/kolektorsdd/",
        "KolektorSDD.zip",
        "https://go.vicos.si/kolektorsdd",
        "65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
    ),
    PublicSet(
        "mpdd",
        "MPDD, 6 categories of painted metal parts",
        "as its page states",
        "https://github.com/stepanje/MPDD",
        "MPDD.zip",
    ),
    PublicSet(
        "kolektor-sdd2",
        "KolektorSDD2, surfaces",
        "as its page states",
        "https://www.vicos.si/resources/kolektorsdd2/",
        "KolektorSDD2.zip",
    ),
)
PUBLIC_SETS = {public.name: public for public in _SETS}


def public_set(name: str) -> PublicSet:
    """The set of a name. Raises BadInput for an unknown one."""
    if name not in PUBLIC_SETS:
        raise BadInput(f"{name!r} is not a set that is known here.{closest(name, list(PUBLIC_SETS))}")
    return PUBLIC_SETS[name]
