"""Settings of the package, from ``THERMAL_FLOWS_*`` variables and ``~/.thermal_flows.yaml``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from yaml import YAMLError

CONFIG_FILE = "THERMAL_FLOWS_CONFIG_FILE"
"""Variable that names another settings file."""

DEFAULT_FILE = "~/.thermal_flows.yaml"


class Settings(BaseSettings):
    """What can be set; unknown keys are refused.

    Settings of jobflow (``JOBFLOW_*``) and atomate2 (``ATOMATE2_*``) are theirs and not copied here.
    """

    model_config = SettingsConfigDict(env_prefix="THERMAL_FLOWS_", extra="forbid")

    database: str | None = Field(
        default=None, description="Database file that ThermalDatabase() and the command line open by default."
    )
    data: Path | None = Field(
        default=None, description="Folder of public reference data sets, for benchmarks and reproduction."
    )
    n_workers: int | None = Field(
        default=None, ge=1, description="Threads of the transmission solver; all cores by default."
    )
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="Where machine-learned potentials run: cpu, cuda or cuda:1.",
    )
    potential_threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads of machine-learned potentials on the CPU; OMP_NUM_THREADS, or all cores, by default.",
    )
    config_file: Path | None = Field(default=None, description="Path of the settings file in use.")

    @property
    def calculator_options(self) -> dict[str, Any]:
        """Arguments of :meth:`thermal_flows.potentials.Potential.calculator`."""
        return {"device": self.device, "n_threads": self.potential_threads}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before variables before the settings file."""
        del dotenv_settings, file_secret_settings
        path = Path(os.environ.get(CONFIG_FILE, DEFAULT_FILE)).expanduser()
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)


def settings() -> Settings:
    """The settings now in force.

    Raises
    ------
    pydantic.ValidationError
        If a key of the file is unknown or a value does not fit, with the key's name.
    ValueError
        If a ``THERMAL_FLOWS_*`` variable is not a setting, or the settings file named by one is missing or not a list of
        ``key: value``.
    """
    known = {f"THERMAL_FLOWS_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("THERMAL_FLOWS_") and name not in known and not name.startswith("THERMAL_FLOWS_TEST_")
    )
    if unknown:
        raise ValueError(
            f"unknown settings in the environment: {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    named = os.environ.get(CONFIG_FILE)
    if named is not None and not Path(named).expanduser().is_file():
        raise ValueError(f"{CONFIG_FILE} names {named!r}, which is not a file: correct it, or unset the variable")
    try:
        return Settings()
    except ValidationError:
        raise
    except (YAMLError, ValueError, TypeError) as error:
        path = named or DEFAULT_FILE
        raise ValueError(f"the settings file {path} must hold lines of the form 'key: value': {error}") from error
