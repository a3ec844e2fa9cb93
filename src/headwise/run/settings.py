"""What a study is: one YAML file, overridden from the command line, checked once, expanded into cells."""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from headwise.benchmarks import BENCHMARKS, default_names, named_sets
from headwise.errors import ConfigError
from headwise.methods import METHODS
from headwise.methods.stages import before_method, check_cell, require_clip
from headwise.models.contract import ImageOptions
from headwise.study import names
from headwise.study.budget import is_share
from headwise.study.cells import LARGEST, LARGEST_SEED, Cell, Geometry
from headwise.system.reading import has_lone_surrogate, read_text

DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,4})?")
# The budget of the unpruned model as a share, where the number of visual tokens differs from image to image.
ALL_TOKENS = 1.0
# The value of an option that means: whatever the configuration file says.
AS_CONFIGURED = "config"

# What the word `all` stands for; token and head counts are those of the published ablation.
ALL: dict[str, tuple[Any, ...]] = {
    "strategy": names.STRATEGIES,
    "controls": names.CONTROLS,
    "tokens": (192, 128, 64),
    "heads": (24, 16, 8),
}


class StudySettings(BaseModel):
    """A study's configuration; each field is a key of the YAML file and an option of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field("embedded", description="checkpoint: embedded, a folder, or a hub name")
    data_dir: str = Field("embedded", description="benchmarks: embedded, or a LLaVA bundle's playground/data/eval")
    ocr: bool = Field(
        True, description="OCR tokens in TextVQA's prompts, as LLaVA-1.5 is asked; false as lmms-eval asks"
    )
    benchmark: list[str] = Field(
        default_factory=lambda: named_sets()["published"],
        min_length=1,
        description="benchmarks to run, or a set of them: published, embedded, llava, vlm, all",
    )
    strategy: list[str] = Field(list(names.STRATEGIES), min_length=1, description="strategies, methods, controls")
    controls: list[str] = Field(["vanilla", "random_tokens"], description="controls run beside the strategies")
    tokens: list[int | float] = Field([192, 128, 64], min_length=1, description="token budgets T; below 1, shares of V")
    heads: list[int | float] = Field([24, 16, 8], min_length=1, description="numbers of chosen heads; below 1, shares")
    query: list[str] = Field(["last_token"], min_length=1, description="attention rows that head strategies read")
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of methods, such as vispruner.important_ratio=0.75"
    )
    clip: str | None = Field(
        None,
        description="folder or hub name of the full CLIP that cdpruner and trim read; a checkpoint may have its own",
    )
    layer: int = Field(2, ge=1, le=LARGEST, description="decoder layer K after which tokens are pruned, from 1")
    budget: Literal["average", "kept", "published"] = Field(
        "average", description="what T counts: mean per layer, kept after the last stage, or as the method publishes"
    )
    score_dtype: Literal["float64", "float32", "float16"] = Field("float64", description="precision of ranking")
    limit: int | None = Field(None, ge=1, le=LARGEST, description="questions of every benchmark, spread evenly, or all")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="seed of the random controls")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="precision of the model")
    device: str = Field("auto", description="device to run on: auto, cpu, cuda, cuda:1")
    compile: bool = Field(
        False, description="compile norms and MLPs by torch, which needs a compiler and may round otherwise"
    )
    max_new_tokens: int = Field(16, ge=1, le=LARGEST, description="longest answer in tokens")
    min_pixels: int | None = Field(None, ge=1, le=LARGEST, description="pixels an image is enlarged to (Qwen)")
    max_pixels: int | None = Field(None, ge=1, le=LARGEST, description="pixels an image is shrunk to (Qwen)")
    max_tiles: int | None = Field(None, ge=1, le=1000, description="tiles an image is cut into at most (InternVL)")

    @field_validator("benchmark", "strategy", "controls", "tokens", "heads", "query", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: Any) -> Any:
        listed = _as_list(str(info.field_name), value)
        if info.field_name == "benchmark" and isinstance(listed, list):
            return _without_sets(listed, str(info.data.get("data_dir")))
        return listed

    @field_validator("limit", mode="before")
    @classmethod
    def _unlimited(cls, value: Any) -> Any:
        return None if value == "all" else value

    @field_validator("benchmark")
    @classmethod
    def _known_benchmarks(cls, value: list[str], info: Any) -> list[str]:
        for name in value:
            if name not in BENCHMARKS:
                allowed = ", ".join([*BENCHMARKS, *named_sets(), "all"])
                raise ValueError(f"{name!r} is not one of {allowed}")
        if not info.data.get("ocr", True):
            value = list(dict.fromkeys(BENCHMARKS[name].without_ocr or name for name in value))
        return value

    @model_validator(mode="after")
    def _answers_fit(self) -> StudySettings:
        for name in self.benchmark:
            if self.max_new_tokens < (least := BENCHMARKS[name].least_new_tokens):
                raise ValueError(
                    f"max_new_tokens: {self.max_new_tokens} would cut the answers to {name} short, which would be "
                    f"scored wrong; it needs at least {least}"
                )
        return self

    @field_validator("strategy")
    @classmethod
    def _known_strategies(cls, value: list[str]) -> list[str]:
        known = [*names.STRATEGIES, *names.CONTROLS]
        if any(name not in known for name in value):
            known += METHODS
        for name in value:
            if name not in known:
                raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return value

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, value: list[str]) -> list[str]:
        known = [*names.CONTROLS]
        if any(name not in known for name in value):
            known += [name for name, method in METHODS.items() if method.role == "control"]
        for name in value:
            if name not in known:
                raise ValueError(f"{name!r} is not one of {', '.join(known)}, none")
        return value

    @field_validator("query")
    @classmethod
    def _known_queries(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in names.QUERIES:
                raise ValueError(f"{name!r} is not one of {', '.join(names.QUERIES)}")
        return value

    @field_validator("options", mode="before")
    @classmethod
    def _options_by_method(cls, value: Any) -> Any:
        return parse_options(value) if isinstance(value, str) else value

    @field_validator("options")
    @classmethod
    def _known_options(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, given in value.items():
            if name not in METHODS:
                raise ValueError(f"{name!r} is not a method; those that have options are {_with_options()}")
            try:
                METHODS[name].options(**given)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not DEVICE.fullmatch(value):
            raise ValueError(f"{value!r} is not auto, cpu, cuda or cuda:NUMBER")
        return value

    @field_validator("tokens", "heads")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        for number in value:
            if not number > 0:
                raise ValueError(f"{number} is not a positive number")
            if number > LARGEST:
                raise ValueError(f"{number} is larger than {LARGEST}")
            if not is_share(number) and number != int(number):
                raise ValueError(f"{number} is neither a whole number nor a share below 1")
        return [number if is_share(number) else int(number) for number in value]

    @field_validator("model", "data_dir", "device", "clip")
    @classmethod
    def _writable(cls, value: str | None) -> str | None:
        if value is not None and has_lone_surrogate(value):
            raise ValueError(f"{value!r} is not Unicode text, so it cannot be written to any file")
        return value

    def cells(self, geometry: Geometry) -> list[Cell]:
        """The grid for a checkpoint of this geometry, controls first, nothing twice.

        Raises ConfigError where a budget cannot be met or more heads are asked for than there are.
        """
        ordered = list(dict.fromkeys([*self.controls, *self.strategy]))
        cells = [cell for name in ordered for cell in self._cells_of(name, geometry)]
        for cell in cells:
            check_cell(cell, geometry)
            method = before_method(cell.strategy)
            if method is not None and method.text_encoder.startswith("clip"):
                require_clip(cell.strategy, cell.clip)
        return cells

    @property
    def image_limits(self) -> ImageOptions:
        """How large images are seen."""
        return ImageOptions(min_pixels=self.min_pixels, max_pixels=self.max_pixels, max_tiles=self.max_tiles)

    def _cells_of(self, strategy: str, geometry: Geometry) -> Iterable[Cell]:
        tokens = (
            self.tokens
            if names.needs_tokens(strategy)
            else [ALL_TOKENS if geometry.visual is None else geometry.visual]
        )
        heads = self.heads if names.needs_heads(strategy) else [geometry.heads if strategy == "all_heads" else 0]
        queries = self.query if names.reads_query(strategy) else ["last_token"]
        options = self._options_of(strategy)
        for count, number, query in product(dict.fromkeys(tokens), dict.fromkeys(heads), dict.fromkeys(queries)):
            yield Cell(
                strategy=strategy,
                tokens=count,
                heads=number,
                layer=self.layer,
                budget=self.budget,
                score_dtype=self.score_dtype,
                # What draws nothing is one cell under every seed, and answered once.
                seed=self.seed if names.needs_seed(strategy) else 0,
                query=query,
                options=options,
            )

    def _options_of(self, strategy: str) -> tuple[tuple[str, Any], ...]:
        """The method's options that are not its defaults, by name: what is a default says nothing."""
        if strategy in names.STRATEGIES + names.CONTROLS:
            return ()
        kind = METHODS[strategy].options_type
        given = self.options.get(strategy, {})
        clip = self.clip or _own_clip(self.model)
        if clip is not None and "clip" in {field.name for field in fields(kind)}:
            given = {"clip": clip, **given}
        chosen, default = asdict(METHODS[strategy].options(**given)), asdict(kind())
        return tuple((name, value) for name, value in sorted(chosen.items()) if value != default[name])


