"""models: which models exist, where they come from, and the store they lie in.

Main path: :func:`parse_reference` -> :func:`pull` -> :class:`ModelFiles`.
Invariants: a model is in the store whole and checked, or not at all; names and digests become paths in one place, and
nothing leaves the store's root; the home folder is an argument, the environment is never read.
"""

from madang.models.catalog import load_catalog, parse_reference, read_catalog
from madang.models.deriving import adopt, copy_model, derive, make_folder_model, make_model
from madang.models.endpoints import EndpointReference, read_endpoint
from madang.models.entry import Catalog, CatalogEntry, License, Prefixes, Shape
from madang.models.fetching import Progress, SilentProgress
from madang.models.files import ModelFiles, ModelFormat
from madang.models.importing import import_model
from madang.models.manifest import Manifest, ManifestFile
from madang.models.neighbours import Folder, FoundModel, Neighbour, find_neighbours
from madang.models.preset import Preset
from madang.models.pulling import Sources, pull, sources_of
from madang.models.references import (
    FileReference,
    HubReference,
    NameReference,
    OllamaReference,
    PackageReference,
    Reference,
    StoredReference,
    UrlReference,
)
from madang.models.sources.datasets import dataset_errors, dataset_files, fetch_dataset_file
from madang.models.store import Store

__all__ = [
    "Catalog",
    "CatalogEntry",
    "EndpointReference",
    "FileReference",
    "Folder",
    "FoundModel",
    "HubReference",
    "License",
    "Manifest",
    "ManifestFile",
    "ModelFiles",
    "ModelFormat",
    "NameReference",
    "Neighbour",
    "OllamaReference",
    "PackageReference",
    "Prefixes",
    "Preset",
    "Progress",
    "Reference",
    "Shape",
    "SilentProgress",
    "Sources",
    "Store",
    "StoredReference",
    "UrlReference",
    "adopt",
    "copy_model",
    "dataset_errors",
    "dataset_files",
    "derive",
    "fetch_dataset_file",
    "find_neighbours",
    "import_model",
    "load_catalog",
    "make_folder_model",
    "make_model",
    "parse_reference",
    "pull",
    "read_catalog",
    "read_endpoint",
    "sources_of",
]
