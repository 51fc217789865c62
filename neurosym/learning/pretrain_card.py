"""The model card of a pretrained backbone: what it was made from and how, what it reached, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping

from neurosym.data.film_sources import FilmSource
from neurosym.learning.pretrain_config import PretrainConfig

_SHOWN = {
    "loss": "loss of the last step",
    "rank": "effective rank of the embeddings (RankMe)",
    "features_rank": "effective rank of the features",
    "std": "spread of the embeddings (1: even on the sphere)",
    "used": "share of the prototypes in use",
    "entropy": "entropy of the assignments, as a share of the greatest",
    "probe_knn": "accuracy by nearest neighbours on held-out labelled films",
    "probe_linear": "accuracy of a linear model on held-out labelled films",
}


def model_card(config: PretrainConfig, step: int, pool: tuple[int, int, int], last: Mapping[str, float]) -> str:
    """Markdown; `pool` is how many films it had, how many were excluded and how many could not be read."""
    films, excluded, unreadable = pool
    start = config.weights or ("ImageNet" if config.pretrained and config.backbone == "lite0" else "random")
    figures = [f"| {words} | {last[key]:.4g} |" for key, words in _SHOWN.items() if key in last]
    norms = (
        f"statistics of batch normalisation measured on {config.export.films} whole films of {config.export.size} px"
    )
    return "\n".join(
        [
            f"# {config.name}: weights of a {config.backbone} backbone",
            "",
            f"Pretrained without labels by `{config.method}` for {step} steps of {config.train.batch_size} films, from {start} "
            f"weights, seed {config.seed}; {norms if config.export.films else 'running statistics of crops'}.",
            "All settings are in `config.yaml`.",
            "",
            "Use them in a training config:",
            "",
            "```yaml",
            "model:",
            f"  backbone: {config.backbone}",
            "  weights: PATH/backbone.safetensors  # relative to the config file",
            "```",
            "",
            "## Films",
            "",
            f"{films} films; {excluded} others were excluded by their content, {unreadable} could not be read. Sources:",
            "",
            *[f"- {_told(s)}" for s in config.images],
            *(["", "Excluded:", "", *[f"- {_told(s)}" for s in config.exclude]] if config.exclude else []),
            *(["", f"and the held-out patients of {config.probe.table}."] if config.probe else []),
            "",
            "## Figures at the end",
            "",
            "| | |",
            "|---|---|",
            *figures,
            "",
            "## Limits",
            "",
            "Features are as narrow as the films: a backbone that saw one hospital, age or device may serve others badly. "
            "Copies of a held-out film that were scaled, cropped or compressed anew are not recognised. The films' licences "
            "and terms of use hold for what was learned from them as far as the law says so. Not a medical device.",
            "",
        ]
    )


def _told(source: FilmSource) -> str:
    if source.phantom is not None:
        return f"phantom films {source.phantom.start} to {source.phantom.start + source.phantom.count - 1}"
    values = (source.folder, source.annotations, source.split, source.table)
    return next(v for v in values if v) + (f", the first {source.limit}" if source.limit else "")