def load_settings(path: str | Path | None, overrides: Mapping[str, Any]) -> StudySettings:
    """The study of a YAML file (none: the defaults) with overrides that are not None or the word `config`.

    Raises ConfigError in one line naming the field, the value and what is allowed.
    """
    settings = _read_yaml(Path(path)) if path else {}
    given = {name: value for name, value in overrides.items() if value is not None and value != AS_CONFIGURED}
    if isinstance(given.get("options"), str) and isinstance(settings.get("options"), dict):
        given["options"] = _joined(settings["options"], parse_options(given["options"]))
    try:
        return StudySettings.model_validate({**settings, **given})
    except ValidationError as error:
        raise ConfigError(_one_line(error, path)) from error


def parse_options(text: str) -> dict[str, dict[str, Any]]:
    """`vispruner.important_ratio=0.75,pool.grid=12x16` by method; ConfigError for what is no such text."""
    found: dict[str, dict[str, Any]] = {}
    for part in re.split(r",(?=\s*[^\s,.=]+\.[^\s,.=]+=)", text) if text.strip() else ():
        where, joined, value = part.strip().partition("=")
        method, dot, option = where.partition(".")
        if not (joined and dot and method and option and value):
            raise ConfigError(
                f"options: {part.strip()!r} is not METHOD.OPTION=VALUE, as vispruner.important_ratio=0.75"
            )
        found.setdefault(method, {})[option] = _option_value(value.strip())
    return found


