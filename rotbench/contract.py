"""What a class must have to be a plugin of its kind, and what it may have."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Literal

from rotbench.options import field_names

Kind = Literal["pretext task", "init", "freeze policy", "dataset"]

HOOKS: Mapping[Kind, str] = {
    "pretext task": "register_pretext_tasks",
    "init": "register_inits",
    "freeze policy": "register_freeze_policies",
    "dataset": "register_datasets",
}

#: The methods that a class of each kind must have, with the positional arguments that they are called with and the
#: keyword arguments that they may name.
METHODS: Mapping[Kind, Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "pretext task": {
        "head": (("features",), ("classes", "map_size", "view_size")),
        "make_batch": (("images", "generator"), ("labels", "index")),
    },
    "init": {"apply": (("model", "context"), ())},
    "freeze policy": {"trainable": (("parameter", "epoch", "epochs"), ())},
    "dataset": {"fingerprint": (("root",), ()), "load": (("root", "split"), ())},
}


#: The same for methods that a class may have; one that is there must be callable in this way.
OPTIONAL_METHODS: Mapping[Kind, Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "pretext task": {
        "evaluation_batches": (("images", "generator"), ("labels", "index")),
        "relabel": (("labels", "generator"), ()),
        "loss": (("outputs", "targets"), ()),
        "score": (("outputs", "targets"), ()),
        "chance": ((), ("examples", "classes")),
        "pictures": (("views", "outputs", "targets"), ()),
        "notice": ((), ("epochs", "batch_size", "model_name", "stem")),
    },
    "init": {
        "problem": ((), ("model_name", "stem")),
        "prepare": (("folder",), ("model_name", "stem")),
        "fingerprint": (("folder",), ()),
    },
    "freeze policy": {"restart": (("epoch", "epochs"), ())},
    "dataset": {"prepare": (("root",), ())},
}

#: What a class may say of itself beside its methods and its options.
ATTRIBUTES: Mapping[Kind, tuple[str, ...]] = {
    "pretext task": ("name", "takes", "augments", "uses_labels", "score_name", "cite"),
    "init": ("name", "exact", "pretext", "cite"),
    "freeze policy": ("name", "batchnorm", "cite"),
    "dataset": ("name", "size", "classes", "images_per_class", "augment", "notice", "cite"),
}


def problem(kind: Kind, cls: type) -> str:
    """What keeps a class from being a plugin of its kind, or ""."""
    if not isinstance(getattr(cls, "name", None), str):
        return "needs a name: ClassVar[str]"
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        return "should be a frozen dataclass: @dataclass(frozen=True)"
    if not (cls.__doc__ or "").strip() or (cls.__doc__ or "").startswith(f"{cls.__name__}("):
        return "needs a docstring; its first line is shown in the report"
    for method, (positional, offered) in {**METHODS[kind], **OPTIONAL_METHODS[kind]}.items():
        function = getattr(cls, method, None)
        if function is None and method in OPTIONAL_METHODS[kind]:
            continue
        written = inspect.getattr_static(cls, method, None)
        if isinstance(written, property):
            continue
        if not callable(function):
            return f"needs a method {method}({', '.join(('self', *positional))})"
        if not inspect.isfunction(written):  # static, of the class, or an object: what it takes shows when it is called
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
            required = {p.name for p in parameters if p.default is p.empty}
            inspect.signature(function).bind(None, *positional, **dict.fromkeys(required & set(offered)))
        except TypeError:
            spelled = ", ".join(("self", *positional, *(["*", *offered] if offered else [])))
            return f"{method} should take ({spelled}), takes ({', '.join(inspect.signature(function).parameters)})"
    if kind == "freeze policy" and "batchnorm" not in field_names(cls):
        return 'needs an option batchnorm: Literal["eval", "train", "calibrated"], or some of these'
    return ""