def _own_clip(model: str) -> str | None:
    """The CLIP that a checkpoint brings: the embedded model's, or a folder `clip` in the model's folder."""
    if model == "embedded":
        return model
    own = Path(model) / "clip"
    return str(own) if os.path.isfile(own / "config.json") else None  # False for a name that no file can have


def _option_value(text: str) -> Any:
    """A number, true or false, or a list as JSON; 12x16 is two numbers; anything else is text."""
    if re.fullmatch(r"\d+(x\d+)+", text):
        return [int(part) for part in text.split("x")]
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false", "null") else text)
    except ValueError:
        return text


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Options of both, those of `second` where both name one."""
    return {
        name: {**(first.get(name) or {}), **second.get(name, {})}
        if isinstance(first.get(name, {}), dict)
        else first[name]
        for name in {**first, **second}
    }


def _with_options() -> str:
    return ", ".join(name for name, method in METHODS.items() if fields(method.options_type))


def _as_list(field: str, value: Any) -> Any:
    """Comma-separated text becomes a list, `all` the whole list, `none` an empty one."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(value, int | float):
        value = [value]
    if value == ["all"] and field in ALL:
        return list(ALL[field])
    if value == ["none"]:
        return []
    return value


def _without_sets(given: list[Any], data_dir: str) -> list[Any]:
    """The benchmarks that are named, or that a named set holds, each once.

    `all` are the embedded ones where data_dir is `embedded`, else all that there are under their default rules.
    """
    sets = named_sets()
    sets["all"] = sets["embedded"] if data_dir == "embedded" else default_names()
    parts = [sets.get(each, [each]) if isinstance(each, str) else [str(each)] for each in given]
    return list(dict.fromkeys(name for part in parts for name in part))


def _read_yaml(path: Path) -> dict[str, Any]:
    text = read_text(path, ConfigError)
    try:
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise ConfigError(f"config: {path} is not usable YAML (nested too deeply)") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or a date that Python cannot convert
        raise ConfigError(f"config: {path} is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config: {path} must hold a mapping of settings, one per line, such as `layer: 2`")
    if any(not isinstance(name, str) for name in content):
        allowed = ", ".join(StudySettings.model_fields)
        raise ConfigError(f"config: {path} has a setting whose name is no text; allowed are {allowed}")
    return content


def _shown(value: Any) -> str:
    """The value as Python writes it, cut short where it is long or deep."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    return short.repr(value)


def _one_line(error: ValidationError, path: str | Path | None) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][:1]) or "study"
    where = f" (in {path})" if path else ""
    if first["type"] == "extra_forbidden":
        return f"{field}: unknown setting{where}; allowed are {', '.join(StudySettings.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    value = "" if first["type"] == "value_error" else f"{_shown(first['input'])} does not fit: "
    return f"{field}: {value}{message[0].lower() + message[1:]}{where}"
